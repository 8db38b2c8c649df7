"""Files of targets: the project's own, and what is said of mistakes in one's own."""

import pytest

from flows.recipe import load_recipe
from flows.targets import TargetRow, load_targets
from tasks.core.errors import UserError

ROW = {"recipe": "quickstart", "stage": "after", "value": 0.5, "fixed_questions": False, "source": "a paper"}


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "targets.yaml"
        path.write_text(text)
        return path

    return write


def _lines(rows):
    return "targets:\n" + "".join("  - " + ", ".join(row).join("{}") + "\n" for row in rows)


def test_targets_of_the_project_name_evaluate_stages_of_their_recipes():
    for row in load_targets():
        kinds = {spec.name: spec.stage.name for spec in load_recipe(row.recipe).stages}
        assert kinds.get(row.stage) == "evaluate", row.name


def test_target_of_fixed_questions_has_the_binomial_error_of_all_samples():
    """500 questions of 4 samples, half right: sqrt(0.25 / 2000)."""
    row = TargetRow.model_validate(ROW | {"num_questions": 500, "num_samples": 4, "fixed_questions": True})
    assert row.target.standard_error == pytest.approx((0.25 / 2000) ** 0.5)


def test_target_of_questions_drawn_anew_has_the_error_of_the_questions_alone():
    row = TargetRow.model_validate(ROW | {"num_questions": 500, "num_samples": 4})
    assert row.target.standard_error == pytest.approx((0.25 / 500) ** 0.5)


def test_target_of_nothing_right_is_not_certain():
    """0 of 10: (0 + ½) / 11 = 1/22, so sqrt(1/22 · 21/22 / 10)."""
    row = TargetRow.model_validate(ROW | {"value": 0.0, "num_questions": 10})
    assert row.target.standard_error == pytest.approx((1 / 22 * 21 / 22 / 10) ** 0.5)


def test_target_without_n_has_no_error():
    assert TargetRow.model_validate(ROW).target is None


def test_target_with_a_stated_error_takes_it():
    assert TargetRow.model_validate(ROW | {"standard_error": 0.03, "num_questions": 7}).target.standard_error == 0.03


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("targets: []\n", "targets.yaml:1: targets should be a list of at least one row"),
        ("rows: []\n", "rows is not a key of a file of targets; allowed: targets"),
        ("targets: [3]\n", "targets.0 should be a mapping"),
        (
            _lines([["recipe: a", "stage: b", "value: 50", "fixed_questions: true", "source: x"]]),
            "targets.0.value is 50, but should be less than or equal to 1",
        ),
        (
            _lines([["recipe: a", "stage: b", "valeu: 0.5", "fixed_questions: true", "source: x"]]),
            "targets.0.valeu is not a key of a target; nearest: value",
        ),
        (
            _lines([["recipe: a", "stage: b", "value: 0.5", "fixed_questions: true", "source: ''"]]),
            "targets.0.source is",
        ),
        (
            _lines([["recipe: a", "stage: b", "value: 0.5", "fixed_questions: true", "source: x", "num_questions: 0"]]),
            "targets.0.num_questions is 0",
        ),
        (
            _lines(
                [["recipe: a", "stage: b", "value: 0.5", "fixed_questions: true", "source: x", "standard_error: 0.0"]]
            ),
            "every measured value has an error",
        ),
        (
            _lines([["recipe: a", "stage: b", "value: 0.5", "fixed_questions: true", "source: x"]] * 2),
            "targets.1 says the same as row 1",
        ),
        ("targets: [\n", "invalid YAML"),
    ],
)
def test_targets_with_a_mistake_are_refused_with_key_and_line(written, text, words):
    with pytest.raises(UserError) as caught:
        load_targets(written(text))
    assert words in str(caught.value) and "targets.yaml:" in str(caught.value)


def test_targets_that_are_not_there_are_named(tmp_path):
    with pytest.raises(UserError, match=r"targets\.yaml cannot be read"):
        load_targets(tmp_path / "targets.yaml")
