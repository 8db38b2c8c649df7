"""Samples a few completions as the training's first rollouts would be: `python -m tasks.core.preflight.probe DIR`.

DIR/probe.json holds what `Probe` names; DIR/sampled.json gets what `Sampled` names. In a process of its own, so that
the caller stays light and nothing of torch outlives it. The sampling is transformers' with the training's parameters;
vLLM draws other tokens from the same distribution.
"""

import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.errors import UserError
from tasks.core.files import read_json, write_json

if TYPE_CHECKING:
    from tasks.core.checkpoint import Checkpoint

JOB, RESULT = "probe.json", "sampled.json"
CPU_TOKENS = 256
"""Most new tokens on a CPU, which would need minutes for a real model's."""
SAMPLED_AT_ONCE = 32
ALWAYS = ("accuracy", "format")
"""Rewards that are reported even where the recipe has none of that name."""
NOT_HERE = ("preference",)
"""Rewards that need a model of their own."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Probe:
    """`sampling`: max_new_tokens, temperature, top_p, top_k, min_p, repetition_penalty, as generate takes them."""

    model: str
    problems: str
    rewards: Mapping[str, Any]
    num_prompts: int
    num_generations: int
    sampling: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class Scores:
    """One reward over the completions that it could score; `num_none` of them it could not."""

    mean: float | None
    least: float | None
    most: float | None
    num_none: int
    in_recipe: bool


@dataclass(frozen=True)
class Sampled:
    """What came out. Shares are of all completions; `max_new_tokens` is what was sampled, `wanted_tokens` the recipe's.

    `share_equal_groups`: groups whose weighted rewards are all alike, from which GRPO learns nothing.
    """

    rendered: str
    messages: list[Row]
    begins_twice: bool
    completion: str
    num_prompts: int
    num_generations: int
    device: str
    max_new_tokens: int
    wanted_tokens: int
    mean_tokens: float
    tokens_per_s: float
    share_truncated: float
    share_no_answer: float
    share_equal_groups: float
    pad_is_end: bool
    end_tokens: list[str]
    rewards: dict[str, Scores]
    total: Scores
    not_scored: list[str] = field(default_factory=list)


def read_sampled(directory: Path) -> Sampled:
    """What `main` wrote."""
    values = read_json(directory / RESULT)
    rewards = {name: Scores(**scores) for name, scores in values.pop("rewards").items()}
    return Sampled(**values | {"rewards": rewards, "total": Scores(**values["total"])})


def main() -> None:
    """Exit code 2 with one paragraph when the model or the problems cannot be used."""
    directory = Path(sys.argv[1])
    try:
        write_json(directory / RESULT, asdict(sample(Probe(**read_json(directory / JOB)))))
    except UserError as mistake:
        print(mistake, file=sys.stderr)
        sys.exit(2)


def sample(probe: Probe) -> Sampled:
    """Load, render, sample and score. Raises UserError."""
    import torch

    from tasks.core.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(Path(probe.model))
    rows = _rows(Path(probe.problems), probe.num_prompts, probe.seed)
    prompts = checkpoint.render([row["prompt"] for row in rows])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    wanted = probe.sampling["max_new_tokens"]
    cap = wanted if device == "cuda" else min(wanted, CPU_TOKENS)
    begun = time.monotonic()
    completions = _generate(checkpoint, [ids for _, ids in prompts], probe, device, cap)
    wall_s = time.monotonic() - begun
    counts, ends = [len(ids) for ids in completions], set(checkpoint.end_ids)
    tokenizer = checkpoint.tokenizer
    texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
    scored = _score(probe, rows, texts, completions, thought_is_open=prompts[0][0].rstrip().endswith("<think>"))
    first = prompts[0][1]
    return Sampled(
        rendered=prompts[0][0],
        messages=rows[0]["prompt"],
        begins_twice=len(first) > 1 and first[0] == first[1] == tokenizer.bos_token_id,
        completion=tokenizer.decode(completions[0]),
        num_prompts=len(rows),
        num_generations=probe.num_generations,
        device=torch.cuda.get_device_name() if device == "cuda" else "CPU",
        max_new_tokens=cap,
        wanted_tokens=wanted,
        mean_tokens=statistics.fmean(counts),
        tokens_per_s=sum(counts) / wall_s,
        share_truncated=statistics.fmean(ids[-1] not in ends for ids in completions),
        pad_is_end=tokenizer.pad_token_id in ends,
        end_tokens=[tokenizer.convert_ids_to_tokens(one) for one in checkpoint.end_ids],
        **scored,
    )


def _rows(path: Path, count: int, seed: int) -> list[Row]:
    """`count` problems of the train split, drawn by `seed`."""
    import random

    import pyarrow.parquet as pq

    rows = pq.read_table(path, filters=[("split", "=", "train")]).to_pylist()
    if not rows:
        raise UserError(f"{path} has no problem with split 'train': set num_train in prepare_data.")
    return random.Random(seed).sample(rows, min(count, len(rows)))


def _generate(
    checkpoint: "Checkpoint", prompts: list[tuple[int, ...]], probe: Probe, device: str, cap: int
) -> list[list[int]]:
    """`num_generations` completions of each prompt, one after the other, each up to and with its end token."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype=dtype, local_files_only=True).to(device).eval()
    pad = checkpoint.end_ids[0]
    settings = {key: value for key, value in probe.sampling.items() if value is not None} | {"max_new_tokens": cap}
    model.generation_config = GenerationConfig(
        **settings, do_sample=True, eos_token_id=list(checkpoint.end_ids), pad_token_id=pad, disable_compile=True
    )
    torch.manual_seed(probe.seed)
    repeated = [ids for ids in prompts for _ in range(probe.num_generations)]
    completions: list[list[int]] = []
    for start in range(0, len(repeated), SAMPLED_AT_ONCE):
        batch = repeated[start : start + SAMPLED_AT_ONCE]
        width = max(map(len, batch))
        inputs = torch.tensor([[pad] * (width - len(ids)) + list(ids) for ids in batch], device=device)
        mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in batch], device=device)
        with torch.no_grad():
            output = model.generate(input_ids=inputs, attention_mask=mask)
        completions += [_until_end(row, checkpoint.end_ids) for row in output[:, width:].tolist()]
    return completions


def _until_end(tokens: list[int], end_ids: tuple[int, ...]) -> list[int]:
    end = next((place for place, token in enumerate(tokens) if token in end_ids), len(tokens) - 1)
    return tokens[: end + 1]


def _score(probe: Probe, rows: list[Row], texts: list[str], ids: list[list[int]], *, thought_is_open: bool) -> Row:
    """Each reward as TRL calls it, the weighted sum, groups without spread, and completions without an answer."""
    from tasks.core.rewards import build_rewards
    from tasks.core.verdict import Verdict
    from tasks.core.verifier import Verifier

    repeated = [row for row in rows for _ in range(probe.num_generations)]
    columns = {key: [row[key] for row in repeated] for key in repeated[0] if key not in ("prompt", "split")}
    columns |= {"prompts": [row["prompt"] for row in repeated], "completion_ids": ids}
    columns["completions"] = [[{"role": "assistant", "content": text}] for text in texts]
    chosen = {name: value for name, value in probe.rewards.items() if name not in NOT_HERE}
    functions, weights = build_rewards(chosen) if chosen else ([], [])
    totals = [0.0] * len(texts)
    scores: dict[str, Scores] = {}
    for name, function, weight in zip(chosen, functions, weights, strict=True):
        values = function(**columns)
        scores[name] = _summary(values, in_recipe=True)
        totals = [total + weight * (value or 0.0) for total, value in zip(totals, values, strict=True)]
    format_ = {"weight": 1.0, "thought_is_open": thought_is_open}
    added: dict[str, float | Mapping[str, Any]] = {"accuracy": 1.0, "format": format_}
    extra = {name: added[name] for name in ALWAYS if name not in probe.rewards}
    for name, function in zip(extra, build_rewards(extra)[0] if extra else (), strict=True):
        scores[name] = _summary(function(**columns), in_recipe=False)
    with Verifier() as verifier:
        judgements = verifier.judge(columns["task"], columns["answer"], texts)
    groups = list(_groups(totals, probe.num_generations))
    return {
        "rewards": scores,
        "total": _summary(totals, in_recipe=True),
        "share_equal_groups": statistics.fmean(max(group) - min(group) < 1e-9 for group in groups),
        "share_no_answer": statistics.fmean(judgement.verdict is Verdict.NO_ANSWER for judgement in judgements),
        "not_scored": [name for name in probe.rewards if name in NOT_HERE],
    }


def _summary(values: list[float | None] | list[float], *, in_recipe: bool) -> Scores:
    there = [float(value) for value in values if value is not None]
    if not there:
        return Scores(None, None, None, len(values), in_recipe)
    return Scores(statistics.fmean(there), min(there), max(there), len(values) - len(there), in_recipe)


def _groups(values: list[float], size: int) -> Iterator[list[float]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def write_job(directory: Path, probe: Probe) -> None:
    """Write DIR/probe.json."""
    (directory / JOB).write_text(json.dumps(asdict(probe), ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
