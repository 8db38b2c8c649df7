"""Stage mix_traces: how many of which, each once, in a new order, and what train_sft makes of it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from tasks.core.errors import UserError
from tasks.core.trace_files import drawn_rows, write_at
from tasks.mix_traces import MixTracesConfig, mix_traces
from tests.tasks.test_prepare_data import metrics_of
from tests.tasks.training_inputs import folder, parsed


def row(i: int, **more: Any) -> dict[str, Any]:
    prompt = [{"role": "user", "content": f"Question {i}?"}]
    return {"problem_id": f"p{i}", "task": "math", "prompt": prompt, "completion": f"Answer {i}."} | more


def traces(root: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), folder(root) / "traces.parquet")
    return root


def run(out: Path, num_traces: dict[str, int | None], seed: int = 0, **inputs: Path) -> list[dict[str, Any]]:
    mix_traces(parsed(MixTracesConfig, num_traces=num_traces, seed=seed), out=folder(out), **inputs)
    return pq.read_table(out / "traces.parquet").to_pylist()


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    verified = [row(i, verdict="correct", score=1.0) for i in range(6)]  # as verify_traces, with more columns
    general = [row(i, source="someone/chats") for i in (4, 5, 6, 7, 8, 8)]  # two are in the other, one is there twice
    return {"traces": traces(tmp_path / "verified", verified), "more": traces(tmp_path / "general", general)}


def test_mix_traces_takes_all_of_one_and_some_of_the_other_once_each(inputs: dict[str, Path], tmp_path: Path) -> None:
    rows = run(tmp_path / "out", {"traces": None, "more": 2}, **inputs)
    assert Counter(one["input"] for one in rows) == {"traces": 6, "more": 2}
    assert len({one["completion"] for one in rows}) == 8
    assert {one["source"] for one in rows if one["input"] == "more"} == {"someone/chats"}
    assert {one["source"] for one in rows if one["input"] == "traces"} == {None}
    assert list(rows[0]) == ["problem_id", "task", "prompt", "completion", "source", "input"]
    metrics = metrics_of(tmp_path / "out")
    assert metrics["filters"] == [
        {"name": "unique", "num_in": 12, "num_out": 9},
        {"name": "taken", "num_in": 9, "num_out": 8},
    ]
    assert metrics["inputs"]["more"] == {"num_in": 6, "num_unique": 3, "num_traces": 2}


def test_mix_traces_order_is_drawn_from_the_seed(inputs: dict[str, Path], tmp_path: Path) -> None:
    orders = [
        run(tmp_path / f"{i}", {"traces": None, "more": None}, seed, **inputs) for i, seed in enumerate((0, 0, 1))
    ]
    assert orders[0] == orders[1] != orders[2]
    assert [one["problem_id"] for one in orders[0]] != sorted(one["problem_id"] for one in orders[0])
    assert sorted(map(str, orders[0])) == sorted(map(str, orders[2]))


def test_mix_traces_third_input(inputs: dict[str, Path], tmp_path: Path) -> None:
    third = traces(tmp_path / "third", [row(i) for i in (0, 20)])
    rows = run(tmp_path / "out", {"traces": 1, "more": 1, "more_2": None}, more_2=third, **inputs)
    assert {one["problem_id"] for one in rows if one["input"] == "more_2"} == {"p20"}  # p0 stands in `traces`


@pytest.mark.parametrize(
    ("num_traces", "message"),
    [
        ({"traces": None}, "num_traces names no more: say how many of it"),
        ({"traces": None, "more": None, "more_2": 3}, "num_traces names more_2, which is no input of this stage"),
        (
            {"traces": None, "more": 4},
            "holds 6 traces, 3 of which stand nowhere before, but num_traces.more asks for 4",
        ),
    ],
)
def test_mix_traces_numbers_that_do_not_fit_are_refused(
    inputs: dict[str, Path], tmp_path: Path, num_traces: dict[str, int | None], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path / "out", num_traces, **inputs)


def test_mix_traces_input_without_traces_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`more` must point at a stage with traces"):
        run(tmp_path / "out", {"traces": None, "more": None}, traces=inputs["traces"], more=tmp_path)
    empty = folder(tmp_path / "empty")
    pq.write_table(pq.read_table(inputs["more"] / "traces.parquet").slice(0, 0), empty / "traces.parquet")
    with pytest.raises(UserError, match=r"holds 0 traces, .* at least one is needed"):
        run(tmp_path / "out", {"traces": None, "more": None}, traces=inputs["traces"], more=empty)


@pytest.mark.parametrize(
    ("num_traces", "message"),
    [({"moer": 1}, "'moer' is no input; nearest: more"), ({"more": 0}, "more: 0 is not allowed")],
)
def test_mix_traces_config_refuses(num_traces: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        parsed(MixTracesConfig, num_traces=num_traces, seed=0)


def test_write_at_puts_every_row_at_its_place(tmp_path: Path) -> None:
    import numpy as np

    num_rows = 5_000  # more than one file of 2,048
    order = drawn_rows(num_rows, num_rows - 100, "0")
    places_N = np.full(num_rows, -1)
    places_N[np.random.default_rng(0).permutation(order)] = np.arange(len(order))
    batches = pa.table({"i": np.arange(num_rows)}).to_batches(max_chunksize=700)
    write_at(places_N, batches, tmp_path / "rows.parquet", tmp_path / "scratch")
    found = pq.read_table(tmp_path / "rows.parquet")["i"].to_numpy()
    assert (places_N[found] == np.arange(len(order))).all() and len(found) == len(order)
    assert not (tmp_path / "scratch").exists()
