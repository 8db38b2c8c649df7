"""Stage `evaluate`: how often a checkpoint answers held-out problems rightly, with an interval.

In: `model` (a checkpoint in `model/`) and `problems` (`problems.parquet`, of which the split "eval" is asked). With
`engine: openai` a server answers, and `model` may be left out; given, it is the checkpoint that the server serves. With
`data_revision` the questions are lighteval's own benchmark `benchmark`, and `problems` is left out.
Out: `completions.parquet` (every completion with its verdict), `metrics.json`, and lighteval's own
`results_lighteval.json`, whose accuracy is ours: lighteval runs the benchmark, the project's one verifier judges. What
lighteval's own metric says of its own benchmark stands beside it, as `lighteval_metric`. metrics.json's other keys:
tasks/core/harness/metrics.py. Under a budget of thought, `thinking`, each completion's row says what was forced on it.

pass@1 is estimated by the mean over `num_samples` samples of each question, as in DeepSeek-R1 (arXiv:2501.12948,
section 3); unlike the paper we give a 95 % interval, clustered by question, because samples of one question agree.
"""

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tasks.core.errors import UserError
from tasks.core.evaluated_server import EvaluatedServer
from tasks.core.files import write_json
from tasks.core.main import main
from tasks.core.questions import BUILT_IN, read_problems, take_part
from tasks.core.spelling import nearest
from tasks.core.stage import Input, Stage, StageConfig, operational
from tasks.core.thinking import Thinking

if TYPE_CHECKING:
    from tasks.core.checkpoint import Checkpoint
    from tasks.core.harness.benchmarks import Benchmark
    from tasks.core.harness.records import Question

LATER = frozenset({"checkpoint", "data_revision", "dtype", "server", "thinking"})
"""Keys that came after the first release: no part of the identity where they are not used."""


class Evaluate(StageConfig):
    """What to ask and how to sample."""

    benchmark: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    """Name of the benchmark in lighteval's table and in the report: letters, digits, "-" and "_". With
    `data_revision`, one of lighteval's own: math_500, aime24, aime25, gpqa_diamond, gsm8k or lcb."""
    data_revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    """Asks lighteval's own benchmark in the place of `problems`: the commit, 40 hexadecimal digits, of its data set."""
    num_questions: int | None = Field(ge=1)
    """How many questions of the eval split to ask; null asks all. A part is drawn by a hash of problem_id, so it does
    not depend on the seed or on the order of the file, and a smaller part lies within a larger one."""
    num_samples: int = Field(ge=1)
    """Completions sampled for each question."""
    temperature: float = Field(ge=0)
    """Sampling temperature; 0 is greedy decoding, which allows one sample only."""
    top_p: float = Field(gt=0, le=1)
    """Nucleus sampling: 1 keeps the whole distribution."""
    max_new_tokens: int = Field(ge=1)
    """Longest completion, in tokens; a longer one is cut and counts as truncated."""
    seed: int = Field(ge=0)
    """Seed of the sampling. The same config and `batch_size` give the same completions; a server need not honour it."""
    engine: Literal["transformers", "vllm", "openai"]
    """What generates: transformers (CPU or GPU), vllm (the `gpu` extra), or openai (the server in block `server`)."""
    server: EvaluatedServer | None = None
    """The OpenAI-compatible server of `engine: openai`: {base_url, model, ...}."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] | None = None
    """What the weights are loaded as; auto, or left out: as they were saved. The server of `engine: openai` decides for
    itself."""
    checkpoint: Annotated[int, Field(ge=1)] | None = None
    """The optimizer step whose weights are asked, where the training kept them (`keep_checkpoints_every`); the last
    ones when left out. In a recipe `at_steps` in its place makes one evaluation of each step."""
    thinking: Thinking | None = None
    """Budget forcing: a least and a most of thinking tokens, {min_tokens, max_tokens}; one budget an evaluation."""
    batch_size: int = operational(256)
    """Completions sampled at once; another value draws other samples from the same distribution."""
    num_workers: int = operational(1)
    """Processes of the verifier."""

    @model_validator(mode="after")
    def _one_greedy_sample(self) -> Self:
        if self.temperature == 0 and self.num_samples > 1:
            raise ValueError(
                f"num_samples is {self.num_samples} at temperature 0, where all samples are equal: "
                "set num_samples: 1, or a temperature above 0"
            )
        return self

    @model_validator(mode="after")
    def _budget_fits(self) -> Self:
        if self.thinking and self.engine == "openai":
            raise ValueError(
                "thinking is given, but engine is 'openai', and no server goes on with a thought that it has ended: "
                "set engine: transformers or vllm, or leave thinking out"
            )
        if self.thinking and (why := self.thinking.lacks_room(self.max_new_tokens)):
            raise ValueError(f"{why}: raise max_new_tokens or lower the budget")
        return self

    @model_validator(mode="after")
    def _server_and_engine(self) -> Self:
        if self.engine == "openai" and self.server is None:
            raise ValueError("engine is 'openai', but there is no block `server`: give server: {base_url, model}")
        if self.engine != "openai" and self.server is not None:
            raise ValueError(f"server is given, but engine is {self.engine!r}: set engine: openai, or leave it out")
        if self.engine == "openai" and self.dtype is not None:
            raise ValueError("dtype is given, but engine is 'openai', whose server decides that: leave it out")
        return self

    @model_validator(mode="after")
    def _known_built_in(self) -> Self:
        if self.data_revision is not None and self.benchmark not in BUILT_IN:
            near = nearest(self.benchmark, BUILT_IN)
            raise ValueError(
                f"data_revision is given, but benchmark is {self.benchmark!r}, which is none of lighteval's own "
                f"({', '.join(BUILT_IN)}){near}: name one of them, or leave data_revision out and give `problems`"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """As everywhere, without what is optional and left out; where the server is and how it is asked is no part."""
        identity = super().identity() | ({"server": self.server.identity()} if self.server else {})
        return {key: value for key, value in identity.items() if key not in LATER or value not in (None, "auto")}


def evaluate(config: Evaluate, *, out: Path, model: Path | None = None, problems: Path | None = None) -> None:
    """Ask the questions, judge the answers, write completions.parquet and metrics.json into `out`."""
    from tasks.core.checkpoint import chosen_checkpoint, read_checkpoint
    from tasks.core.harness.metrics import summarise
    from tasks.core.harness.records import Sampling
    from tasks.core.harness.run import run_harness
    from tasks.core.harness.table import write_completions
    from tasks.core.verifier import Verifier

    given = {name for name, path in {"model": model, "problems": problems}.items() if path is not None}
    for name, text in check_inputs(config, given).items():
        raise UserError(f"evaluate: the input `{name}` {text}.")
    checkpoint = None
    if model is not None and config.engine != "openai":
        checkpoint = read_checkpoint(chosen_checkpoint(model, config.checkpoint))
    rows, built_in = _read_questions(config, problems)
    questions = render_questions(rows, checkpoint, config.max_new_tokens)
    sampling = Sampling(
        config.num_samples, config.temperature, config.top_p, config.max_new_tokens, config.seed, config.thinking
    )
    completions, lighteval_accuracy = run_harness(
        config.benchmark,
        questions,
        sampling,
        checkpoint,
        engine=config.engine,
        server=config.server,
        dtype=config.dtype,
        built_in=built_in,
        batch_size=config.batch_size,
        num_workers=config.num_workers,
        out=out,
    )
    with Verifier(num_workers=config.num_workers) as verifier:
        summary = summarise(completions, config.num_samples, verifier=verifier, thinking=config.thinking)
    metrics = {"benchmark": config.benchmark, **summary}
    if num_unparsable := metrics["num_unparsable_golds"]:
        print(f"warning: {num_unparsable} of {len(questions)} reference answers cannot be read, so none is right there")
    assert math.isclose(metrics["accuracy"], lighteval_accuracy, abs_tol=1e-9), (
        metrics["accuracy"],
        lighteval_accuracy,
    )
    if built_in:
        metrics |= built_in.measure(completions)
    if config.checkpoint is not None:
        metrics["checkpoint_step"] = config.checkpoint
    write_completions(out / "completions.parquet", completions)
    write_json(out / "metrics.json", metrics)


def check_inputs(config: Evaluate, names: Collection[str]) -> dict[str, str]:
    """What is wrong with the inputs, {input: text}: config decides which are needed."""
    mistakes = {}
    if config.engine != "openai" and "model" not in names:
        mistakes["model"] = (
            f"is missing: engine is {config.engine!r}, which samples a checkpoint; name a fetch_model, train_sft, "
            "train_grpo or train_ppo stage, or set engine: openai and the block `server`"
        )
    if config.data_revision is not None and "problems" in names:
        mistakes["problems"] = (
            f"is given, and so is data_revision, which asks lighteval's own {config.benchmark}: leave one of them out"
        )
    if config.data_revision is None and "problems" not in names:
        known = BUILT_IN.get(config.benchmark)
        mistakes["problems"] = (
            "is missing: name a prepare_data or select_problems stage, or ask one of lighteval's own benchmarks "
            f"({', '.join(BUILT_IN)}) with data_revision, a commit of its data set"
            + (f": data_revision: {known}" if known else "")
        )
    return mistakes


def _read_questions(config: Evaluate, problems: Path | None) -> "tuple[list[dict[str, Any]], Benchmark | None]":
    """The rows to ask, of `problems` or of one of lighteval's own benchmarks, which comes with them."""
    if problems is not None:
        return read_problems(problems / "problems.parquet", config.num_questions), None
    from tasks.core.harness.benchmarks import load_benchmark

    assert config.data_revision is not None
    built_in = load_benchmark(config.benchmark, config.data_revision, num_workers=config.num_workers)
    what = f"the benchmark {config.benchmark} at data_revision {config.data_revision}"
    return take_part(built_in.problems(), config.num_questions, what), built_in


def render_questions(
    rows: Sequence[dict[str, Any]], checkpoint: "Checkpoint | None", max_new_tokens: int
) -> "list[Question]":
    """Show the prompts as GRPO shows them; without a checkpoint the server renders the chat, and counts its tokens.

    Raises UserError when one leaves no room for max_new_tokens.
    """
    from tasks.core.harness.records import Question

    if checkpoint is None:
        return [Question.of_chat(row["problem_id"], row["task"], row["answer"], row["prompt"]) for row in rows]
    rendered = checkpoint.render([row["prompt"] for row in rows])
    questions = [
        Question(row["problem_id"], row["task"], row["answer"], prompt, prompt_ids)
        for row, (prompt, prompt_ids) in zip(rows, rendered, strict=True)
    ]
    longest = max(questions, key=lambda question: len(question.prompt_ids))
    needed = len(longest.prompt_ids) + max_new_tokens
    if checkpoint.max_length is not None and needed > checkpoint.max_length:
        raise UserError(
            f"evaluate: problem {longest.problem_id!r} has a prompt of {len(longest.prompt_ids)} tokens; with "
            f"max_new_tokens {max_new_tokens} that makes {needed}, over the model's context of "
            f"{checkpoint.max_length}: set max_new_tokens to at most {checkpoint.max_length - len(longest.prompt_ids)}."
        )
    return questions


STAGE = Stage(
    name="evaluate",
    version=1,
    config=Evaluate,
    run=evaluate,
    inputs={
        "model": Input(accepts=("fetch_model", "train_sft", "train_grpo", "train_ppo"), optional=True),
        "problems": Input(accepts=("prepare_data", "select_problems"), optional=True),
    },
    libraries=("lighteval", "math-verify", "transformers"),
    memory_advice="lower batch_size or max_new_tokens",
    check_inputs=check_inputs,
)

if __name__ == "__main__":
    main(STAGE)
