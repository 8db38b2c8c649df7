"""Training whose weights are spread over two processes, on CPUs over gloo: one whole, right checkpoint, killed or not.

What a CPU cannot show, and why: FSDP runs here only because fsdp_on_cpu.py makes accelerate do it. Marked slow is what
only adds to the time: a launch of two processes costs some 20 s of imports, and for ZeRO-3 with offload DeepSpeed
compiles its Adam for the host, which takes minutes.
"""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.accelerate import find_config
from slurm.job import End, Job
from slurm.local import LocalJob, LocalLauncher
from slurm.resources import Resources
from tasks.core.errors import UserError
from tasks.core.files import write_json
from tasks.core.sharded import refuse_unsharded
from tasks.train_sft import TrainSftConfig, train_sft
from tests.tasks.training_inputs import folder, history_of, make_base, make_problems, make_traces, parsed

SFT: dict[str, Any] = {
    "max_steps": 8,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "max_length": 128,
    "bf16": False,
    "gradient_checkpointing": False,
    "logging_steps": 2,
    "save_steps": 2,
}
GRPO: dict[str, Any] = {
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "num_generations": 4,
    "max_completion_length": 16,
    "temperature": 1.0,
    "learning_rate": 1e-3,
    "beta": 0.0,
    "bf16": False,
    "gradient_checkpointing": True,
    "logging_steps": 1,
    "save_strategy": "no",
}
REWARDS = {"tag_count": {"weight": 1.0, "layout": "think_answer"}}
LORA = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sharded")
    problems = make_problems(root / "problems")
    return {
        "model": make_base(root / "base"),
        "problems": problems,
        "traces": make_traces(root / "traces", problems),
    }


@pytest.fixture(scope="module")
def alone(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training in one process, this one, with the two processes' batches as one."""
    out = tmp_path_factory.mktemp("alone")
    sft = SFT | {"per_device_train_batch_size": 8}
    train_sft(parsed(TrainSftConfig, sft=sft, seed=0), out=out, model=inputs["model"], traces=inputs["traces"])
    return out


def make_job(root: Path, stage: str, inputs: dict[str, Path], accelerate: str, gpus: int = 2, **config: Any) -> Job:
    """A job of two processes, or of `gpus`, launched with a file of recipes/accelerate."""
    directory = folder(root / f"{stage}-{accelerate}")
    data = "traces" if stage == "train_sft" else "problems"
    given = {name: str(inputs[name]) for name in ("model", data)}
    write_json(directory / "config.json", {"stage": stage, "inputs": given, "config": {"seed": 0} | config})
    resources = Resources(gpus=gpus, accelerate=str(find_config(accelerate)))
    return Job(stage, directory, resources, num_cpus=2, env={"OMP_NUM_THREADS": "1"})


def run(job: Job, launcher: LocalLauncher, until: str | None = None) -> End:
    """Run the job to its end, or kill -9 all of it once the checkpoint `until` is whole."""
    whole = job.directory / "work" / "checkpoints" / str(until) / "trainer_state.json"
    running = launcher.start(job)
    assert isinstance(running, LocalJob)
    deadline = time.monotonic() + 900
    try:
        while (end := running.poll()) is None and not (until and whole.is_file()):
            assert time.monotonic() < deadline, log_of(job)
            time.sleep(0.01)
    finally:
        running.kill()
    return end or End(-9, "")


def log_of(job: Job) -> str:
    return (job.directory / "log.txt").read_text()[-5000:]


def assert_same_training(job: Job, alone: Path) -> None:
    """The checkpoint that came out, and the curve, are those of the one process, up to the order of sums."""
    import torch
    from transformers import AutoModelForCausalLM

    ours, theirs = (AutoModelForCausalLM.from_pretrained(root / "model") for root in (job.directory, alone))
    for (name, weights), expected in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(weights, expected, atol=1e-5, rtol=0, msg=lambda text, name=name: f"{name}: {text}")
    losses, curve = ([row["loss"] for row in history_of(root)] for root in (job.directory, alone))
    assert losses == pytest.approx(curve, rel=1e-4)


class OnCpu(LocalLauncher):
    """Starts tests/tasks/fsdp_on_cpu.py in the place of the stage."""

    def _command(self, job: Job) -> list[str]:
        return ["tests.tasks.fsdp_on_cpu" if word == f"tasks.{job.stage}" else word for word in super()._command(job)]


@pytest.mark.parametrize(
    ("accelerate", "launcher", "shard"),
    [
        ("zero3", LocalLauncher(), "global_step2/zero_pp_rank_1_mp_rank_00_optim_states.pt"),
        pytest.param("fsdp", OnCpu(), "pytorch_model_fsdp.bin", marks=pytest.mark.slow),
        pytest.param(
            "zero2", LocalLauncher(), "global_step2/zero_pp_rank_1_mp_rank_00_optim_states.pt", marks=pytest.mark.slow
        ),
    ],
    ids=["zero3", "fsdp", "zero2"],
)
def test_sharded_sft_killed_and_resumed_equals_one_process(
    alone: Path, inputs: dict[str, Path], tmp_path: Path, accelerate: str, launcher: LocalLauncher, shard: str
) -> None:
    job = make_job(tmp_path, "train_sft", inputs, accelerate, sft=SFT)
    assert run(job, launcher, until="checkpoint-2").exit_code == -9, log_of(job)
    assert (job.directory / "work" / "checkpoints" / "checkpoint-2" / shard).exists()  # it was truly spread
    assert run(job, launcher) == End(0, ""), log_of(job)
    metrics = json.loads((job.directory / "metrics.json").read_text())
    assert metrics["resumed_from_step"] >= 2 and metrics["num_steps"] == 8
    assert_same_training(job, alone)


@pytest.mark.parametrize(
    ("accelerate", "launcher"),
    [
        ("zero3", LocalLauncher()),
        pytest.param("zero2", LocalLauncher(), marks=pytest.mark.slow),
        pytest.param("fsdp", OnCpu(), marks=pytest.mark.slow),
    ],
    ids=["zero3", "zero2", "fsdp"],
)
def test_sharded_grpo_generates_and_merges_its_adapter(
    inputs: dict[str, Path], tmp_path: Path, accelerate: str, launcher: LocalLauncher
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    job = make_job(tmp_path, "train_grpo", inputs, accelerate, grpo=GRPO, rewards=REWARDS, lora=LORA)
    assert run(job, launcher) == End(0, ""), log_of(job)
    assert [row["completions/mean_length"] > 0 for row in history_of(job.directory)] == [True, True]
    base, merged = (AutoModelForCausalLM.from_pretrained(path / "model") for path in (inputs["model"], job.directory))
    ids = torch.arange(3, 12)[None]
    with torch.no_grad():
        before, after = base(ids).logits, merged(ids).logits
        adapted = PeftModel.from_pretrained(base, job.directory / "adapter")(ids).logits
    assert not torch.equal(before, after) and torch.allclose(after, adapted, atol=1e-5)


@pytest.mark.slow
def test_offloaded_sft_in_one_process_equals_one_process(alone: Path, inputs: dict[str, Path], tmp_path: Path) -> None:
    sft = SFT | {"per_device_train_batch_size": 8}
    job = make_job(tmp_path, "train_sft", inputs, "zero3_offload", gpus=1, sft=sft)
    assert run(job, LocalLauncher()) == End(0, ""), log_of(job)
    assert_same_training(job, alone)


def test_fsdp_that_accelerate_would_leave_out_in_silence_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer: Any = SimpleNamespace(args=SimpleNamespace(fsdp=None), is_fsdp_enabled=False)
    refuse_unsharded(trainer)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="accelerate shards with it on GPUs only"):
        refuse_unsharded(trainer)


@pytest.mark.parametrize("bf16", [True, False])
def test_recipes_precision_becomes_deepspeeds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bf16: bool) -> None:
    """The launcher always says --mixed_precision no; what counts is the recipe's key."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config
    from trl import SFTConfig

    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    try:
        arguments = SFTConfig(output_dir=str(tmp_path), bf16=bf16, use_cpu=True, report_to="none")
        assert arguments.deepspeed_plugin.deepspeed_config["bf16"]["enabled"] is bf16
    finally:
        unset_hf_deepspeed_config()
