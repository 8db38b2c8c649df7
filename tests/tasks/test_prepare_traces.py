"""Stage prepare_traces: every way a row becomes a trace, every way it does not, and nothing held out gets through."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from tasks.core.errors import UserError
from tasks.prepare_traces import PrepareTracesConfig, prepare_traces
from tests.tasks.hub_server import COMMIT, HubServer
from tests.tasks.test_prepare_data import metrics_of, prepared, write
from tests.tasks.training_inputs import ROOT, folder, parsed

THOUGHT = "<think>\n1 and 1 are 2.\n</think>\n\n2"


def talk(question: str, answer: str = THOUGHT) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


TALKS = [talk(f"What is {i} + {i}?", f"<think>\nTwice {i}.\n</think>\n\n{2 * i}") for i in range(6)]


def source_of(path: Path, **columns: Any) -> dict[str, Any]:
    return {"kind": "local", "path": str(path)} | (columns or {"messages_column": "messages"})


def run(out: Path, source: dict[str, Any], problems: Path | None = None, **values: Any) -> list[dict[str, Any]]:
    config = parsed(PrepareTracesConfig, source=source, **({"num_traces": None, "seed": 0} | values))
    prepare_traces(config, out=folder(out), **({"problems": problems} if problems else {}))
    return pq.read_table(out / "traces.parquet").to_pylist()


def dropped(out: Path) -> list[tuple[int, str, str | None]]:
    return [(row["row"], row["filter"], row["detail"]) for row in pq.read_table(out / "dropped.parquet").to_pylist()]


def test_prepare_traces_messages_become_prompt_and_completion(tmp_path: Path) -> None:
    rows = [
        talk("What is 1 + 1?"),
        {
            "messages": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "Hello."},
                {"from": "gpt", "value": "Hello!"},
                {"from": "human", "value": "What is 2 + 2?"},
                {"from": "gpt", "value": "4"},
                {"from": "human", "value": "Thanks."},
            ]
        },
    ]
    first, second = run(tmp_path, source_of(write(tmp_path / "rows.jsonl", rows)))
    assert first["prompt"] == [{"role": "user", "content": "What is 1 + 1?"}] and first["completion"] == THOUGHT
    assert [message["role"] for message in second["prompt"]] == ["system", "user", "assistant", "user"]
    assert second["prompt"][-1]["content"] == "What is 2 + 2?" and second["completion"] == "4"
    assert (first["task"], first["source"]) == ("text", "local") and first["problem_id"] != second["problem_id"]


def test_prepare_traces_system_prompt_takes_the_place_of_the_datas(tmp_path: Path) -> None:
    row = {"messages": [{"role": "system", "content": "Old."}, *talk("Why?")["messages"]]}
    source = source_of(write(tmp_path / "rows.jsonl", [row]))
    assert run(tmp_path / "own", source)[0]["prompt"][0] == {"role": "system", "content": "Old."}
    replaced = run(tmp_path / "new", source, system_prompt="New words.")[0]["prompt"]
    assert replaced == [{"role": "system", "content": "New words."}, {"role": "user", "content": "Why?"}]
    named = run(tmp_path / "named", source, system_prompt="r1_chinese")[0]["prompt"][0]["content"]
    assert named.startswith("你解题时先思考")


@pytest.mark.parametrize(
    ("columns", "row", "completion"),
    [
        ({"prompt_column": "p", "completion_column": "c"}, {"p": "Why?", "c": "So."}, "So."),
        ({"prompt_column": "p", "completion_column": "c"}, {"p": talk("Why?")["messages"][:1], "c": "So."}, "So."),
        ({"question_column": "q", "answer_column": "a"}, {"q": "Why?", "a": 7}, "7"),
        (
            {"question_column": "q", "thought_column": "t.0", "answer_column": "a"},
            {"q": "Why?", "t": [" Hm. "], "a": "7\n"},
            "<think>\nHm.\n</think>\n\n7",
        ),
        (
            {"question_column": "q", "thought_column": "a", "answer_column": "a", "answer_after": "####"}
            | {"write_answer": "boxed"},
            {"q": "Why?", "a": "3 + 4 = 7\n#### 7"},
            "<think>\n3 + 4 = 7\n</think>\n\n\\boxed{7}",
        ),
        (
            {"question_column": "q", "thought_column": "t", "answer_column": "a", "write_answer": "answer_tags"},
            {"q": "Why?", "t": "Hm.", "a": "7"},
            "<think>\nHm.\n</think>\n\n<answer>7</answer>",
        ),
    ],
)
def test_prepare_traces_columns_make_a_completion(
    tmp_path: Path, columns: dict[str, str], row: dict[str, Any], completion: str
) -> None:
    rows = run(tmp_path, source_of(write(tmp_path / "rows.jsonl", [row]), **columns))
    assert [row["completion"] for row in rows] == [completion]
    assert rows[0]["prompt"] == [{"role": "user", "content": "Why?"}]


def test_prepare_traces_each_filter_drops_its_rows_and_says_why(tmp_path: Path) -> None:
    bench = write(tmp_path / "bench.jsonl", [{"q": "How many cows has the farmer with nine white and two black ones?"}])
    benchmark = {"kind": "local", "path": str(bench), "question_column": "q", "answer_column": "q"}
    problems = tmp_path / "problems"
    held_out = write(tmp_path / "held.jsonl", [{"q": f"What is {i} + {i}?", "a": str(2 * i)} for i in range(2)])
    prepared(problems, source_of(held_out, question_column="q", answer_column="a"), 1, 1)
    split = {row["split"]: row for row in pq.read_table(problems / "problems.parquet").to_pylist()}
    learnt, hidden = (split[name]["prompt"][0]["content"] for name in ("train", "eval"))
    rows = [
        talk(learnt),
        talk(hidden.replace(" ", "  ").upper().rstrip("?")),  # the same question all the same
        talk("Tell me: how many cows has the farmer with nine white and two black ones?"),
        talk("Is it long?", "x" * 101),
        {"messages": []},
        {"messages": None},
        {"messages": [{"role": "user", "content": "And?"}]},
        {"messages": [{"role": "assistant", "content": "Hello!"}]},
        talk("Empty?", " "),
        {"messages": [{"role": "user", "content": "What?"}, {"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": None}]},
        talk("NUL?", "a\0b"),
        talk(learnt),
    ]
    filters = {"max_chars": 100, "decontaminate": {"ngram": 8, "benchmarks": {"cows": benchmark}}}
    kept = run(tmp_path, source_of(write(tmp_path / "rows.jsonl", rows)), problems, filters=filters)
    assert [row["prompt"][0]["content"] for row in kept] == [learnt]
    found = dropped(tmp_path)
    names = ["not held out", "in no benchmark", "completion length", *["usable"] * 8, "unique"]
    assert [(row, name) for row, name, _ in found] == list(enumerate(names, start=1))
    assert str(found[1][2]).startswith("cows: 8-gram") and found[2][2] == "101 characters"
    assert [detail for _, name, detail in found if name == "usable"] == [
        "no messages",
        "no messages",
        "no message of the assistant",
        "no question: no message of the user before the completion, or a blank one",
        "the completion is blank",
        "a message of 'tool', who is neither system, user nor assistant",
        "a message of user whose content is NoneType, not text",
        "completion holds a NUL character",
    ]
    metrics = metrics_of(tmp_path)
    assert [(one["name"], one["num_in"], one["num_out"]) for one in metrics["filters"]] == [
        ("usable", 13, 5),
        ("completion length", 5, 4),
        ("in no benchmark", 4, 3),
        ("not held out", 3, 2),
        ("unique", 2, 1),
        ("taken", 1, 1),
    ]
    assert metrics["contaminated"] == {"cows": 1} and metrics["unusable"]["no messages"] == 2


def test_prepare_traces_draw_is_seeded_and_grows_with_the_number(tmp_path: Path) -> None:
    source = source_of(write(tmp_path / "rows.jsonl", TALKS))
    draws = [run(tmp_path / str(i), source, num_traces=number) for i, number in enumerate((2, 2, 4))]
    questions = [[row["prompt"][0]["content"] for row in draw] for draw in draws]
    assert questions[0] == questions[1] and set(questions[0]) < set(questions[2])
    assert questions[2] == sorted(questions[2])  # the order of the data set
    assert any(run(tmp_path / f"seed{i}", source, num_traces=2, seed=i) != draws[0] for i in (1, 2))


def test_prepare_traces_keep_where_takes_some_rows(tmp_path: Path) -> None:
    rows = [row | {"ok": i % 2 == 0, "kind": "math" if i < 4 else "code"} for i, row in enumerate(TALKS)]
    path = write(tmp_path / "rows.jsonl", rows)
    where = {"keep_where": {"ok": [True]}, "drop_where": {"kind": ["code"]}}
    assert len(run(tmp_path, source_of(path, messages_column="messages", **where))) == 2
    with pytest.raises(UserError, match=r"leave no row: kind holds 'math', 'code'"):
        run(tmp_path / "none", source_of(path, messages_column="messages", keep_where={"kind": ["maths"]}))


def test_prepare_traces_all_rows_filtered_says_where_they_went(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"messages": []}, {"messages": []}, *TALKS[:1]])
    with pytest.raises(
        UserError, match=r"local gives 0 traces \(usable: 3 -> 1, .*Most unusable rows: no messages \(2\)"
    ):
        run(tmp_path, source_of(path), filters={"max_chars": 1})
    assert len(dropped(tmp_path)) == 3
    with pytest.raises(UserError, match=r"gives 1 traces .*, but num_traces asks for 2"):
        run(tmp_path, source_of(path), num_traces=2)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"mesages": []}, r"row 1, has no column 'messages' \(messages_column\); it has mesages; nearest: mesages"),
        ({"messages": "Hello."}, "row 1: messages is a str, not a list of messages"),
        ({"messages": ["Hello."]}, "row 1: messages is a str, not a message"),
        ({"messages": [{"speaker": "me"}]}, "a message without role and content, or from and value; it has speaker"),
    ],
)
def test_prepare_traces_wrong_column_is_refused_with_its_row(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path, source_of(write(tmp_path / "rows.jsonl", [TALKS[0], row])))


def test_prepare_traces_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    lines = tmp_path / "rows.jsonl"
    lines.write_bytes(json.dumps(TALKS[0]).encode() + b'\n{"messages": "\xff"}\n')
    with pytest.raises(UserError, match=r"rows\.jsonl:2 is not UTF-8 text"):
        run(tmp_path, source_of(lines))
    column = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\3\0\0\0\4\0\0\0"), pa.py_buffer(b"So.\xff"))
    pq.write_table(pa.table({"p": ["Why?", "How?"], "c": column}), tmp_path / "rows.parquet")
    columns = {"prompt_column": "p", "completion_column": "c"}
    assert [row["completion"] for row in run(tmp_path, source_of(tmp_path / "rows.parquet", **columns))] == ["So."]
    assert dropped(tmp_path)[0][2] == "completion holds half of a surrogate pair, which UTF-8 cannot hold"


def test_prepare_traces_row_of_ten_megabytes_costs_only_itself(tmp_path: Path) -> None:
    rows = [talk("Long?", "x" * 10_000_000), *TALKS]
    assert len(run(tmp_path, source_of(write(tmp_path / "rows.jsonl", rows)))) == len(TALKS)
    assert dropped(tmp_path) == [(0, "usable", "completion is longer than 1,000,000 characters")]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"question_column": "q"}, "needs columns in one of these ways: messages_column; or prompt_column and"),
        ({"messages_column": "m", "prompt_column": "p"}, "in one of these ways"),
        ({"messages_column": "m", "answer_after": "####"}, "answer_after given without question_column"),
        ({"messages_colum": "m"}, "messages_colum"),
    ],
)
def test_prepare_traces_config_refuses(tmp_path: Path, columns: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        parsed(PrepareTracesConfig, source=source_of(tmp_path / "x.jsonl", **columns), num_traces=1, seed=0)


def test_prepare_traces_identity_is_the_content_not_the_place(tmp_path: Path) -> None:
    one, two, other = (write(tmp_path / name, rows) for name, rows in (("a", TALKS), ("b", TALKS), ("c", TALKS[:2])))
    identities = []
    for path in (one, two, other):
        named = path.rename(path.with_suffix(".jsonl"))
        config = parsed(PrepareTracesConfig, source=source_of(named), num_traces=None, seed=0)
        identities.append(config.identity())
    assert identities[0] == identities[1] != identities[2] and "path" not in identities[0]["source"]


def test_prepare_traces_hub_reads_the_pinned_split(tmp_path: Path) -> None:
    repository = folder(tmp_path / "repository" / "data")
    for i, rows in enumerate((TALKS[:4], TALKS[4:])):
        pq.write_table(pa.Table.from_pylist(rows), repository / f"train-0000{i}-of-00002.parquet")
    server = HubServer()
    server.serve("datasets/someone/traces", repository.parent)
    source = {"kind": "hub", "dataset": "someone/traces", "split": "train", "revision": COMMIT}
    config = {"source": source | {"messages_column": "messages"}, "num_traces": 5, "seed": 0}
    job = {"stage": "prepare_traces", "config": config, "inputs": {}}
    (folder(tmp_path / "out") / "config.json").write_text(json.dumps(job))
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "tasks.prepare_traces", str(tmp_path / "out")]  # the clients read it when imported
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    server.shutdown()
    assert ended.returncode == 0, ended.stderr[-2000:]
    rows = pq.read_table(tmp_path / "out" / "traces.parquet").to_pylist()
    assert len(rows) == 5 and {row["source"] for row in rows} == {"someone/traces"}
