"""TRL's GRPOTrainer with what our runs need around rollouts: a log of them, dynamic sampling, exact resumption."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from safetensors.torch import load_model, save_model
from trl import GRPOConfig

from tasks.core.completions_log import CompletionsLog
from tasks.core.dynamic_sampling import (
    average_rounds,
    groups_with_signal,
    join_rows,
    num_refills,
    refill_order,
    used_groups,
)
from tasks.core.errors import UserError
from tasks.core.generation import Generation
from tasks.core.resume import ResumableGRPOTrainer

REFERENCE = "reference.safetensors"  # in a checkpoint: the reference model that moved since the training began
TOTAL = "dynamic_sampling/total_completions"


class RolloutTrainer(ResumableGRPOTrainer):
    """GRPOTrainer that writes OUT/completions.parquet, samples dynamically, and restores a reference that moves.

    Of each generation `num_logged_completions` are logged, in whole groups and at least one; None: all, 0: none. The
    log draws no random numbers and leaves the training's numbers alone.

    `max_rounds` above 1 is dynamic sampling (DAPO, §3.2, arXiv:2503.14476): groups whose rewards are all equal carry no
    gradient, so they are dropped and completions of other problems are generated, until there are enough groups for
    the batch or `max_rounds` generations have been made. The earliest groups fill the batch. What is still missing is
    filled with dropped groups of the first round. They do not push the policy, but they count: TRL divides the loss by
    the completions of the batch (grpo) or by their tokens (dapo), so such a step is smaller, as small as without
    dynamic sampling; and they do feel a KL term or an entropy bonus.
    - DAPO compares the accuracy alone; here it is the whole reward, so a reward with many values (cosine,
      thought_length) leaves few groups to drop.
    - A further round samples as many groups as are missing if the share of kept ones stays; DAPO's code samples whole
      batches. What is left over is not kept for the next step, whose policy is another one.
    - The problems of further rounds come from a stream of their own, so the data loader's order, and with it exact
      resumption, stays. They can be problems that the data loader brings at other times.
    - `scale_rewards: batch` and `normalize_then_sum` scale with the rewards of the round a group was sampled in.
    - TRL's metrics (reward, lengths ...) are those of all that was sampled, so they can be compared with a run without.
    """

    def __init__(self, *, out: Path, num_logged_completions: int | None, max_rounds: int = 1, **arguments: Any) -> None:
        """`out`: the stage's directory; everything else that is not above is GRPOTrainer's."""
        _refuse_split_groups(arguments["args"], max_rounds)
        super().__init__(**arguments)
        self._refuse_sharded_reference()
        self.max_rounds, self.num_logged_completions = max_rounds, num_logged_completions
        self.completions_log = CompletionsLog(out, self.reward_func_names)
        self._scored: dict[str, Any] = {}  # what TRL shows only while it generates
        self._verdicts: list[str | None] = []
        self._place = (-1, -1)  # the steps before the last generation, and which of its step's generations it was
        self._num_sampled: int | None = None

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As ever; then the log is joined, and where training ends early, written as far as it goes."""
        try:
            result = super().train(*args, **kwargs)
        finally:
            self.completions_log.flush()
        if self.accelerator.is_main_process:
            self.completions_log.finish()
        return result

    def _roll_out(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """TRL's training batch for `inputs`. A subclass that replaces the advantages, by (B,) or (B, T), does it here,
        so that the log has them."""
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        return batch

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.model.training:
            return self._roll_out(inputs)
        step = self.state.global_step
        self._place = (step, self._place[1] + 1 if self._place[0] == step else 0)
        if self.max_rounds > 1:
            return self._sample_dynamically(inputs)
        generation = self._generation(inputs)
        self._log_completions(generation, range(len(inputs)))
        return generation.output

    def _sample_dynamically(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        num_groups, own_metrics = len(inputs) // self.num_generations, self._metrics["train"]
        rounds: list[Generation] = []
        kept: list[list[int]] = []
        logged: list[dict[str, list[float]]] = []
        while inputs:
            self._metrics["train"] = defaultdict(list)
            rounds.append(self._generation(inputs))
            logged.append(self._metrics["train"])
            kept.append(
                groups_with_signal(
                    rounds[-1].rewards_BF,
                    self.reward_weights,
                    self.num_generations,
                    self.multi_objective_aggregation,
                )
            )
            inputs = self._refill(rounds, kept, num_groups)
        self._metrics["train"] = own_metrics
        self._add_metrics(rounds, kept, logged)
        used = [self._rows_of(groups) for groups in used_groups(kept, num_groups)]
        for generation, rows in zip(rounds, used, strict=True):
            self._log_completions(generation, rows)
        return self._joined(rounds, used)

    def _generation(self, inputs: list[dict[str, Any]]) -> Generation:
        self._verdicts = [None] * len(inputs)
        output = self._roll_out(inputs)
        return Generation(output, inputs, verdicts=self._verdicts, **self._scored)

    def _calculate_rewards(
        self, inputs: Any, prompts: list[Any], completions: list[Any], completion_ids_list: list[list[int]]
    ) -> torch.Tensor:
        rewards: torch.Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        first = self.accelerator.process_index * len(prompts)
        local_BF = rewards[first : first + len(prompts)]
        self._scored = {"completions": completions, "completion_ids": completion_ids_list, "rewards_BF": local_BF}
        return rewards

    def _log_completion_extra(self, column: str, values: list[Any]) -> None:
        """Keep `verdict`, of the first function that has one, for our log; the rest is TRL's."""
        if column == "verdict":
            self._verdicts = [old or new for old, new in zip(self._verdicts, values, strict=True)]
        else:
            super()._log_completion_extra(column, values)

    def _refill(self, rounds: list[Generation], kept: list[list[int]], num_groups: int) -> list[dict[str, Any]]:
        """This process's rows of the next round; none where there is no next one. All processes generate together, so
        all make as many rounds, of the same size: what the one needs that lacks most."""
        num_processes = self.accelerator.num_processes
        num_kept = torch.tensor([sum(map(len, kept))], device=self.accelerator.device)
        num_kept_by_all = self.accelerator.gather(num_kept)
        num_missing = num_groups - int(num_kept_by_all.min())
        if num_missing <= 0 or len(rounds) == self.max_rounds:
            return []
        num_sampled = sum(map(len, rounds)) // self.num_generations
        size = num_refills(num_missing, int(num_kept_by_all.sum()), num_sampled * num_processes, num_groups)
        num_wanted = (self.max_rounds - 1) * num_groups * num_processes
        order = refill_order(len(self.train_dataset), num_wanted, self.args.seed, *self._place)
        first = (num_sampled - num_groups) * num_processes + self.accelerator.process_index * size
        rows = [self.train_dataset[problem] for problem in order[first : first + size]]
        return [dict(row) for row in rows for _ in range(self.num_generations)]

    def _rows_of(self, groups: list[int]) -> list[int]:
        return [group * self.num_generations + i for group in groups for i in range(self.num_generations)]

    def _joined(self, rounds: list[Generation], used: list[list[int]]) -> dict[str, Any]:
        if len(rounds) == 1:
            return rounds[0].output
        chosen = [(generation.output, rows) for generation, rows in zip(rounds, used, strict=True) if rows]
        output = join_rows(chosen, self._tokenizer.pad_token_id)
        mask = output["completion_mask"] * output.get("tool_mask", 1)
        output["num_items_in_batch"] = self.accelerator.gather(mask.sum()).sum()
        return output

    def _add_metrics(
        self, rounds: list[Generation], kept: list[list[int]], logged: list[dict[str, list[float]]]
    ) -> None:
        """TRL's metrics once for all rounds, and the cost."""
        metrics, sizes = self._metrics["train"], [len(generation) for generation in rounds]
        metrics["num_tokens"] = logged[-1].pop("num_tokens")  # cumulative
        each = [{key: values[0] for key, values in one.items() if key != "num_tokens"} for one in logged]
        for key, value in average_rounds(each, sizes).items():
            metrics[key].append(value)
        num_sampled = sum(sizes) * self.accelerator.num_processes
        num_kept = torch.tensor([sum(map(len, kept))], device=self.accelerator.device)
        num_kept_by_all = int(self.accelerator.gather(num_kept).sum())
        if self._num_sampled is None:  # a resumed run counts on: a log row was written just before its checkpoint
            totals = [row[TOTAL] for row in self.state.log_history if TOTAL in row]
            self._num_sampled = int(totals[-1]) if totals else 0
        self._num_sampled += num_sampled
        metrics["dynamic_sampling/rounds"].append(len(rounds))
        metrics["dynamic_sampling/sampled_completions"].append(num_sampled)
        metrics["dynamic_sampling/kept_share"].append(num_kept_by_all * self.num_generations / num_sampled)
        metrics[TOTAL] = [self._num_sampled]

    def _log_completions(self, generation: Generation, used: "range | list[int]") -> None:
        """Hand the first completions of all processes to rank 0's log."""
        if self.num_logged_completions == 0:
            return
        num_rows, num_processes = len(generation), self.accelerator.num_processes
        num_wanted = num_rows * num_processes
        if self.num_logged_completions is not None:
            num_groups = max(1, self.num_logged_completions // self.num_generations)
            num_wanted = min(num_wanted, num_groups * self.num_generations)
        num_here = max(0, num_wanted - self.accelerator.process_index * num_rows)
        end_ids = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        rows = generation.rows(self.reward_func_names, self.reward_weights, end_ids, set(used))[:num_here]
        if num_processes > 1:
            rows = gather_object(rows)
        if self.accelerator.is_main_process:
            self.completions_log.add(self._place[0] + 1, rows)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """With what TRL leaves out; before the file that marks a checkpoint as whole."""
        self.completions_log.flush()
        if self.args.sync_ref_model and self.args.should_save:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            save_model(self.accelerator.unwrap_model(self.ref_model), str(folder / REFERENCE))
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.args.sync_ref_model and checkpoint is not None:
            load_model(self.accelerator.unwrap_model(self.ref_model), str(Path(checkpoint) / REFERENCE))

    def _refuse_sharded_reference(self) -> None:
        plugin = self.accelerator.state.deepspeed_plugin
        if self.args.sync_ref_model and (self.is_fsdp_enabled or (plugin is not None and plugin.zero_stage == 3)):
            raise UserError(
                "sync_ref_model is true under ZeRO-3 or FSDP: no process holds the whole reference model there, and "
                "TRL's checkpoints leave it out, so a resumed run would compare with another reference. Set "
                "resources.accelerate to ddp or zero2, or sync_ref_model to false."
            )


def _refuse_split_groups(args: GRPOConfig, max_rounds: int) -> None:
    num_rows = args.per_device_train_batch_size * args.steps_per_generation
    if max_rounds > 1 and num_rows % args.num_generations:
        raise UserError(
            f"dynamic_sampling needs whole groups in each process, but each generates {num_rows} completions "
            f"(grpo.per_device_train_batch_size {args.per_device_train_batch_size} x steps_per_generation "
            f"{args.steps_per_generation}), which is no multiple of grpo.num_generations {args.num_generations}. "
            "Raise one of the first two until it is, or lower num_generations."
        )
