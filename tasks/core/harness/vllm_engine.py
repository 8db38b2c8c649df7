"""vLLM behind lighteval's interface for custom models, on one node.

lighteval 0.13's own vLLM backend cannot run with the vllm that TRL 1.16 supports (0.22 to 0.31): its metadata asks for
vllm < 0.10.2, it imports `vllm.transformers_utils.tokenizer` and calls `LLM.generate(prompt_token_ids=...)`, both
removed since.
"""

from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

from lighteval.models.abstract_model import LightevalModel, ModelConfig
from lighteval.models.model_input import GenerationParameters
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.requests import Doc

from tasks.core.checkpoint import Checkpoint
from tasks.core.harness.budget import Budget
from tasks.core.harness.patches import NoSampleCache
from tasks.core.harness.records import Sampling
from tasks.core.harness.shards import Shards, Tokens_QST, generate_within


class VllmEngine(LightevalModel):
    """A local checkpoint in vLLM, sampled shard by shard, each request with a seed of its own."""

    def __init__(self, checkpoint: Checkpoint, sampling: Sampling, shards: Shards, dtype: str | None = None) -> None:
        from vllm import LLM

        self.config = ModelConfig(
            model_name=str(checkpoint.path),
            generation_parameters=GenerationParameters(
                temperature=sampling.temperature, top_p=sampling.top_p, seed=sampling.seed
            ),
        )
        self.checkpoint, self.sampling, self.shards = checkpoint, sampling, shards
        self.budget = Budget(sampling.thinking, checkpoint, sampling.max_new_tokens) if sampling.thinking else None
        self._cache = NoSampleCache()
        longest = max(len(question.prompt_ids) for question in shards.questions)
        self._max_length = longest + sampling.max_new_tokens
        # "vllm": vLLM's own neutral sampling defaults, not the checkpoint's generation_config.json.
        how = {"max_model_len": self._max_length, "generation_config": "vllm", "dtype": dtype or "auto"}
        self.llm: Any = LLM(model=str(checkpoint.path), **how)

    @property
    def tokenizer(self) -> Any:
        """The checkpoint's tokenizer."""
        return self.checkpoint.tokenizer

    @property
    def add_special_tokens(self) -> bool:
        """None: the rendered chat template holds them."""
        return False

    @property
    def max_length(self) -> int:
        """Tokens of the longest prompt and of a completion."""
        return self._max_length

    def greedy_until(self, docs: list[Doc]) -> list[ModelResponse]:
        """lighteval's name for generating, sampled or not."""
        decode = self.tokenizer.batch_decode
        return self.shards.respond(docs, self._generate_shard, lambda ids: decode(ids, skip_special_tokens=True))

    def _generate_shard(self, docs: list[Doc], seed: int) -> Tokens_QST:
        if self.budget:
            seeds = count(seed)  # another for every row in every round
            return generate_within(self.budget, docs, self.shards, partial(self._extend, seeds))
        how = {"n": self.sampling.num_samples, "max_tokens": self.sampling.max_new_tokens, "detokenize": False}
        prompts = [list(self.shards.question(doc).prompt_ids) for doc in docs]
        return self._sample(prompts, [how | {"seed": seed + place} for place in range(len(docs))])

    def _extend(
        self, seeds: Iterator[int], contexts_NT: list[list[int]], limits_N: list[int], stop: str | None
    ) -> list[list[int]]:
        """New tokens of each context. vLLM finds `stop` in its own text of the tokens, special tokens shown."""
        how: dict[str, Any] = {"detokenize": stop is not None, "skip_special_tokens": False}
        how |= {"stop": [stop], "include_stop_str_in_output": True} if stop is not None else {}
        params = [how | {"max_tokens": limit, "seed": next(seeds)} for limit in limits_N]
        return [tokens for (tokens,) in self._sample(contexts_NT, params)]

    def _sample(self, prompts_NT: list[list[int]], params_N: list[dict[str, Any]]) -> Tokens_QST:
        """The samples of each prompt, all prompts in one call."""
        from vllm import SamplingParams

        shared: dict[str, Any] = {"temperature": self.sampling.temperature, "top_p": self.sampling.top_p}
        shared |= {"stop_token_ids": list(self.checkpoint.end_ids)}
        outputs = self.llm.generate(
            [{"prompt_token_ids": prompt_ids} for prompt_ids in prompts_NT],
            sampling_params=[SamplingParams(**shared, **params) for params in params_N],
            use_tqdm=False,
        )
        return [[list(sample.token_ids) for sample in output.outputs] for output in outputs]

    def loglikelihood(self, docs: list[Doc]) -> list[ModelResponse]:
        """lighteval wants the method; a benchmark that generates never calls it."""
        raise AssertionError("no benchmark of ours compares likelihoods")

    def loglikelihood_rolling(self, docs: list[Doc]) -> list[ModelResponse]:
        """lighteval wants the method; a benchmark that generates never calls it."""
        raise AssertionError("no benchmark of ours compares likelihoods")
