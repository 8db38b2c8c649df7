"""The other seeds of a recipe on the report's page."""

import re
from pathlib import Path
from typing import Any

from tasks.core.files import read_json, write_json
from tasks.report import Report, report
from tests.tasks.report_fabric import fabricate_quickstart, grpo_history, write_history

CAPTION = re.compile(r">\s*seed 1 [\d.]+ → [\d.]+[^<]*seed 7 [\d.]+ →")


def page_with(tmp_path: Path, siblings: list[dict[str, Any]]) -> str:
    run = fabricate_quickstart(tmp_path / "run", num_questions=20, num_steps=40)
    out = run.write(tmp_path / "out")
    job = read_json(out / "config.json")
    job["run"]["siblings"] = siblings
    write_json(out / "config.json", job)
    report(Report(), out=out, artifacts=run.artifacts)
    return (out / "report.html").read_text(encoding="utf-8")


def sibling(tmp_path: Path, seed: int) -> dict[str, Any]:
    directory = tmp_path / f"seed{seed}"
    directory.mkdir()
    write_history(directory, grpo_history(40))
    metrics = {"accuracy_before": 0.1, "accuracy_before_low": 0.05, "accuracy_before_high": 0.15}
    metrics |= {"accuracy_after": 0.4, "accuracy_after_low": 0.35, "accuracy_after_high": 0.45}
    metrics |= {"difference": 0.3, "difference_low": 0.25, "difference_high": 0.35}
    return {"seed": seed, "run_id": "r", "metrics": metrics, "histories": {"grpo": str(directory / "history.jsonl")}}


def test_report_with_other_seeds_shows_their_scores_and_curves(tmp_path: Path) -> None:
    page = page_with(tmp_path, [sibling(tmp_path, 7)])
    assert "1 (this run)" in page and "+30.0 (+25.0 to +35.0)" in page
    # The captions of reward and response length name both seeds; the fabricated run has seed 1.
    assert len(CAPTION.findall(page)) == 2


def test_report_without_other_seeds_has_no_table_of_seeds(tmp_path: Path) -> None:
    page = page_with(tmp_path, [])
    assert "(this run)" not in page and not CAPTION.search(page)


def test_report_with_a_seed_whose_files_are_gone_shows_its_scores(tmp_path: Path) -> None:
    gone = sibling(tmp_path, 7) | {"histories": {"grpo": str(tmp_path / "gone" / "history.jsonl")}}
    page = page_with(tmp_path, [gone])
    assert "+30.0 (+25.0 to +35.0)" in page and not CAPTION.search(page)
