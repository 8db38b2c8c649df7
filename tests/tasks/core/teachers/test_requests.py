"""Rows by their place in a split, prompt files, and what only the teacher is told."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from tasks.core.errors import UserError
from tasks.core.parts import Parts
from tasks.core.teachers.config import OpenAITeacher, TransformersTeacher
from tasks.core.teachers.process import Job
from tasks.core.teachers.prompts import INSTRUCTIONS, SYSTEM_PROMPTS, as_asked
from tasks.core.teachers.requests import PromptRows, Requests
from tasks.core.teachers.rows import RowCursor
from tasks.core.teachers.speed import SpeedFile, read_speed
from tasks.core.teachers.tally import Tally
from tasks.core.teachers.writing import cost_usd, describe

TEACHER = {"kind": "openai", "model": "m", "temperature": 0.6, "top_p": 0.95, "max_new_tokens": 64}


def problem(number: int, split: str = "train", name: str | None = None) -> dict[str, Any]:
    prompt = [{"role": "user", "content": f"question {number}"}]
    return {"problem_id": name or f"p{number}", "split": split, "task": "math", "prompt": prompt, "answer": "1"}


def write(path: Path, rows: list[dict[str, Any]], **how: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, **how)
    return path


def test_row_cursor_gives_any_range_of_a_split_whatever_the_row_groups(tmp_path: Path) -> None:
    rows = [problem(i, "eval" if i % 3 == 0 else "train") for i in range(1000)]
    names = [row["problem_id"] for row in rows if row["split"] == "train"]
    for group in (7, 1000):
        path = write(tmp_path / f"{group}.parquet", rows, row_group_size=group)
        cursor = RowCursor(path, ["problem_id"], split="train", limit=600)
        for start, stop in ((0, 3), (2, 9), (9, 9), (8, 300), (299, 300), (299, 300), (310, 600), (599, 601), (5, 6)):
            assert [row["problem_id"] for row in cursor.read(start, stop)] == names[start : min(stop, 600)]


def test_requests_with_the_same_id_twice_are_refused(tmp_path: Path) -> None:
    rows = [problem(0), problem(1), problem(2, "eval", "p1"), problem(3, name="p1")]
    path = write(tmp_path / "problems.parquet", rows)
    assert len(Requests(path, "train", 2, num_traces=3, seed=0)) == 6
    with pytest.raises(UserError, match=r"problems\.parquet has the problem_id 'p1' twice in split 'train'"):
        len(Requests(path, "train", None, num_traces=3, seed=0))


def test_job_gives_back_the_kind_of_requests_that_it_was_given(tmp_path: Path) -> None:
    parts = Parts(tmp_path, 2, 4)
    for requests in (PromptRows(tmp_path / "a"), Requests(tmp_path / "a", "train", None, 2, 5)):
        job = Job(teacher=OpenAITeacher(**TEACHER), requests=requests, parts=parts, numbers=[1], num_workers=1)
        assert Job.model_validate_json(job.model_dump_json()) == job
    local = TransformersTeacher(kind="transformers", temperature=1.0, top_p=1.0, max_new_tokens=2, dtype="auto")
    job = Job(teacher=local, requests=requests, parts=parts, numbers=[1], num_workers=1, model=Path("/s/train_sft/0a"))
    assert job.teacher_label == "train_sft/0a"


def test_prompt_as_asked_has_our_system_message_for_its_own_and_the_instruction_last() -> None:
    prompt = [{"role": "system", "content": "old"}, {"role": "user", "content": "2 + 2?"}]
    assert as_asked(prompt, None, None) == prompt
    asked = [{"role": "system", "content": "new"}, {"role": "user", "content": "2 + 2?\n\nBox it."}]
    assert as_asked(prompt, "new", "Box it.") == asked
    assert as_asked(prompt[1:], "new", "Box it.") == asked and prompt[1]["content"] == "2 + 2?"


def test_prompts_of_ours_ask_for_thoughts_and_an_answer_that_can_be_found() -> None:
    for name, text in SYSTEM_PROMPTS.items():
        assert "<think>" in text and "</think>" in text
        assert all(tag in text for tag in ("<answer>", "</answer>")) if "zero" in name else "\\boxed{}" in text
    assert all("\\boxed{}" in text for text in INSTRUCTIONS.values())


def test_teacher_identity_holds_the_prompts_text_and_the_revision_but_no_price() -> None:
    plain = OpenAITeacher(**TEACHER)
    named = OpenAITeacher(**TEACHER, system_prompt="r1_english", price_per_mtok_in=1.0, base_url="http://a/v1")
    spelt = OpenAITeacher(**TEACHER, system_prompt=SYSTEM_PROMPTS["r1_english"])
    assert named.identity() == spelt.identity() != plain.identity()
    assert OpenAITeacher(**TEACHER, revision="2025-01-20").identity() != plain.identity()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"system_prompt": "r1_englsh"}, "names no prompt: the names are r1_english, r1_chinese"),
        ({"instruction": " "}, "instruction is blank"),
        ({"requests_per_minute": 0.0}, "give at least 1"),
        ({"patience_s": -1.0}, "give at least 0"),
        ({"max_failed_share": 1.5}, "give a share from 0 to 1"),
        ({"base_url": "localhost:8000"}, "it starts with http"),
    ],
)
def test_teacher_bad_value_is_refused_with_what_is_allowed(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        OpenAITeacher(**TEACHER | fields)


def test_teacher_without_address_asks_the_server_that_the_launcher_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("R1_VLLM_SERVER_URL", raising=False)
    with pytest.raises(UserError, match=r"teacher\.base_url is left out.*resources\.vllm_gpus"):
        _ = OpenAITeacher(**TEACHER).url
    monkeypatch.setenv("R1_VLLM_SERVER_URL", "http://127.0.0.1:41234")
    assert OpenAITeacher(**TEACHER).url == "http://127.0.0.1:41234/v1"
    assert OpenAITeacher(**TEACHER, base_url="http://b/v1").url == "http://b/v1"


def test_speed_counts_the_time_of_runs_side_by_side_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 to 10 s, 5 to 20 s beside it, and 100 to 130 s: 50 s for 100 tokens."""
    parts = Parts(tmp_path, 2, 4)
    assert read_speed(parts) == (0.0, None)
    for began_at, ended_at, num_tokens in ((5.0, 20.0, 30), (0.0, 10.0, 20), (100.0, 130.0, 50)):
        monkeypatch.setattr("tasks.core.teachers.speed.time.time", lambda at=began_at: at)
        file = SpeedFile(parts)
        monkeypatch.setattr("tasks.core.teachers.speed.time.time", lambda at=ended_at: at)
        file.write(num_tokens)
    assert read_speed(parts) == (50.0, 2.0)


def test_progress_note_tells_speed_time_left_cost_and_trouble() -> None:
    """Ten of 40 in 20 s: a minute more; 1,000 tokens at $2 a million and 500 at $1: $0.0025 of $0.01."""
    teacher = OpenAITeacher(**TEACHER, price_per_mtok_in=1e3, price_per_mtok_out=2e3)
    tally = Tally(num_done=10, num_asked=10, num_failed=1, num_tokens=1000, num_prompt_tokens=500, note="oh")
    assert describe(tally, teacher, 40, 20.0) == "50 tokens/s, 0:01:00 left, 1 refused, $2.50 of about $10.00, oh"
    assert describe(tally, OpenAITeacher(**TEACHER), 40, 20.0) == "50 tokens/s, 0:01:00 left, 1 refused, oh"
    assert cost_usd(OpenAITeacher(**TEACHER), 500, 1000) is None
