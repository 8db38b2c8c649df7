"""Disk that checkpoints take, by hand: a number is bytes a parameter, times parameters, times copies."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.core import checkpoint_disk
from tasks.core.checkpoint_disk import check_checkpoint_disk, checkpoint_disk_gb
from tasks.core.errors import UserError

BILLION = 1_000_000_000


@pytest.mark.parametrize(
    ("given", "gb"),
    [
        ({}, 3 * (4 + 8) + 4),  # two kept and one being written: weights and two moments in float32; and the model
        ({"weight_bytes": 2}, 3 * (2 + 4) + 2),  # all in bfloat16
        ({"weight_bytes": 2, "is_deepspeed": True}, 3 * (2 + 12) + 2),
        ({"optimizer": "adamw_8bit"}, 3 * (4 + 2) + 4),
        ({"optimizer": "adafactor"}, 3 * 4 + 4),
        ({"optimizer": "lion_32bit"}, 3 * (4 + 4) + 4),
        ({"keep_last": 18}, 19 * 12 + 4),
        ({"keep_last": 0}, 4),
        ({"trainable": BILLION // 100, "weight_bytes": 2}, 3 * (0.04 + 0.08) + 0.04 + 2),
    ],
)
def test_checkpoint_disk_gb_of_a_billion_parameters(given: dict[str, Any], gb: float) -> None:
    assert checkpoint_disk_gb(BILLION, **given) == pytest.approx(gb)


def test_check_checkpoint_disk_names_the_numbers_and_the_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    args = SimpleNamespace(
        save_total_limit=2, max_steps=100, save_steps=50, optim="adamw_torch", save_strategy="steps", deepspeed=None
    )
    trainer: Any = SimpleNamespace(args=args, model=torch.nn.Linear(999, 1000))  # 1,000,000 parameters with the bias
    trainer.model.dtype = torch.float32
    monkeypatch.setattr(checkpoint_disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=40_000_001))
    check_checkpoint_disk(trainer, tmp_path)  # 40 MB: 3 x 12 + 4
    monkeypatch.setattr(checkpoint_disk, "GB", 1e6)
    monkeypatch.setattr(checkpoint_disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=39_000_000))
    with pytest.raises(
        UserError, match=r"about 40\.0 GB, but .* has 39\.0 GB free: 1,000,000 parameters.*save_total_l"
    ):
        check_checkpoint_disk(trainer, tmp_path)
    left = tmp_path / "work" / "checkpoints" / "checkpoint-50"
    left.mkdir(parents=True)
    (left / "optimizer.pt").write_bytes(bytes(1_000_001))  # of an interrupted run, which goes on from it
    check_checkpoint_disk(trainer, tmp_path)
    args.save_strategy = "no"
    monkeypatch.setattr(checkpoint_disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=5_000_000))
    check_checkpoint_disk(trainer, tmp_path)
