"""The flow `nightly` on a real Prefect server, with a real evaluation of a model that has learnt nothing: 0 % right."""

import json
import re
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from r1_process import wait_until
from small_disk import fill, small_disk
from tiny_night import STAGES, SURE

from tasks.core.attempts import read_attempts
from tasks.core.errors import UserError
from tasks.core.store.nights import FOLDER, Night, NightScore, Verdict, append_night, read_nights
from tasks.core.store.provenance import collect_provenance

RECIPE = f"name: tiny\ndescription: A model from random weights, asked twelve problems\nseed: 3\nstages:\n{STAGES}"
ROW = f"recipe: {{recipe}}, stage: after, value: {{value}}, {SURE}"


@pytest.fixture
def nightly(prefect_server, tmp_path):
    """Spend a night: `nightly(rows, **parameters)`; returns the flow's final state."""
    from flows.nightly import nightly as flow

    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE)

    def spend(*rows, **parameters):
        targets = tmp_path / "targets.yaml"
        targets.write_text("targets:\n" + "".join(f"  - {{{row.replace('{recipe}', str(recipe))}}}\n" for row in rows))
        store = str(tmp_path / "store")
        return flow(**{"targets": str(targets), "store": store, **parameters}, return_state=True)

    return spend


def _row(value, *more):
    return ", ".join([ROW.replace("{value}", str(value)), *more])


def _nights(tmp_path):
    nights, notes = read_nights(tmp_path / "store")
    assert notes == []
    return nights


def _made_up(tmp_path, **fields):
    """A pass of an earlier night."""
    given = {"recipe": str(tmp_path / "tiny.yaml"), "stage": "after", "metric": "accuracy", "seed": 3}
    given |= {"verdict": Verdict.PASSED, "reason": "", "started_at": "", "ended_at": ""}
    return Night(**given | fields)


def _gpu_s(tmp_path, kind, count):
    """GPU seconds of each artifact of a kind; there must be `count`, and none without."""
    records = [json.loads(path.read_text()) for path in (tmp_path / "store").glob(f"{kind}/*/record.json")]
    seconds = [record["provenance"]["gpu_s"] for record in records]
    assert len(seconds) == count and all(one > 0 for one in seconds)
    return seconds


def _events(names):
    """The names of this session's events, once all of `names` have come."""
    from prefect.client.orchestration import get_client

    def seen():
        with get_client(sync_client=True) as client:
            found = client._client.post("/events/filter", json={"filter": {"event": {"prefix": ["r1flow.night."]}}})
        return {one["event"] for one in found.json()["events"]}

    return wait_until(lambda: seen() if names <= seen() else None, 30, f"the events {names}")


@pytest.fixture
def webhook(prefect_server):
    """What a notification block called custom-webhook/nights has sent so far."""
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    heard = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    block = CustomWebhookNotificationBlock(name="nights", url=url, json_data={"text": "{{subject}}: {{body}}"})
    block.save("nights", overwrite=True)
    yield heard
    server.shutdown()


def test_nights_write_verdicts_tell_people_rebuild_everything_and_list_what_changed(nightly, webhook, tmp_path):
    """The second night follows upon a pass, made from the first one's entry, of other packages."""
    rows = [_row(0.001), _row(0.9), "recipe: {recipe}, stage: after, value: 0.5, fixed_questions: true, source: x"]
    state = nightly(*rows, notify=["custom-webhook/nights"])
    assert state.is_failed() and "regressed: 0.0 % against 90.0 %" in state.message
    near, regressed, unknown = _nights(tmp_path)
    # near the target, but runs may differ by 7 points as long as nobody knows better
    assert [one.verdict for one in (near, regressed, unknown)] == ["inconclusive", "regressed", "inconclusive"]
    assert near.run_id == regressed.run_id and near.seed == 3 and near.overrides == ["after.seed=1"]
    assert near.identities["after"]["config"]["num_samples"] == 2
    (text,) = webhook
    assert "regressed: " in text and "0.0 % against 90.0 %" in text and "inconclusive (night 3)" in text
    assert "r1flow.night.regressed" in _events({"r1flow.night.regressed", "r1flow.night.inconclusive"})
    page = (tmp_path / "store" / FOLDER / "index.html").read_text()
    assert "Scores of" in page and "regressed" in page

    append_night(tmp_path / "store", near.model_copy(update={"verdict": Verdict.PASSED, "packages": {"trl": "1.0"}}))
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("[a-z]*/*/record.json")}
    nightly(_row(0.001), overrides=["after.top_p=0.9"])
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("[a-z]*/*/record.json")}
    assert len(first) == 3 and len(again) == 4
    assert all(again[path] > first[path] for path in first if path.parts[-3] != "evaluate")
    last = _nights(tmp_path)[-1]
    assert last.overrides == ["after.top_p=0.9", "after.seed=5"]
    assert "recipe after.config.top_p: 1.0 → 0.9" in last.changes
    assert any(change.startswith("package trl: 1.0 → ") for change in last.changes)


def test_night_whose_ledger_is_full_tells_people_and_leaves_nothing_half_written(nightly, webhook, tmp_path):
    from flows import night

    def fill_and_look():
        fill(tmp_path / "store")
        return collect_provenance()

    with small_disk(tmp_path / "store", "8m") as disk:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(night, "collect_provenance", fill_and_look)  # the last thing before a verdict is written
            state = nightly(_row(0.9), notify=["custom-webhook/nights"], overrides=["after.max_new_tokens=500"])
        error = state.result(raise_on_failure=False)
        assert isinstance(error, UserError) and f"no space left: the store {disk} has 0.0 MB free" in str(error)
        (text,) = webhook
        assert text.startswith("r1flow: the night broke off: no space left")
        assert not list((disk / FOLDER).iterdir())
        (disk / "filler").unlink()
        nightly(_row(0.9), overrides=["after.max_new_tokens=500"])
        assert [one.number for one in _nights(tmp_path)] == [1]


def test_nightly_draws_more_samples_where_they_would_decide(nightly, tmp_path):
    """Four earlier nights of the target's own seed say that runs do not differ; 24 completions are not enough."""
    row = _row(0.001, "seed: 3")
    score = NightScore(mean=0.0, low=0.0, high=0.1, num_questions=12, num_samples=2, variance=0.001)
    for _ in range(4):
        append_night(tmp_path / "store", _made_up(tmp_path, target={"value": 0.001}, score=score))
    state = nightly(row, drop=0.03, max_extra_samples=60, overrides=["after.resources.gpus=2"])
    last = _nights(tmp_path)[-1]
    assert last.num_extra_samples > 0 and last.score.num_samples == 2 + last.num_extra_samples
    assert state.is_completed() and last.verdict is Verdict.PASSED, last.reason
    assert last.gpu_hours == pytest.approx(sum(_gpu_s(tmp_path, "evaluate", 2)) / 3600)


def test_nightly_whose_run_fails_says_so_and_goes_on_to_the_next_recipe(nightly, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(RECIPE.replace("name: tiny", "name: other"))
    passed = _made_up(tmp_path, target={"value": 0.9}, packages={"trl": "1.0"})
    append_night(tmp_path / "store", passed)
    state = nightly(_row(0.9), _row(0.001).replace("{recipe}", str(other)), overrides=["after.max_new_tokens=500"])
    _, failed, also = _nights(tmp_path)
    assert state.is_failed() and failed.verdict is also.verdict is Verdict.FAILED
    assert "set max_new_tokens to at most" in failed.reason and failed.score is None
    assert any(change.startswith("package trl: 1.0 → ") for change in failed.changes) and also.changes == []


def test_night_that_fails_costs_what_was_built_and_what_was_tried(nightly, tmp_path):
    """Two GPUs for the problems, which are built; three for the evaluation, which fails."""
    more = ["problems.resources.gpus=2", "after.resources.gpus=3", "after.max_new_tokens=500"]
    nightly(_row(0.9), overrides=more, price_per_gpu_hour=2.0)
    (night,) = _nights(tmp_path)
    (built_s,) = _gpu_s(tmp_path, "prepare_data", 1)
    (staging,) = (tmp_path / "store" / ".staging").glob("evaluate-*")
    (tried,) = read_attempts(staging)
    assert tried.ended_at > tried.started_at
    assert night.gpu_hours == pytest.approx((built_s + 3 * (tried.ended_at - tried.started_at)) / 3600)
    assert night.cost == pytest.approx(2.0 * night.gpu_hours)


@pytest.mark.parametrize(
    ("rows", "parameters", "words"),
    [
        (["recipe: quickstart, stage: aftr, value: 0.5, fixed_questions: true, source: x"], {}, "nearest: after"),
        (["recipe: quickstart, stage: grpo, value: 0.5, fixed_questions: true, source: x"], {}, "no evaluate stage"),
        ([_row(0.5)], {"recipes": ["tniy"]}, "recipe tniy has no target"),
        ([_row(0.5)], {"targets": None}, "name the recipes to reproduce"),
        ([_row(0.5, "seed: 4")], {}, "every target of"),
        ([_row(0.5)], {"notify": ["slack-webhook/nowhere"]}, "notify names slack-webhook/nowhere"),
    ],
)
def test_nightly_with_a_mistake_is_refused_before_anything_runs(nightly, tmp_path, rows, parameters, words):
    state = nightly(*rows, **parameters)
    error = state.result(raise_on_failure=False)
    assert isinstance(error, UserError) and words in str(error)
    assert not list((tmp_path / "store").glob("[a-z]*/*/record.json")) and not (tmp_path / "store" / FOLDER).exists()


@pytest.fixture
def targets(tmp_path):
    """A file with one target, which the tiny recipe misses by far."""
    recipe, targets = tmp_path / "tiny.yaml", tmp_path / "targets.yaml"
    recipe.write_text(RECIPE)
    targets.write_text(f"targets:\n  - {{{_row(0.9).replace('{recipe}', str(recipe))}}}\n")
    return targets


def test_command_nightly_shows_its_stages_live_on_a_terminal(r1, targets):
    text = r1.on_terminal("nightly", "--targets", targets, exit_code=1)
    assert "tiny after.seed=1\x1b[0m" in text and re.search(r"after .*running.* s .*━.*\d+/24 completions", text)
    assert "\x1b[?25l" in text and "\x1b[?25h" in text  # the cursor goes and comes back
    assert "tiny:after regressed: 0.0 % against 90.0 %" in text and " | INFO " not in text


def test_command_nightly_prints_its_verdicts_and_ledger_lists_them(r1, targets):
    output = r1("nightly", "--targets", targets, "--set", "after.max_new_tokens=500", exit_code=1)
    assert "set max_new_tokens to at most" in output and "failed" in output
    assert re.search(r"INFO +\| .*base: built", output) and "\x1b[" not in output
    listed = r1("ledger")
    assert "tiny:after  failed" in listed and "night 1, tiny:after failed: stage after failed: evaluate" in listed
    assert json.loads(r1("ledger", "--json"))[0]["verdict"] == "failed"
    assert Path(r1("ledger", "--page").strip()).is_file()
    assert "name the recipes to reproduce" in r1("nightly", exit_code=2)
    assert "nearest: quickstart" in r1("nightly", "quickstat", exit_code=2)
