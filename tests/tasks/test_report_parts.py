"""The parts of the report page: the choice of examples, curves, the stage graph and text made fit to show."""

import itertools
import json
import math
from pathlib import Path

import pytest

from tasks.core.report import text
from tasks.core.report.curves import read_line, running_mean
from tasks.core.report.evaluations import Comparison, compare, load_evaluations
from tasks.core.report.examples import GROUPS, allot, group_problems, pick_examples
from tasks.core.report.graph import draw_graph, place
from tasks.core.report.run import load_run
from tests.tasks.report_fabric import FabricatedRun, fabricate_quickstart


def comparison_of(run: FabricatedRun) -> Comparison:
    """The first comparison of a fabricated run."""
    loaded = load_run(run.write(run.root / "out"), run.artifacts)
    return compare(load_evaluations(loaded), loaded.notes)[0]


def test_evaluation_with_answers_that_nobody_can_read_is_noted(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path)
    run.add("sft", "train_sft", {}, {})
    for name, num in (("clean", 0), ("odd", 3)):
        run.add_evaluation(name, "sft", [[0], [1]], num_unparsable_golds=num)
    loaded = load_run(run.write(tmp_path / "out"), run.artifacts)
    load_evaluations(loaded)
    (note,) = [note for note in loaded.notes if "unparsable_gold" in note]
    assert note.startswith("odd: the reference answers of 3 questions can be read by no rule")


@pytest.mark.parametrize(
    ("sizes", "num_places", "expected"),
    [
        ((50, 30, 15, 5), 10, (5, 3, 1, 1)),  # quotas 5, 3, 1.5, 0.5: the smallest is lifted to 1
        ((970, 10, 10, 10), 10, (7, 1, 1, 1)),
        ((0, 3, 0, 1), 10, (0, 3, 0, 1)),  # never more than there are
        ((4, 9, 1, 0), 2, (1, 1, 0, 0)),  # too few places: the largest groups
        ((0, 0, 0, 0), 10, (0, 0, 0, 0)),
    ],
)
def test_examples_places_follow_group_sizes(sizes, num_places, expected) -> None:
    assert tuple(allot(dict(zip(GROUPS, sizes, strict=True)), num_places).values()) == expected


def test_examples_groups_go_by_first_samples(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path)
    run.add("sft", "train_sft", {}, {})
    run.add_evaluation("first", "sft", [[0, 1], [1, 0], [1, 1], [0, 0]])
    run.add_evaluation("last", "sft", [[1, 0], [0, 1], [1, 0], [0, 1]])
    comparison = comparison_of(run)
    names = [f"countdown-{index:05d}" for index in range(4)]
    expected = {"improved": [names[0]], "got worse": [names[1]], "both right": [names[2]], "both wrong": [names[3]]}
    assert group_problems(comparison) == expected
    for example in pick_examples(comparison, 4, seed=0):
        assert example.problem_id in expected[example.group]
        assert (example.before.is_right, example.after.is_right) == {
            "improved": (False, True),
            "got worse": (True, False),
            "both right": (True, True),
            "both wrong": (False, False),
        }[example.group]


def test_examples_seed_decides_the_choice(tmp_path: Path) -> None:
    run = fabricate_quickstart(tmp_path, num_questions=120, num_samples=2, num_steps=20)
    comparison = comparison_of(run)
    chosen = [[one.problem_id for one in pick_examples(comparison, 10, seed)] for seed in (0, 0, 1)]
    assert len(set(chosen[0])) == 10
    assert chosen[0] == chosen[1] != chosen[2]


def test_curves_running_mean_is_centred_and_shortened_at_the_ends() -> None:
    assert running_mean([1, 2, 6, 3, 8], 3) == [1.5, 3.0, pytest.approx(11 / 3), pytest.approx(17 / 3), 5.5]
    assert running_mean([4.0], 1) == [4.0]


def test_curves_resumed_step_keeps_last_value_and_drops_what_is_no_number() -> None:
    history = json.loads('[{"step": 1, "kl": 5}, {"step": 2, "kl": 6}, {"step": 2, "kl": 7}, {"step": 3, "kl": NaN}]')
    history += [{"step": 4, "kl": None}, {"step": 5, "kl": "8"}, {"step": 6, "kl": math.inf}, {"step": 7, "loss": 1}]
    line = read_line(history, "kl", "KL", factor=10)
    assert line is not None
    assert (line.steps, line.values) == ([1.0, 2.0], [50.0, 70.0])
    assert read_line(history, "reward", "reward") is None


def test_graph_stages_stand_right_of_their_inputs_and_never_overlap(tmp_path: Path) -> None:
    run = fabricate_quickstart(tmp_path, num_questions=5, num_samples=1, num_steps=3)
    steps = load_run(run.write(tmp_path / "out"), run.artifacts).steps
    columns = place(steps)
    column_of = {slot.step.name: slot.column for column in columns for slot in column if slot.step}
    assert all(column_of[name] < column_of[step.name] for step in steps for name in step.inputs)
    assert column_of["model"] == column_of["sft"] - 1  # a source stands beside its first reader
    for column in columns:
        for above, below in itertools.pairwise(column):
            assert above.y + above.height / 2 < below.y - below.height / 2
    assert draw_graph(steps).count('class="node') == 8


def test_text_hidden_characters_are_spelled_out() -> None:
    assert text.visible("a\x00b\x1b[31m\tc\nd") == "a␀b␛[31m\tc\nd"
    assert text.visible("pay \u202e001\u202c \ud800") == "pay ⟨U+202E⟩001⟨U+202C⟩ ⟨U+D800⟩"
    assert len(text.visible("e" + "\u0301" * 500)) < 10
    assert text.visible("解 é 🙂") == "解 é 🙂"


def test_text_bounded_keeps_head_and_tail() -> None:
    assert text.bounded("abcdefghij", head=3, tail=2) == "abc\n\n[… 5 characters left out …]\n\nij"
    assert text.bounded("abcde", head=3, tail=2) == "abcde"
    assert text.bounded("abcdef", head=3, tail=0).startswith("abc\n") and text.bounded("abcdef", 3, 0).endswith("]\n\n")


def test_text_numbers_read_as_people_write_them() -> None:
    assert [text.duration(value) for value in (None, 0.04, 59.96, 61, 3599.6, 3723)] == [
        "–",
        "0.0 s",
        "1 min 00 s",
        "1 min 01 s",
        "1 h 00 min",
        "1 h 02 min",
    ]
    assert [text.points(value) for value in (0.2284, -0.051, 0.0, -0.0001)] == ["+22.8", "−5.1", "0.0", "0.0"]
    assert [text.size(value) for value in (0, 1023, 1536, 5 * 2**30)] == ["0 B", "1023 B", "1.5 kB", "5.0 GB"]
    assert [text.count(value) for value in (1234567, 2.5, 4.0, None)] == ["1,234,567", "2.5", "4", "–"]
    assert text.moment("2025-11-21T11:14:00+01:00") == text.moment(1763720040) == "2025-11-21 10:14 UTC"
