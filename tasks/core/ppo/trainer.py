"""PPO (Schulman et al. 2017, arXiv:1707.06347) with a value model, as the smallest change of TRL's GRPO trainer.

TRL 1.x has no PPO trainer for language models any more, but its GRPO trainer takes advantages for each token. So the
rollouts, log-probabilities, clipped policy loss, reference model and vLLM are TRL's. What is added: values of the
completions' states when they are generated, GAE instead of a group's normalised rewards, and the critic's loss and
optimizer group. Advantages are whitened over the tokens of all completions generated together, as Open-Reasoner-Zero
(orz/ppo/utils.py@3fdd9a0) and verl (TinyZero@95df88f, verl/trainer/ppo/core_algos.py) do.

Where it departs from those two:
- Policy and critic learn from the same minibatches, in one optimizer step. Open-Reasoner-Zero's critic takes twelve
  steps on a batch from which its policy takes one.
- `beta` puts TRL's estimate of the KL (k3) into the policy's loss, where Open-Reasoner-Zero would have it; verl, and so
  TinyZero, takes another (the log-ratio) off each token's reward, from where GAE carries it to the tokens before.
- Gradients of policy and critic are clipped apart, each at max_grad_norm, as both do; but under DeepSpeed and the first
  FSDP together, for those clip by themselves.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from accelerate.utils import DistributedType
from trl import GRPOConfig
from trl.trainer.utils import create_model_from_path, disable_dropout_in_model

from tasks.core.errors import UserError
from tasks.core.generation import weighted_sums
from tasks.core.ppo.critic import NAME, Critic, give_critic, is_critics, value_loss, without_critic
from tasks.core.ppo.gae import gae, reward_at_end
from tasks.core.ppo.keys import CriticKeys
from tasks.core.rollout_trainer import RolloutTrainer

WEIGHTS = "model.safetensors"


@dataclass
class PPOConfig(GRPOConfig):
    """GRPOConfig that also takes `num_generations: 1`: only a group's mean needs a second completion."""

    def __post_init__(self) -> None:
        is_one = self.num_generations == 1
        if is_one:  # what divides every generation batch passes TRL's check
            self.num_generations: int = max(2, self.per_device_train_batch_size)
        super().__post_init__()
        if is_one:
            self.num_generations = 1


class PPOTrainer(RolloutTrainer):
    """Gives the policy a critic that starts from the same checkpoint, and trains both.

    B, T: completions of this process and their tokens, padded; N: the completions of all processes.
    """

    def __init__(self, *, model: str, args: PPOConfig, critic: CriticKeys, **kwargs: Any) -> None:
        """`model`: the checkpoint's path; `critic`: the critic's settings; everything else is GRPOTrainer's."""
        self.critic_keys = critic
        super().__init__(model=model, args=args, **kwargs)
        loading = dict(args.model_init_kwargs or {}) | {"device_map": None}
        its = Critic(create_model_from_path(model, **loading).base_model)
        if args.disable_dropout:
            disable_dropout_in_model(its)
        if self.place_model_on_device:
            self._move_model_to_device(its, args.device)
        give_critic(self.model, its)
        if self.use_vllm:
            self._hide_critic_from_vllm()

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """As transformers', with the critic's parameters in groups of their own, which have its learning rate.

        The scheduler scales both. The policy's groups come first, for the learning rate that is logged is the first's.
        """
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        named = (self.model if model is None else model).named_parameters()
        critics = {id(parameter) for name, parameter in named if is_critics(name)}
        if not critics:
            raise UserError(
                "the critic's parameters were merged with others: with FSDP set fsdp_use_orig_params: true."
            )
        policy_groups, critic_groups = [], []
        for group in optimizer.param_groups:
            policy_groups.append(group | {"params": [p for p in group["params"] if id(p) not in critics]})
            its = [p for p in group["params"] if id(p) in critics]
            critic_groups.append(group | {"params": its, "lr": self.critic_keys.learning_rate})
        optimizer.param_groups[:] = policy_groups + critic_groups
        return optimizer

    def _roll_out(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """TRL's batch, with advantages (B, T), and with old_values, returns and value_mask (B, T) for the critic.

        A completion that no reward function could score teaches neither of the two.
        """
        batch = super()._roll_out(inputs)
        rewards_B = weighted_sums(self._scored["rewards_BF"], self.reward_weights)  # raw; NaN where unscored
        mask_BT = batch["completion_mask"] * ~rewards_B.isnan().unsqueeze(1)
        values_BT = self._values(batch) * mask_BT
        rewards_BT = reward_at_end(rewards_B.nan_to_num(), mask_BT)
        keys = self.critic_keys
        advantages_BT, returns_BT = gae(rewards_BT, values_BT, mask_BT, gamma=keys.gamma, gae_lambda=keys.gae_lambda)
        mean, std = self._mean_and_std(advantages_BT, mask_BT)
        batch["advantages"] = (advantages_BT - mean) / std.clamp(min=1e-4) * mask_BT
        batch |= {"old_values": values_BT, "returns": returns_BT, "value_mask": mask_BT}
        self._log_rollout(batch, advantage_std=std)
        return batch

    @torch.no_grad()
    def _values(self, batch: dict[str, Any]) -> torch.Tensor:
        """values_BT of the states before each completion token, as many completions at a time as in training."""
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        arguments = {"num_values": batch["completion_ids"].size(1), "with_policy": False}
        size = self.args.per_device_train_batch_size
        with self.accelerator.autocast():
            parts = [
                self.model(input_ids=ids[i : i + size], attention_mask=mask[i : i + size], **arguments)
                for i in range(0, len(ids), size)
            ]
        return torch.cat(parts)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """TRL's policy loss plus the weighted value loss, a mean over the tokens of an optimizer step."""
        parts = {}

        def with_values(**kwargs: Any) -> Any:
            output, parts["values"] = model(num_values=inputs["completion_ids"].size(1), **kwargs)
            return output

        policy_loss: torch.Tensor = super()._compute_loss(with_values, inputs)
        keys, mask_BT = self.critic_keys, inputs["value_mask"]
        loss_BT = value_loss(parts["values"], inputs["old_values"], inputs["returns"], keys.value_clip)
        num_tokens = inputs["num_items_in_batch"].clamp(min=1) / self.accelerator.num_processes
        num_tokens = num_tokens * self.current_gradient_accumulation_steps / self.args.steps_per_generation
        self._metrics["train"]["value_loss"].append(self._mean_and_std(loss_BT.detach(), mask_BT)[0].item())
        return policy_loss + keys.value_loss_weight * (loss_BT * mask_BT).sum() / num_tokens

    def _mean_and_std(self, x_BT: torch.Tensor, mask_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Over the real tokens of all processes; 0 where there are none."""
        sums = self.accelerator.reduce(torch.stack([(x_BT * mask_BT).sum(), mask_BT.sum().to(x_BT)]), reduction="sum")
        num_tokens = sums[1].clamp(min=1)
        mean = sums[0] / num_tokens
        squares = self.accelerator.reduce(((x_BT - mean) ** 2 * mask_BT).sum(), reduction="sum")
        return mean, (squares / num_tokens).sqrt()

    def _log_rollout(self, batch: dict[str, Any], advantage_std: torch.Tensor) -> None:
        """`advantages/std` is before whitening. An explained variance of 1 is a critic that foresees every return, 0
        one no better than their mean; there is none where all returns are alike."""
        values_BT, returns_BT, mask_BT = batch["old_values"], batch["returns"], batch["value_mask"]
        metrics = self._metrics["train"]
        metrics["values/mean"].append(self._mean_and_std(values_BT, mask_BT)[0].item())
        mean, std = self._mean_and_std(returns_BT, mask_BT)
        metrics["returns/mean"].append(mean.item())
        metrics["advantages/std"].append(advantage_std.item())
        _, left = self._mean_and_std(returns_BT - values_BT, mask_BT)
        metrics["explained_variance"].append((1 - (left / std) ** 2).item() if std > 0 else float("nan"))
        # TRL's log of completions has one advantage each: their tokens' mean
        means_B = batch["advantages"].sum(dim=1) / mask_BT.sum(dim=1).clamp(min=1)
        means_N = self.accelerator.gather(means_B).tolist()
        logged = self._logs["advantages"]
        for _ in means_N:
            logged.pop()
        logged.extend(means_N)

    def _clip_grad_norm(self, model: Any) -> Any:
        """Clips policy and critic apart where one can; returns the policy's norm, the critic's is logged."""
        is_sharded_whole = self.is_fsdp_enabled and not self.accelerator.is_fsdp2
        if self.accelerator.distributed_type == DistributedType.DEEPSPEED or is_sharded_whole:
            return super()._clip_grad_norm(model)
        parameters = list(model.named_parameters())
        policys = [parameter for name, parameter in parameters if not is_critics(name)]
        critics = [parameter for name, parameter in parameters if is_critics(name)]
        norm = self.accelerator.clip_grad_norm_(policys, self.args.max_grad_norm)  # unscales all of the optimizer's
        critic_norm = torch.nn.utils.clip_grad_norm_(critics, self.args.max_grad_norm)
        self._metrics["train"]["critic_grad_norm"].append(critic_norm.item())
        return norm

    def _hide_critic_from_vllm(self) -> None:
        """vLLM has no place for the critic's weights: the walk over the parameters that it is sent leaves them out."""
        all_parameters = self.vllm_generation._iter_named_params
        self.vllm_generation._iter_named_params = lambda: (
            (name, parameter) for name, parameter in all_parameters() if not is_critics(name)
        )

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """The policy as a checkpoint of its own, the critic in the folder critic/ of it."""
        folder = Path(output_dir or self.args.output_dir)
        model = self.accelerator.unwrap_model(self.model)
        if state_dict is None:
            with without_critic(model):
                super()._save(str(folder))
            its = getattr(model, NAME).state_dict()
        else:  # gathered by DeepSpeed or FSDP
            its = {name.removeprefix(f"{NAME}."): tensor for name, tensor in state_dict.items() if is_critics(name)}
            super()._save(str(folder), {name: tensor for name, tensor in state_dict.items() if not is_critics(name)})
        if self.args.should_save and its:
            (folder / NAME).mkdir(parents=True, exist_ok=True)
            tensors = {name: tensor.contiguous() for name, tensor in its.items()}
            safetensors.torch.save_file(tensors, folder / NAME / WEIGHTS, metadata={"format": "pt"})
            getattr(model, NAME).backbone.config.save_pretrained(folder / NAME)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Policy and critic; FSDP, like DeepSpeed, has them together in checkpoints of its own."""
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        model = self.model if model is None else model
        with without_critic(model):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        getattr(model, NAME).load_state_dict(safetensors.torch.load_file(Path(resume_from_checkpoint) / NAME / WEIGHTS))
