"""The page in a real browser: it fits, shows everything, fetches nothing and runs nothing that a model wrote."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.report import Report, report
from tests.tasks.chromium import BINARY, WORST_CONTRAST, Page, assert_fits_and_is_quiet, open_page
from tests.tasks.report_fabric import (
    FabricatedRun,
    change_rows,
    fabricate_quickstart,
    grpo_history,
    read_rows,
    write_history,
)

pytestmark = pytest.mark.skipif(
    not BINARY.exists(), reason=f"{BINARY} is not installed (Debian: apt-get install chromium)"
)

SECTIONS = ["result", "stages", "data", "training", "evaluation", "completions", "provenance", "recipe"]
HOSTILE = (
    "<script>document.title='owned'</script><img src=https://example.com/x.png onerror=\"document.title='owned'\">"
    "</pre></article></main></svg><style>body{display:none}</style>{{ 7*7 }} &lt; \x00 \x1b[31m \u202e gnihton "
    + "e"
    + "\u0301" * 300
    + " 答案是 ٣٤ 🙂 "
    + "W" * 100_000
)
HOSTILE_NAME = "</title></text></svg><script>document.title='owned'</script>$\\alpha$ " + "长" * 200


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with open_page() as opened:
        yield opened


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a whole run of the quickstart's size."""
    return write_report(fabricate_quickstart(tmp_path_factory.mktemp("whole")))


@pytest.fixture(scope="module")
def hostile_html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report in which every text that a model or a user can write is hostile."""
    run = fabricate_quickstart(tmp_path_factory.mktemp("hostile"), num_questions=12, num_samples=1, num_steps=15)
    texts = {"completion": HOSTILE, "prompt": HOSTILE, "answer": HOSTILE}
    for name in ("eval_sft", "eval_grpo"):
        path = run.artifacts[name] / "completions.parquet"
        change_rows(
            path, {index: texts | {"problem_id": f"{index} {HOSTILE_NAME}"} for index in range(len(read_rows(path)))}
        )
    run.add(
        HOSTILE_NAME, "prepare_data", {"a": "grpo"}, {"filters": [{"name": HOSTILE_NAME, "num_in": 2, "num_out": 1}]}
    )
    rows = [row | {f"rewards/{HOSTILE_NAME}/mean": 0.5} for row in grpo_history(15)]
    write_history(run.add("rl", "train_grpo", {"model": HOSTILE_NAME}, {}, config={"prompt": HOSTILE}), rows)
    run.description |= {"recipe": HOSTILE_NAME, "recipe_text": HOSTILE, "overrides": [HOSTILE_NAME], "run_id": HOSTILE}
    return write_report(run)


def write_report(run: FabricatedRun) -> Path:
    out = run.write(run.root / "out")
    report(Report(), out=out, artifacts=run.artifacts)
    return out / "report.html"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_page_fits_window_and_fetches_nothing(page: Page, html: Path, width: int, dark: bool) -> None:
    page.open(html, width, dark=dark)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("innerWidth") == width
    assert_fits_and_is_quiet(page, html)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_page_text_has_readable_contrast(page: Page, html: Path, dark: bool) -> None:
    page.open(html, 1280, dark=dark)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    ratio, where = page.evaluate(WORST_CONTRAST)
    assert ratio >= 4.5, where


def test_page_dark_scheme_darkens_the_background(page: Page, html: Path) -> None:
    colours = []
    for dark in (False, True):
        page.open(html, 390, dark=dark)
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"))
    assert min(colours[0]) > 200 and max(colours[1]) < 60


def test_page_holds_every_section_and_plot(page: Page, html: Path) -> None:
    page.open(html, 1280)
    assert page.evaluate("[...document.querySelectorAll('main > section')].map(one => one.id)") == SECTIONS
    assert page.evaluate("[...document.querySelectorAll('nav a')].every(one => document.querySelector(one.hash))")
    titles = page.evaluate("[...document.querySelectorAll('figure h4')].map(one => one.textContent)")
    training = ["Loss", "Next-token accuracy", "Mean reward", "Mean of each reward", "Mean response length"]
    training += ["Longest response", "Responses cut off at the limit", "KL from the reference model"]
    training += ["Entropy of the policy", "Loss"]
    assert titles == [*training, "Accuracy", "Completion lengths", "Verdicts"]
    assert page.evaluate("document.querySelectorAll('svg.plot').length") == len(titles) - 1
    assert page.evaluate("document.querySelectorAll('svg.graph .node').length") == 8
    assert page.evaluate("document.querySelectorAll('article.example .completion').length") == 20
    assert page.evaluate("document.querySelectorAll('details.stage').length") == 8
    drawn = "[...document.querySelectorAll('svg')].every(one => one.getBoundingClientRect().height > 60)"
    assert page.evaluate(drawn)


def test_page_is_accessible_in_structure(page: Page, html: Path) -> None:
    page.open(html, 390)
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(one => Number(one.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    assert page.evaluate(
        "[...document.querySelectorAll('svg')].every(one => one.getAttribute('aria-label').length > 20)"
    )
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))
    scrolling = "[...document.querySelectorAll('.scroll, pre')].filter(one => one.scrollWidth > one.clientWidth)"
    assert page.evaluate(f"{scrolling}.every(one => one.tabIndex === 0 && one.getAttribute('aria-label'))")


def test_page_plot_text_is_legible_on_a_phone(page: Page, html: Path) -> None:
    page.open(html, 390)
    sizes = """[...document.querySelectorAll('svg.plot')].map(one => 11 * one.getBoundingClientRect().width
      / one.viewBox.baseVal.width)"""
    assert min(page.evaluate(sizes)) >= 9  # CSS pixels of the smallest text


@pytest.mark.parametrize("width", [390, 1280])
def test_page_hostile_content_is_shown_and_not_executed(page: Page, hostile_html: Path, width: int) -> None:
    page.open(hostile_html, width)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert_fits_and_is_quiet(page, hostile_html)
    assert page.evaluate("document.title").endswith(" · r1flow report")
    assert page.evaluate("document.querySelectorAll('script, img, iframe, object, main main').length") == 0
    assert page.evaluate("document.querySelectorAll('style').length") == 1
    shown = page.evaluate("document.querySelector('.completion pre').textContent")
    assert shown.startswith("<script>document.title='owned'</script><img src=https://example.com/x.png onerror=")
    assert "{{ 7*7 }} &lt; ␀ ␛[31m ⟨U+202E⟩ gnihton" in shown
    assert len(shown) < 7000 and "characters left out" in shown
    assert page.evaluate("[...document.querySelectorAll('main > section')].map(one => one.id)") == SECTIONS


def test_page_run_of_one_stage_opens_quietly(page: Page, tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path)
    run.add("data", "prepare_data", {}, {})
    path = write_report(run)
    page.open(path, 390)
    assert_fits_and_is_quiet(page, path)
    assert page.evaluate("[...document.querySelectorAll('main > section')].map(one => one.id)") == SECTIONS
