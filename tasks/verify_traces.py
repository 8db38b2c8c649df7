"""verify_traces: keep the traces whose answer is right, at most so many per problem (rejection sampling).

In: `traces.parquet` of generate_traces; `reward_model`, if traces are to be scored; `judge_model`, if the judge is a
checkpoint of the run. Out: `verdicts.parquet`, every trace with its verdict, tier, reason and judged_answer (the answer
that was read), rule_verdict (what the rules said before the judge), judge_replies (the ends of the judge's replies,
null where it was not asked) and score (the reward model's, null where there is none); `traces.parquet`, the kept ones,
same columns, in the order of the input; `pass_rates.parquet`, one row per problem with problem_id, num_traces,
num_judged, num_right, pass_rate; `metrics.json` with the verdicts counted, the traces that go into and come out of
every filter, the judge's account, and how often the verifier errs on labelled pairs (`audit`).

The rules judge first, then a language model compares the answers that they rejected (tasks/core/judge), never those of
truncated traces or of traces without an answer, and never those of tasks with a checker of their own. A trace whose
request failed (finish_reason "error") is `no_answer`.

The traces are judged in parts that are each committed at once, so a run that was killed and started again, or whose
parts were shared out to several nodes, ends with the same files as one that was not. (A judge that does not honour its
seed may break that, and so may a reward model if shard_size is changed in between: batches round differently.)

DeepSeek-R1, §2.3.3 (arXiv:2501.12948): "we sample multiple responses and retain only the correct ones". Departures:
the paper also drops mixed languages, long paragraphs and code, we do not; we drop equal texts and texts that were cut
off, even after a right answer, and can cap the number per problem. Its judge (DeepSeek-V3) is for answers that no rule
covers; ours is OpenR1's (Open R1 Update #2, 2025-02-10): Math-Verify found a right trace for 55 % of the problems, and
Llama-3.3-70B-Instruct recovered 28,000 more from what it had rejected. Ours is asked about each pair in both orders,
and must say the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from tasks.core.audit import audit_verifier
from tasks.core.curation.candidates import copy_rows
from tasks.core.errors import UserError
from tasks.core.files import write_json
from tasks.core.judge import Item, JudgeConfig, Opinion, judge_answers, summarize
from tasks.core.main import main
from tasks.core.parts import Parts
from tasks.core.ranking import score_missing
from tasks.core.rule_verdicts import JUDGED_TASK, judge_missing, plan_parts
from tasks.core.selection import Order, select_traces
from tasks.core.stage import Input, Stage, StageConfig, operational
from tasks.core.verdict_files import (
    decide,
    is_rankable,
    none_kept,
    pairs_of,
    signatures,
    write_pass_rates,
    write_verdicts,
)
from tasks.core.verifier import Verifier


class VerifyTracesConfig(StageConfig):
    """Which of the right traces to keep."""

    max_per_problem: int = Field(ge=0)
    """Most traces kept per problem; 0 where the verdicts alone are wanted, as for select_problems."""
    select: Order
    """Which ones, where more are right: `shortest` by num_tokens, `first` in the order of sampling, `random` drawn with
    `seed`, `best` by the reward model, `diverse`: the first, then always the one least like those chosen, by n-grams of
    words."""
    seed: int
    """Seeds `select: random`; without effect on the others."""
    judge: JudgeConfig | None = None
    """Asks a language model about the answers that the rules rejected; when left out their verdict is the last."""
    timeout_s: float = operational(5.0)
    """Longest time for one verdict; beyond it the verdict is `timeout`, which is counted in the metrics."""
    num_workers: int = operational(1)
    """Processes that judge."""
    memory_gb: float = operational(2.0)
    """Most memory of one of them."""
    shard_size: int = operational(2000)
    """Traces per part (shard): judged and held in memory at a time, and what an interruption can cost."""
    score_batch_size: int = operational(8)
    """Traces that the reward model scores side by side."""

    @field_validator("timeout_s", "num_workers", "memory_gb", "shard_size", "score_batch_size")
    @classmethod
    def _positive(cls, value: float) -> float:
        if value <= 0:
            raise ValueError(f"{value} is not allowed: give more than 0")
        return value

    def identity(self) -> dict[str, Any]:
        """As everywhere; where the judge is and how hard it is pressed are not part of it."""
        return super().identity() | {"judge": self.judge.identity() if self.judge else None}


@dataclass(frozen=True)
class _Job:
    """The inputs, and how they are cut: the rules' verdicts and the scores (None without a reward model) alike."""

    config: VerifyTracesConfig
    out: Path
    path: Path
    reward_model: Path | None
    judge_model: Path | None
    parts: Parts
    scores: Parts | None


def verify_traces(
    config: VerifyTracesConfig,
    *,
    out: Path,
    traces: Path,
    reward_model: Path | None = None,
    judge_model: Path | None = None,
) -> None:
    """Write the files into `out`; OUT/work holds the parts and resumes.

    Raises UserError when there is no trace, or none to keep where some are wanted, TransientError while the judge is
    down, and Paused when OUT/stop asks for it.
    """
    job = _plan(config, out, traces, reward_model, judge_model)
    opinions = _judge(job, job.parts.numbers, desk=out)
    verdicts_path = out / "verdicts.parquet"
    judged, tally = write_verdicts(job.path, job.parts, opinions, job.scores, verdicts_path)
    kept, filters = select_traces(
        judged,
        max_per_problem=config.max_per_problem,
        order=config.select,
        seed=config.seed,
        sketch=partial(signatures, verdicts_path),
    )
    if not kept and config.max_per_problem:
        raise UserError(none_kept(judged, tally, job.path, verdicts_path))
    copy_rows(verdicts_path, {trace.row for trace in kept}, out / "traces.parquet")
    metrics = {
        "num_traces": len(judged),
        "num_kept": len(kept),
        "num_problems": len({trace.problem_id for trace in judged}),
        "num_problems_kept": len({trace.problem_id for trace in kept}),
        "mean_tokens_kept": sum(trace.num_tokens for trace in kept) / len(kept) if kept else None,
        **tally.as_metrics(),
        "filters": filters,
        "pass_rates": write_pass_rates(verdicts_path, out / "pass_rates.parquet"),
        "judge": summarize(config.judge.teacher, opinions.values()) if config.judge else None,
        "audit": _audit(config) if tally.tasks[JUDGED_TASK] else None,
    }
    write_json(out / "metrics.json", metrics)


def share_verdicts(
    config: VerifyTracesConfig,
    *,
    out: Path,
    share: tuple[int, int],
    desk: Path,
    traces: Path,
    reward_model: Path | None = None,
    judge_model: Path | None = None,
) -> None:
    """Commit the parts of share `share` = (index, number of shares) for `verify_traces` to find; raises what it does.

    How far it is, and whether to stop, stands in `desk`.
    """
    job = _plan(config, out, traces, reward_model, judge_model)
    _judge(job, job.parts.of_share(*share), desk=desk)


def _plan(
    config: VerifyTracesConfig, out: Path, traces: Path, reward_model: Path | None, judge_model: Path | None
) -> _Job:
    if config.select == "best" and reward_model is None:
        raise UserError("select is 'best', which needs the input `reward_model`: name a fetch_model stage for it.")
    is_local = config.judge is not None and config.judge.is_local
    if is_local and judge_model is None:
        raise UserError(
            "judge.teacher needs the input `judge_model`: name a fetch_model stage for it, or use `openai`."
        )
    if judge_model is not None and not is_local:
        raise UserError(
            "`judge_model` is given, but judge.teacher is neither `transformers` nor `vllm`: leave one out."
        )
    path = traces / "traces.parquet"
    parts = plan_parts(path, out / "work", config.shard_size)
    key = ["score", parts.directory.name]
    scores = Parts.plan(out / "work", key=key, size=parts.size, num_rows=parts.num_rows) if reward_model else None
    return _Job(config, out, path, reward_model, judge_model, parts, scores)


def _verifier(config: VerifyTracesConfig) -> Verifier:
    return Verifier(num_workers=config.num_workers, timeout_s=config.timeout_s, memory_gb=config.memory_gb)


def _audit(config: VerifyTracesConfig) -> dict[str, Any]:
    with _verifier(config) as verifier:
        return audit_verifier(verifier)


def _judge(job: _Job, numbers: Sequence[int], *, desk: Path) -> dict[Item, Opinion]:
    """Do what is missing of these parts, by the rules, the judge and the reward model; returns the judge's opinions."""
    with _verifier(job.config) as verifier:
        judge_missing(verifier, job.path, job.parts, numbers, desk=desk)
    opinions = _ask_judge(job, numbers, desk) if job.config.judge else {}
    if job.reward_model and job.scores:

        def is_wanted(number: int, traces: Any) -> list[bool]:
            return is_rankable(decide(job.parts.read(number), opinions), traces)

        batch_size = job.config.score_batch_size
        score_missing(job.reward_model / "model", job.path, job.scores, numbers, is_wanted, batch_size, desk=desk)
    return opinions


def _ask_judge(job: _Job, numbers: Sequence[int], desk: Path) -> dict[Item, Opinion]:
    """Whatever any share has asked before is not asked again."""
    assert job.config.judge is not None
    pairs = {pair: None for number in numbers for pair in pairs_of(job.parts.read(number)) if pair}
    work = job.out / "work"
    own = work / "judge" if desk == job.out else desk / "judge"
    opinions = judge_answers(
        job.config.judge.teacher,
        list(pairs),
        own,
        desk,
        model=job.judge_model,
        num_workers=job.config.judge.num_workers,
        shard_size=job.config.judge.shard_size,
        seen=[place for place in (work / "judge", *sorted(work.glob("shares/*/judge"))) if place != own],
    )
    return dict(zip(pairs, opinions, strict=True))


STAGE = Stage(
    name="verify_traces",
    version=2,
    config=VerifyTracesConfig,
    run=verify_traces,
    share=share_verdicts,
    inputs={
        "traces": Input(accepts=("generate_traces",)),
        "reward_model": Input(accepts=("fetch_model",), optional=True),
        "judge_model": Input(accepts=("fetch_model", "train_sft", "train_grpo", "train_ppo"), optional=True),
    },
    libraries=("math-verify",),
    memory_advice="lower num_workers, each of which may take memory_gb, shard_size or score_batch_size",
)

if __name__ == "__main__":
    main(STAGE)
