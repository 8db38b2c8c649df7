"""`r1 site`: what the page of all runs shows, where it links to, and how it behaves in a real browser."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from flows.site import write_site
from tasks.core.errors import UserError
from tasks.core.store import Store
from tests.flows.stored_runs import publish, publish_evaluation, write_many_runs, write_run
from tests.tasks.chromium import BINARY, WORST_CONTRAST, Page, assert_fits_and_is_quiet, open_page

needs_browser = pytest.mark.skipif(
    not BINARY.exists(), reason=f"{BINARY} is not installed (Debian: apt-get install chromium)"
)
HOSTILE = (
    "</script></title><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">'\"\u202e"
)
SHOWN = "[...document.querySelectorAll('#runs tbody tr')].filter(one => !one.hidden)"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "a store")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 1,000 runs."""
    store = Store(tmp_path_factory.mktemp("many") / "store")
    write_many_runs(store, 1000)
    return write_site(store, store.root / "site").path


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with open_page() as opened:
        yield opened


def write(store: Store, run_id: str = "run-a", **changes: Any) -> str:
    """One run with an evaluation and a report; returns the report's fingerprint."""
    report = publish(store, "report", {}, {"difference": 0.236, "difference_low": 0.208, "difference_high": 0.265})
    (store.path("report", report) / "report.html").write_text("<!DOCTYPE html>")
    evaluation = publish_evaluation(store, [[1], [0]])
    write_run(store, run_id, [("eval", "evaluate", evaluation), ("report", "report", report)], **changes)
    return report


def text_of(store: Store, directory: Path | None = None) -> str:
    return write_site(store, directory or store.root / "site").path.read_text(encoding="utf-8")


def words_of(html: str) -> str:
    """The words of the table, tags and blanks left out."""
    return " ".join(re.sub("<[^>]*>", " ", html[html.index("<tbody>") : html.index("</tbody>")]).split())


def test_site_shows_each_run_with_score_interval_and_difference(store: Store) -> None:
    write(store, overrides=["seed=3", "grpo.max_steps=4"], seed=3)
    words = words_of(text_of(store))
    assert words == (
        "quickstart run-a seed 3 grpo.max_steps=4 2026-01-01 00:00 done 10 min 00 s "
        "50.0% (40.0% to 60.0%) countdown eval, n&nbsp;=&nbsp;– +23.6 (+20.8 to +26.5)"
    )


def test_site_shows_the_last_evaluation_of_each_benchmark_the_last_first(store: Store) -> None:
    evaluations = [
        publish(store, "evaluate", {"index": index}, {"benchmark": benchmark, "accuracy": index / 10})
        for index, benchmark in enumerate(("countdown", "gsm8k", "countdown"))
    ]
    write_run(store, "run-a", [(f"eval_{index}", "evaluate", one) for index, one in enumerate(evaluations)])
    words = words_of(text_of(store))
    assert "20.0% countdown eval_2" in words and words.index("20.0%") < words.index("10.0% gsm8k eval_1")
    assert "eval_0" not in words


def test_site_links_are_relative_in_the_store_and_whole_outside(store: Store, tmp_path: Path) -> None:
    report = write(store)
    link = re.compile(r'<a href="([^"]*)">run-a</a>')
    inside = link.findall(text_of(store))
    assert inside == [f"../report/{report}/report.html"]
    assert (store.root / "site" / unquote(inside[0])).is_file()
    assert link.findall(text_of(store, store.root)) == [f"report/{report}/report.html"]
    outside = link.findall(text_of(store, tmp_path / "b"))
    assert outside == [(store.root / "report" / report / "report.html").as_uri()] and "%20" in outside[0]


def test_site_leads_to_the_ledger_of_nights_where_there_is_one(store: Store) -> None:
    write(store)
    assert "nightly" not in text_of(store)
    (store.root / "nights").mkdir()
    (store.root / "nights" / "index.html").write_text("<!DOCTYPE html>")
    assert '<a href="../nights/index.html">The nightly reproductions</a>' in text_of(store)


def test_site_run_without_report_or_evaluation_has_neither(store: Store) -> None:
    (store.path("report", write(store)) / "report.html").unlink()
    write_run(store, "run-b", [("eval", "evaluate", "0" * 20)], state="failed", recipe="other", ended_at=None)
    html = text_of(store)
    assert "<a href" not in html
    assert "other run-b seed 0 2026-01-01 00:00 failed – none –" in words_of(html)


def test_site_damaged_files_are_counted_and_the_rest_is_shown(store: Store) -> None:
    report = write(store)
    (store.path("report", report) / "record.json").write_text("{")
    (store.root / "runs" / "torn").mkdir()
    (store.root / "runs" / "torn" / "run.json").write_text('{"schema"')
    html = text_of(store)
    assert "1 run as of" in html and "1 more cannot be shown" in html
    assert "+23.6" not in html and "50.0%" in html


def test_site_clock_that_was_set_back_gives_no_duration(store: Store) -> None:
    write(store, ended_at="2025-12-31T23:00:00+00:00")
    assert "done – 50.0%" in words_of(text_of(store))


def test_site_of_an_empty_store_says_how_to_begin(store: Store) -> None:
    html = text_of(store)
    assert "No run yet" in html and "<script" not in html


def test_site_written_again_shows_what_is_new_and_leaves_nothing_else(store: Store) -> None:
    write(store)
    first = write_site(store, store.root / "site")
    write(store, "run-b")
    again = write_site(store, store.root / "site")
    assert (first.num_runs, again.num_runs) == (1, 2)
    assert [one.name for one in (store.root / "site").iterdir()] == ["index.html"]
    assert [path.parent.name for path in store.artifacts()] == ["evaluate", "report"]  # the page is none


def test_site_in_a_place_that_cannot_be_is_refused(store: Store, tmp_path: Path) -> None:
    write(store)
    with pytest.raises(UserError, match=r"would pass for an artifact of .*: give .*a store/site, or a folder outside"):
        write_site(store, store.root / "site" / "today")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write index.html into .*file: File exists"):
        write_site(store, tmp_path / "file")


@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_site_of_1000_runs_fits_and_fetches_nothing(page: Page, many: Path, width: int, dark: bool) -> None:
    page.open(many, width, dark=dark)
    assert page.evaluate(f"{SHOWN}.length") == 1000
    assert page.evaluate("document.getElementById('number').textContent") == "1,000 of 1,000 shown"
    assert_fits_and_is_quiet(page, many)
    link = page.evaluate("document.querySelector('#runs a').href")
    assert Path(unquote(link.removeprefix("file://"))).is_file()


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_site_text_has_readable_contrast(page: Page, tmp_path: Path, dark: bool, width: int) -> None:
    store = Store(tmp_path)
    write_many_runs(store, 20)
    page.open(write_site(store, tmp_path / "site").path, width, dark=dark)
    ratio, where = page.evaluate(WORST_CONTRAST)
    assert ratio >= 4.5, where


def choose(page: Page, **values: str) -> list[str]:
    """Fill in filters as a reader does; the ids of the runs that are then shown, from top to bottom."""
    for field, value in values.items():
        page.evaluate(
            f"fields.{field}.value = {value!r}; fields.{field}.dispatchEvent(new Event('input', {{bubbles: 1}}))"
        )
    return page.evaluate(f"{SHOWN}.map(one => one.querySelector('a').textContent)")


@needs_browser
def test_site_filters_narrow_together_and_clear(page: Page, many: Path) -> None:
    page.open(many, 1280)
    mini = choose(page, recipe="mini-r1")
    assert len(mini) == 200 and all(one.startswith("mini-r1-") for one in mini)
    failed = choose(page, state="failed")
    assert 0 < len(failed) < len(mini) and set(failed) < set(mini)
    assert page.evaluate(f"{SHOWN}.every(one => one.innerText.includes('failed'))")
    one = int(failed[0].rpartition("-")[2])
    assert choose(page, text=f"MAX_STEPS={one * 3} mini") == [failed[0]]
    assert page.evaluate("document.getElementById('number').textContent") == "1 of 1,000 shown"
    assert choose(page, text="no such run") == []
    assert page.evaluate("document.getElementById('nothing').hidden") is False
    page.evaluate("document.querySelector('button[type=reset]').click()")
    assert page.evaluate(f"new Promise(done => setTimeout(() => done({SHOWN}.length), 50))") == 1000


@needs_browser
def test_site_benchmark_shows_and_sorts_its_scores_alone(page: Page, many: Path) -> None:
    page.open(many, 1280)
    choose(page, benchmark="aime24")
    page.evaluate("document.querySelector('[data-key=score]').click()")
    visible = "[...one.querySelectorAll('.score')].filter(one => !one.hidden)"
    scores = page.evaluate(f"{SHOWN}.map(one => {visible}.map(one => [one.dataset.benchmark, +one.dataset.mean]))")
    assert all(len(one) == 1 and one[0][0] == "aime24" for one in scores)
    means = [one[0][1] for one in scores]
    assert means == sorted(means, reverse=True) and means[0] > means[-1]
    page.evaluate("document.querySelector('[data-key=score]').click()")
    assert page.evaluate(f"{SHOWN}.map(one => +{visible}[0].dataset.mean)") == means[::-1]
    assert page.evaluate("document.querySelector('[aria-sort]').textContent") == "Accuracy"


@needs_browser
def test_site_runs_without_a_value_stand_last_either_way(page: Page, store: Store) -> None:
    write(store, "run-a")
    write_run(store, "run-b", [], ended_at=None, started_at="2026-02-01T00:00:00+00:00")
    write(store, "run-c", ended_at="2026-01-01T09:00:00+00:00", started_at="2026-01-01T00:00:01+00:00")
    page.open(write_site(store, store.root / "site").path, 1280)
    names = f"{SHOWN}.map(one => one.querySelector('a, .muted').textContent)"
    assert page.evaluate(names) == ["run-b", "run-c", "run-a"]  # newest first
    click = "document.querySelector('[data-key=wall]').click()"
    assert page.evaluate(f"{click}; {names}") == ["run-c", "run-a", "run-b"]
    assert page.evaluate(f"{click}; {names}") == ["run-a", "run-c", "run-b"]


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_site_hostile_names_are_shown_and_not_executed(page: Page, store: Store, width: int) -> None:
    numbers = {"benchmark": HOSTILE + "W" * 300, "accuracy": 0.5}
    evaluation = publish(store, "evaluate", {}, numbers)
    stages = [(HOSTILE, "evaluate", evaluation)]
    write_run(store, "a", stages, recipe=HOSTILE, overrides=[HOSTILE, "W" * 500], started_at=HOSTILE)
    path = write_site(store, store.root / "site").path
    page.open(path, width)
    assert_fits_and_is_quiet(page, path)
    assert page.evaluate("document.title") == "Runs · r1flow"
    assert page.evaluate("[document.scripts.length, document.querySelectorAll('img').length]") == [1, 0]
    assert "<script>document.title='owned'</script>" in page.evaluate("document.querySelector('.recipe').textContent")
    assert page.evaluate(f"fields.recipe.selectedIndex = 1, filter(), {SHOWN}.length") == 1


@needs_browser
def test_site_script_that_is_not_its_own_is_blocked(page: Page, store: Store) -> None:
    write(store)
    path = write_site(store, store.root / "site").path
    html = path.read_text(encoding="utf-8")
    path.write_text(html.replace("</main>", "<script>document.title = 'owned'</script></main>"), encoding="utf-8")
    page.open(path, 1280)
    assert page.evaluate("document.title") == "Runs · r1flow"
    assert any("Content Security Policy" in one for one in page.complaints)


def test_site_command_writes_into_the_store_by_default(offline_r1: Any) -> None:
    write(Store(offline_r1.store))
    assert offline_r1("site") == f"1 run: {offline_r1.store}/site/index.html\n"
