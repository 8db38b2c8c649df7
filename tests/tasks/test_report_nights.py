"""The nightly ledger on a run's report and on its own page: plots, hostile text, entries that cannot be read."""

import re
from pathlib import Path
from typing import Any

import pytest

from tasks.core.files import read_json, write_json
from tasks.core.report.nights import series_of
from tasks.core.report.nights_page import render_nights, write_nights
from tasks.core.store.nights import Night
from tasks.report import Report, report
from tests.tasks.chromium import BINARY, WORST_CONTRAST, assert_fits_and_is_quiet, open_page
from tests.tasks.report_fabric import fabricate_quickstart

HOSTILE = "<script>document.title='owned'</script>\x00 {{ 7*7 }}"


def night(number: int, mean: float | None, verdict: str = "pass", **more: Any) -> Night:
    score = {"mean": mean, "low": 0.4, "high": 0.6, "num_questions": 10, "num_samples": 1, "variance": 0.01}
    given: dict[str, Any] = {
        "number": number,
        "recipe": "quickstart",
        "stage": "after",
        "metric": "accuracy",
        "target": {"value": 0.5, "source": "a paper"},
        "verdict": verdict,
        "reason": "",
        "score": score if mean is not None else None,
        "null": 0.46,
        "started_at": "2026-11-21T01:00:00+00:00",
        "ended_at": "2026-11-21T02:00:00+00:00",
    }
    return Night.model_validate(given | more)


def test_series_has_a_plot_a_target_and_says_each_night_in_words() -> None:
    other = {"value": 0.6, "source": "a post", "seed": 0}
    first, second = series_of([night(1, 0.51), night(2, 0.2, "regressed"), night(3, 0.6, target=other)])
    assert (first.name, first.num_nights, first.nights[0].number) == ("quickstart:after", 2, 2)
    assert second.name == "quickstart:after, seed 0"
    label = re.search(r'aria-label="([^"]*)"', str(first.plot))
    assert label and label[1] == (
        "Scores of quickstart:after by night, target 50.0%: 1: 51.0% pass; 2: 20.0% regressed."
    )


def test_series_of_nights_without_a_score_has_no_plot() -> None:
    (one,) = series_of([night(1, None, "failed")])
    assert one.plot is None and one.num_nights == 1


def test_page_names_verdicts_changes_and_what_could_not_be_read_and_escapes_all() -> None:
    bad = night(2, 0.2, "regressed", reason=HOSTILE, changes=[HOSTILE])
    page = render_nights([night(1, 0.5), bad], [f"000003.json cannot be read {HOSTILE}"])
    assert "<script" not in page and "&lt;script&gt;" in page and "␀" in page and "{{ 7*7 }}" in page
    assert "Changed since the last pass" in page and "000003.json cannot be read" in page and "regressed" in page


def test_page_shows_the_commit_and_what_a_night_cost_where_a_price_was_given() -> None:
    told = render_nights([night(1, 0.5, commit="0123456789", dirty=True, gpu_hours=2.5, cost=7.5), night(2, 0.5)], [])
    assert "<code>01234567+</code>" in told and '<th class="n">cost</th>' in told and "7.50" in told
    assert "cost</th>" not in render_nights([night(1, 0.5)], [])


def test_page_without_a_night_says_how_to_spend_one() -> None:
    assert "r1 nightly" in render_nights([], [])


@pytest.mark.skipif(not BINARY.exists(), reason=f"{BINARY} is not installed (Debian: apt-get install chromium)")
def test_page_of_many_nights_fits_phone_and_desktop_in_light_and_dark(tmp_path: Path) -> None:
    nights = [night(number, 0.5, reason="a long sentence about nothing at all " * 5) for number in range(1, 200)]
    write_nights(tmp_path / "index.html", nights, [])
    with open_page() as page:
        for width, dark in ((375, False), (375, True), (1280, False), (1280, True)):
            page.open(tmp_path / "index.html", width, dark=dark)
            assert_fits_and_is_quiet(page, tmp_path / "index.html")
            assert page.evaluate(WORST_CONTRAST)[0] >= 4.5
        assert page.evaluate("document.querySelectorAll('svg.plot').length") == 1
        assert page.evaluate("document.querySelectorAll('tbody tr').length") == 60


def test_report_draws_the_nights_of_its_recipe_and_notes_what_it_cannot_read(tmp_path: Path) -> None:
    run = fabricate_quickstart(tmp_path / "run", num_questions=20, num_steps=40)
    out = run.write(tmp_path / "out")
    job = read_json(out / "config.json")
    job["run"]["nights"] = [night(1, 0.5).model_dump(mode="json", by_alias=True), {"number": "?"}]
    write_json(out / "config.json", job)
    report(Report(), out=out, artifacts=run.artifacts)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Scores of quickstart:after by night" in page and "1 night, the last one\npass" in page
    assert "An entry of the nightly ledger could not be read" in page
