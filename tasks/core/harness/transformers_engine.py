"""lighteval's Transformers model: its loading, batching and tokenizing, with the sampling of GRPO.

The package's docstring says what is wrong with lighteval's own `_generate_padded`, which this one replaces.
"""

import copy
from typing import Any

import torch
from lighteval.models.model_input import GenerationParameters
from lighteval.models.model_output import Batch, ModelResponse
from lighteval.models.transformers.transformers_model import TransformersModel, TransformersModelConfig
from lighteval.tasks.requests import Doc
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

import tasks.core.harness.patches  # noqa: F401  (turns gradients on again, which lighteval's import turned off)
from tasks.core.checkpoint import Checkpoint
from tasks.core.harness.budget import Budget
from tasks.core.harness.records import Sampling
from tasks.core.harness.shards import Shards, Tokens_QST, generate_within


class TransformersEngine(TransformersModel):
    """A local checkpoint, sampled shard by shard; on a GPU where there is one, in the checkpoint's dtype or `dtype`."""

    def __init__(self, checkpoint: Checkpoint, sampling: Sampling, shards: Shards, dtype: str | None = None) -> None:
        self.budget = Budget(sampling.thinking, checkpoint, sampling.max_new_tokens) if sampling.thinking else None
        super().__init__(
            TransformersModelConfig(
                model_name=str(checkpoint.path),
                dtype=dtype,
                batch_size=shards.questions_per_shard,
                add_special_tokens=False,  # the rendered chat template holds them
                override_chat_template=False,  # rendered by us: lighteval knows one user message only
                generation_parameters=GenerationParameters(
                    temperature=sampling.temperature, top_p=sampling.top_p, top_k=0, seed=sampling.seed
                ),
            )
        )
        self.shards = shards
        self.sampling_config = _generation_config(sampling, checkpoint)
        # What `sampling_config` leaves unset would come from the checkpoint's generation_config.json.
        self.model.generation_config = self.sampling_config

    @property
    def disable_tqdm(self) -> bool:
        """No bars: progress.json shows where we are."""
        return True

    def greedy_until(self, docs: list[Doc]) -> list[ModelResponse]:
        """lighteval's name for generating, sampled or not."""
        return self.shards.respond(docs, self._generate_shard, self.tok_decode)

    def _generate_shard(self, docs: list[Doc], seed: int) -> Tokens_QST:
        torch.manual_seed(seed)
        if self.budget:
            return generate_within(self.budget, docs, self.shards, self._extend)
        responses = self._padded_greedy_until(docs)
        for doc, response in zip(docs, responses, strict=True):
            assert tuple(response.input_tokens) == self.shards.question(doc).prompt_ids, "lighteval changed the prompt"
        return [response.output_tokens for response in responses]

    def _extend(self, contexts_NT: list[list[int]], limits_N: list[int], stop: str | None) -> list[list[int]]:
        """New tokens of each context; a row that is done goes on as end-of-text tokens, which nobody reads."""
        width = max(map(len, contexts_NT))
        padding = self.sampling_config.pad_token_id
        ids = [[padding] * (width - len(context)) + context for context in contexts_NT]
        mask = [[0] * (width - len(context)) + [1] * len(context) for context in contexts_NT]
        config = copy.deepcopy(self.sampling_config)
        config.num_return_sequences, config.max_new_tokens = 1, max(limits_N)
        with torch.no_grad():
            sequences = self.model.generate(
                input_ids=torch.tensor(ids, device=self.device),
                attention_mask=torch.tensor(mask, device=self.device),
                generation_config=config,
                stopping_criteria=StoppingCriteriaList([_RowEnds(self.tokenizer, width, limits_N, stop)]),
            )
        return sequences[:, width:].tolist()

    def _generate_padded(
        self,
        batch: Batch,
        max_new_tokens: int,
        stop_tokens: list[str],
        returns_logits: bool | None = False,
        num_samples: int = 1,
    ) -> list[ModelResponse]:
        """Sample `num_samples` completions for each prompt of `batch`; a row ends at an end token or at the limit.

        The limit is the question's generation size, which the caller has checked against the model's context.
        """
        with torch.no_grad():
            sequences = self.model.generate(
                input_ids=batch.input_ids, attention_mask=batch.input_mask, generation_config=self.sampling_config
            )
        rows = sequences[:, batch.input_ids.shape[1] :].tolist()
        end_ids = set(self.sampling_config.eos_token_id)
        completions = [_until_end(row, end_ids) for row in rows]
        prompts = [ids[mask.bool()].tolist() for ids, mask in zip(batch.input_ids, batch.input_mask, strict=True)]
        return [
            ModelResponse(input_tokens=prompt, output_tokens=completions[i * num_samples : (i + 1) * num_samples])
            for i, prompt in enumerate(prompts)
        ]


class _RowEnds(StoppingCriteria):
    """Ends each row at its own limit and, where there is one, behind the text `stop`; `width` tokens are context."""

    def __init__(self, tokenizer: Any, width: int, limits_N: list[int], stop: str | None) -> None:
        self.tokenizer, self.width, self.limits, self.stop = tokenizer, width, torch.tensor(limits_N), stop

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Which rows are done, of tokens [N, T]."""
        new_ids = input_ids[:, self.width :]
        is_done = new_ids.shape[1] >= self.limits.to(input_ids.device)
        if self.stop is None:
            return is_done
        longest = len(self.stop.encode()) + 1  # tokens that `stop` can take: a byte each, and what begins before it
        tails = self.tokenizer.batch_decode(new_ids[:, -longest:], skip_special_tokens=False)
        return is_done | torch.tensor([self.stop in tail for tail in tails], device=input_ids.device)


def _generation_config(sampling: Sampling, checkpoint: Checkpoint) -> GenerationConfig:
    how = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    return GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        num_return_sequences=sampling.num_samples,
        eos_token_id=list(checkpoint.end_ids),
        pad_token_id=checkpoint.tokenizer.eos_token_id,
        disable_compile=True,
        **(how if sampling.temperature > 0 else {"do_sample": False}),
    )


def _until_end(row: list[int], end_ids: set[int]) -> list[int]:
    """`row` up to and with its first end token: what follows is padding."""
    end = next((place for place, token in enumerate(row) if token in end_ids), len(row) - 1)
    return row[: end + 1]
