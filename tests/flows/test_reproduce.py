"""The Prefect flow on a real Prefect server: states, artifacts, retries, parallel stages, failures."""

import json
import uuid
from pathlib import Path

import pytest
from r1_process import wait_until

PAIR = """\
  first: {stage: toy}
  second: {stage: toy, source: first}
"""
BRANCHES = """\
  bad: {stage: toy, fail: crash, label: bad}
  after-bad: {stage: toy, source: bad, label: after-bad}
  good: {stage: toy, num_steps: 4, label: good}
  after-good: {stage: toy, source: good, label: after-good}
"""


@pytest.fixture
def reproduce(prefect_server, tmp_path):
    """Run a recipe in this process: `reproduce(stages, rebuild=[...], jobs=2)`."""
    from flows.reproduce import reproduce as flow

    def run(stages, **parameters):
        path = tmp_path / "test.yaml"
        path.write_text(f"name: test\ndescription: A test\nseed: 0\nstages:\n{stages}")
        return flow(recipe=str(path), store=str(tmp_path / "store"), **parameters)

    return run


def _task_runs():
    """{task run's name: state's name} of the newest flow run, as the server has it."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as client:
        newest = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)[0]
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[newest.id]))
        return {run.name: run.state.name for run in client.read_task_runs(flow_run_filter=chosen)}


def _run_json(store):
    newest = max(store.glob("runs/*/run.json"), key=lambda path: path.stat().st_mtime_ns)
    return json.loads(newest.read_text())


def _states(store):
    return {stage["name"]: stage["state"] for stage in _run_json(store)["stages"]}


def _until_task_runs(expected):
    """Task runs reach the server's tables as events, a moment later."""
    wait_until(lambda: _task_runs() == expected, 30, f"the task runs {expected}")


def test_flow_first_completes_and_then_shows_cached_on_the_server(reproduce, tmp_path):
    built = reproduce(PAIR)
    _until_task_runs({"first": "Completed", "second": "Completed"})
    reused = reproduce(PAIR)
    _until_task_runs({"first": "Cached", "second": "Cached"})
    assert [one["cached"] for one in built["stages"].values()] == [False, False]
    assert [one["cached"] for one in reused["stages"].values()] == [True, True]
    for name in ("first", "second"):
        assert built["stages"][name]["fingerprint"] == reused["stages"][name]["fingerprint"]
        assert built["stages"][name]["metrics"] == reused["stages"][name]["metrics"]
    assert _states(tmp_path / "store") == {"first": "cached", "second": "cached"}
    assert _run_json(tmp_path / "store")["state"] == "done"


def test_flow_publishes_metrics_and_the_report_as_prefect_artifacts(reproduce):
    from prefect.artifacts import Artifact

    name = f"toy-{uuid.uuid4().hex[:8]}"  # artifacts are looked up by key, over all runs of the server
    page = f"page-{uuid.uuid4().hex[:8]}"
    result = reproduce(f"  {name}: {{stage: toy}}\n  {page}: {{stage: report}}\n")
    table = Artifact.get(f"metrics-{name}")
    assert table.type == "table"
    accuracy = result["stages"][name]["metrics"]["accuracy"]
    assert json.loads(table.data) == [{"metric": "accuracy", "value": accuracy}]
    assert f"toy/{result['stages'][name]['fingerprint']}" in table.description
    link = Artifact.get(f"report-{page}")
    assert Path(result["report"]).as_uri() in link.data
    assert Path(result["report"]).is_file()


def test_flow_tries_a_transient_failure_again_and_resumes(reproduce, tmp_path, monkeypatch):
    monkeypatch.setattr("flows.reproduce.RETRY_DELAY_S", 0)
    log = tmp_path / "log"
    reproduce(f"  only: {{stage: toy, fail: transient-once, log: {log}}}\n", rebuild=["only"])
    assert len(log.read_text().splitlines()) == 2
    assert _states(tmp_path / "store") == {"only": "built"}


@pytest.mark.parametrize("fail", ["crash", "user", "die"])
def test_flow_does_not_repeat_a_failure_that_would_happen_again(reproduce, tmp_path, monkeypatch, fail):
    from flows.reproduce import RunFailed

    monkeypatch.setattr("flows.reproduce.RETRY_DELAY_S", 0)
    log = tmp_path / "log"
    with pytest.raises(RunFailed, match="stage only failed"):
        reproduce(f"  only: {{stage: toy, fail: {fail}, log: {log}}}\n")
    assert len(log.read_text().splitlines()) == 1
    assert _states(tmp_path / "store") == {"only": "failed"}
    assert _run_json(tmp_path / "store")["state"] == "failed"


@pytest.mark.parametrize("jobs", [1, 3])
def test_flow_with_a_failed_stage_finishes_the_independent_ones(reproduce, tmp_path, jobs):
    from flows.reproduce import RunFailed

    with pytest.raises(RunFailed) as failed:
        reproduce(BRANCHES, jobs=jobs)
    assert str(failed.value).count("stage bad failed: ValueError: the toy was told to crash") == 1
    assert [failure.stage_name for failure in failed.value.failures] == ["bad"]
    assert _states(tmp_path / "store") == {
        "bad": "failed", "after-bad": "pending", "good": "built", "after-good": "built",
    }  # fmt: skip
    _until_task_runs({"bad": "Failed", "after-bad": "NotReady", "good": "Completed", "after-good": "Completed"})


def test_flow_reports_every_failed_stage_once(reproduce):
    from flows.reproduce import RunFailed

    with pytest.raises(RunFailed) as failed:
        reproduce("  one: {stage: toy, fail: user}\n  two: {stage: toy, fail: user, num_steps: 4}\n", jobs=2)
    assert [failure.stage_name for failure in failed.value.failures] == ["one", "two"]
    assert str(failed.value).count("num_steps is silly") == 2


@pytest.mark.parametrize(("jobs", "most"), [(1, 1), (2, 2)])
def test_flow_runs_as_many_stages_at_a_time_as_told(reproduce, tmp_path, monkeypatch, jobs, most):
    """Three stages of 1 s, of which one waits for another: with two jobs the third must not wait for it."""
    from flows.build import Builder

    running, peaks, ended = set(), [], []
    original = Builder._watch

    def watch(self, stage, job, process):
        running.add(stage.name)
        peaks.append(set(running))
        original(self, stage, job, process)
        running.discard(stage.name)
        ended.append(stage.name)

    monkeypatch.setattr(Builder, "_watch", watch)
    reproduce(
        "  long: {stage: toy, step_s: 1.0}\n  next: {stage: toy, source: long}\n  other: {stage: toy, num_steps: 4}\n",
        jobs=jobs,
    )
    assert max(map(len, peaks)) == most
    assert ended == (["long", "next", "other"] if jobs == 1 else ["other", "long", "next"])


def test_flow_two_stages_of_one_identity_build_it_once(reproduce, tmp_path):
    log = tmp_path / "log"
    result = reproduce(f"  one: {{stage: toy, log: {log}}}\n  two: {{stage: toy, log: {log}}}\n", jobs=2)
    assert len(log.read_text().splitlines()) == 1
    assert sorted(one["cached"] for one in result["stages"].values()) == [False, True]


def test_flow_rebuild_builds_a_stage_anew_and_keeps_the_rest(reproduce, tmp_path):
    log = tmp_path / "log"
    stages = f"  first: {{stage: toy, log: {log}}}\n  second: {{stage: toy, source: first, log: {log}}}\n"
    reproduce(stages)
    result = reproduce(stages, rebuild=["first"])
    assert {name: one["cached"] for name, one in result["stages"].items()} == {"first": False, "second": True}
    assert [line.split()[2] for line in log.read_text().splitlines()] == ["0", "0", "0"]


def test_flow_records_the_code_that_ran_not_the_code_at_publication(reproduce, tmp_path, monkeypatch):
    from flows import build
    from tasks.core.store import code_hash, read_record

    hashes = iter(["at the start", "edited meanwhile"])
    monkeypatch.setattr(build, "code_hash", lambda stage: next(hashes, code_hash(stage)))
    result = reproduce("  only: {stage: toy}\n")
    assert read_record(Path(result["stages"]["only"]["path"])).code == "at the start"


def test_flow_says_when_a_hit_was_built_by_other_code(reproduce, tmp_path, monkeypatch):
    from flows import build

    told = []
    monkeypatch.setattr("flows.reproduce._log_events", lambda log: told.append)
    reproduce("  only: {stage: toy}\n")
    monkeypatch.setattr(build, "code_hash", lambda stage: "other code")
    assert reproduce("  only: {stage: toy}\n")["stages"]["only"]["cached"]
    drifted = [event.text for event in told if event.kind == "drifted"]
    assert drifted == ["was built by other code and is kept; --rebuild only builds it anew"]
