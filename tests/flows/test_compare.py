"""`r1 compare`: what is paired with what, what it prints, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.compare import compare, evaluations_of, pair_up
from flows.compare_view import as_json, as_latex, as_lines, as_markdown
from flows.tables import latex, markdown
from tasks.core.errors import UserError
from tasks.core.store import Store
from tests.flows.stored_runs import publish, publish_evaluation, write_run

BEFORE_QS = [[1, 0], [0, 0], [1, 1], [0, 0]]  # question means ½, 0, 1, 0: accuracy 0.375
AFTER_QS = [[1, 1], [1, 0], [1, 1], [0, 1]]  # question means 1, ½, 1, ½: accuracy 0.75
HOSTILE = "a|b_c*<img src=x onerror=alert(1)>`\n$x^2$ & 50% \\end{table} #~{}\u202e"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def runs_of(store: Store, before: Any = BEFORE_QS, after: Any = AFTER_QS, **changes: Any) -> tuple[str, str]:
    """Two runs with one evaluation each; `changes` are of the second's."""
    write_run(store, "run-a", [("eval", "evaluate", publish_evaluation(store, before))])
    write_run(store, "run-b", [("eval", "evaluate", publish_evaluation(store, after, **changes))])
    return "run-a", "run-b"


def lines_of(store: Store, before: Any, after: Any, **changes: Any) -> str:
    return as_lines(compare(store, *runs_of(store, before, after, **changes)))


def test_compare_two_runs_gives_the_paired_difference(store: Store) -> None:
    # Question differences ½, ½, 0, ½: mean 0.375, sd 0.25, standard error 0.125, t(3) = 3.182.
    # tests/tasks/core/test_sample_size.py works out what is needed: 9 samples, or 2 questions.
    compared = compare(store, *runs_of(store))
    one = compared.comparisons[0]
    assert (one.score_before.mean, one.score_after.mean) == (0.375, 0.75)
    assert (one.difference.low, one.difference.high) == (
        pytest.approx(0.375 - 3.182 * 0.125),
        pytest.approx(0.375 + 3.182 * 0.125),
    )
    shown = as_lines(compared)
    assert "countdown, 4 questions\n" in shown
    assert "A      eval   37.5%  95 % interval 0.0% to 100.0%, 2 samples a question" in shown
    assert "B - A  +37.5 points (-2.3 to +77.3), 95 % interval, paired by question: not decided" in shown
    assert "9 more samples of each question by each, or 2 more questions with as many samples" in shown
    assert "find a true difference of 50.3 points with 80% power" in shown


@pytest.mark.parametrize(("swapped", "verdict"), [(False, "B is better"), (True, "A is better")])
def test_compare_clear_difference_is_decided_and_asks_for_nothing(store: Store, swapped: bool, verdict: str) -> None:
    # 100 questions, 20 won, none lost: 0.2 ± 0.0788 (worked out in tests/tasks/core/test_statistics.py).
    before, after = [[0]] * 60 + [[1]] * 40, [[1]] * 20 + [[0]] * 40 + [[1]] * 40
    shown = lines_of(store, after, before) if swapped else lines_of(store, before, after)
    assert f"20.0 points ({'-27.9 to -12.1' if swapped else '+12.1 to +27.9'})" in shown
    assert f"paired by question: {verdict}\n" in shown
    assert "would take" not in shown


def test_compare_where_only_questions_can_help_says_so(store: Store) -> None:
    before = [[0, 0]] * 12 + [[1, 1]] * 8 + [[1, 1]] * 20
    after = [[1, 1]] * 12 + [[0, 0]] * 8 + [[1, 1]] * 20
    shown = lines_of(store, before, after)
    assert "355 more questions with as many samples; more samples of these questions cannot: 100% of" in shown


def test_compare_single_samples_cannot_tell_what_more_would_do(store: Store) -> None:
    shown = lines_of(store, [[0]] * 12 + [[1]] * 28, [[1]] * 12 + [[0]] * 8 + [[1]] * 20)
    assert "355 more questions with as many samples; what more samples of these would do cannot be told" in shown


def test_compare_greedy_evaluations_are_not_told_to_sample_again(store: Store) -> None:
    before, after = [[0]] * 12 + [[1]] * 28, [[1]] * 12 + [[0]] * 8 + [[1]] * 20
    refs = [publish_evaluation(store, right_QS, temperature=0.0) for right_QS in (before, after)]
    assert "greedy decoding would only repeat its completions" in as_lines(compare(store, *refs))


def test_compare_difference_of_zero_says_that_no_number_would_do(store: Store) -> None:
    shown = lines_of(store, [[1], [0], [1]], [[0], [1], [1]])
    assert "B - A  0.0 points" in shown and "no number of samples would show which is better" in shown


@pytest.mark.parametrize(("before", "after"), [([[0]], [[1]]), ([[1, 1]] * 9, [[1, 1, 1]] * 9), ([[0]] * 3, [[1]] * 3)])
def test_compare_without_a_spread_claims_nothing(store: Store, before: Any, after: Any) -> None:
    # One question: Wilson 1 of 1 on -1…1 is 2 * 0.206543 - 1 = -0.586914. Three of three: 2 * 0.438494 - 1 = -0.123.
    shown = lines_of(store, before, after)
    assert "not decided" in shown and "only more questions can tell" in shown


def test_compare_takes_unique_beginnings_stages_and_fingerprints(store: Store) -> None:
    runs_of(store)
    fingerprint = store.read_run("run-b").stages[0].fingerprint
    for refs in (("run-a", "run-b"), ("run-a:eval", "run-b:eval"), ("run-a", fingerprint[:8]), ("run-a:eval", "run-b")):
        assert compare(store, *refs).comparisons[0].difference.mean == pytest.approx(0.375)
    with pytest.raises(UserError, match=r"'run' could be any of 2: run run-a, run run-b"):
        compare(store, "run", "run-b")
    with pytest.raises(UserError, match=r"'nowhere' names nothing in .*`r1 ls` lists"):
        compare(store, "run-a", "nowhere")
    with pytest.raises(UserError, match=r"run run-a has no stage 'evil'; its stages are: eval"):
        compare(store, "run-a:evil", "run-b")


def test_compare_pairs_by_name_then_the_last_with_the_last(store: Store) -> None:
    numbers = ([[index % 2], [index // 2]] for index in range(4))
    one, two, three, four = (publish_evaluation(store, right_QS) for right_QS in numbers)
    other = publish_evaluation(store, [[1], [1], [1]], benchmark="gsm8k")
    names_a = ("eval_sft", "eval_mid", "eval_grpo", "gsm8k")
    write_run(
        store, "a", [(name, "evaluate", key) for name, key in zip(names_a, (one, two, three, other), strict=True)]
    )
    write_run(store, "b", [("eval_sft", "evaluate", two), ("eval_ppo", "evaluate", four)])
    compared = compare(store, "a", "b")
    pairs = [(pair.before.name, pair.after.name) for pair in compared.comparisons]
    assert pairs == [("eval_sft", "eval_sft"), ("eval_grpo", "eval_ppo")]
    assert compared.notes == ["a:eval_mid has no counterpart on countdown.", "a:gsm8k has no counterpart on gsm8k."]


def test_compare_points_of_a_curve_go_together_by_name_alone(store: Store) -> None:
    points = [
        publish(store, "evaluate", {"step": step}, {"benchmark": "countdown", "checkpoint_step": step})
        for step in (1, 2)
    ]
    whole = [publish_evaluation(store, right_QS) for right_QS in ([[1], [0]], [[0], [1]])]
    write_run(store, "a", [("grpo", "evaluate", whole[0]), ("at_1", "evaluate", points[0])])
    write_run(store, "b", [("ppo", "evaluate", whole[1]), ("at_2", "evaluate", points[1])])
    pairs, alone = pair_up(evaluations_of(store, "a"), evaluations_of(store, "b"))
    assert [(old.name, new.name) for old, new in pairs] == [("grpo", "ppo")]
    assert [one.name for one in alone] == ["at_1", "at_2"]


def test_compare_one_artifact_in_both_runs_is_named_and_not_compared(store: Store) -> None:
    write_run(store, "c", [("eval", "evaluate", publish_evaluation(store, BEFORE_QS))])
    compared = compare(store, "c", "c")
    assert compared.comparisons == [] and "c:eval and c:eval are one artifact, evaluate/" in compared.notes[0]


def test_compare_shares_only_the_questions_that_both_asked(store: Store) -> None:
    compared = compare(store, *runs_of(store, BEFORE_QS, AFTER_QS, first=2))  # q0 to q3 and q2 to q5
    one = compared.comparisons[0]
    assert (one.difference.num_questions, one.num_left_out) == (2, 4)
    assert one.difference.mean == pytest.approx((0.5 + 1) / 2 - 0.75 + 0.25)  # q2: 1 → 1, q3: 0 → ½: mean ¼
    assert "2 questions; 4 that only one of them asked are left out" in as_lines(compared)


@pytest.mark.parametrize("changes", [{"first": 4}, {"answer": "8"}], ids=["other problems", "other answers"])
def test_compare_different_questions_are_refused(store: Store, changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"run-a:eval and run-b:eval asked different questions of countdown"):
        compare(store, *runs_of(store, BEFORE_QS, AFTER_QS, **changes))


def test_compare_different_benchmarks_are_refused(store: Store) -> None:
    with pytest.raises(UserError, match=r"no benchmark in common: run-a:eval is on countdown / run-b:eval is on gsm8k"):
        compare(store, *runs_of(store, BEFORE_QS, AFTER_QS, benchmark="gsm8k"))


def test_compare_runs_without_evaluations_are_refused(store: Store) -> None:
    runs_of(store)
    trained = publish(store, "train_sft", {}, {"loss_last": 1.0})
    write_run(store, "trained", [("sft", "train_sft", trained)])
    write_run(store, "failed", [("sft", "train_sft", trained), ("eval", "evaluate", "0" * 20)], state="failed")
    with pytest.raises(UserError, match=r"run trained has nothing to compare: recipe quickstart has no stage of kind"):
        compare(store, "run-a", "trained")
    with pytest.raises(UserError, match=r"none of its evaluations is in .*: eval \(built\)\. Run the recipe again"):
        compare(store, "failed", "run-a")
    with pytest.raises(UserError, match=r"'trained:sft' is train_sft/\w+, not an evaluation: give a run, RUN:STAGE"):
        compare(store, "run-a", "trained:sft")


def test_compare_damaged_completions_are_refused(store: Store) -> None:
    runs_of(store)
    path = store.path("evaluate", store.read_run("run-b").stages[0].fingerprint)
    pq.write_table(pa.table({"problem_id": ["q0"], "answer": ["7"]}), path / "completions.parquet")
    with pytest.raises(UserError, match=r"cannot be read \(no column 'sample'\)"):
        compare(store, "run-a", "run-b")
    (path / "completions.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(UserError, match=r"run-b:eval: .*completions\.parquet cannot be read .*`r1 verify`"):
        compare(store, "run-a", "run-b")
    (path / "record.json").write_text("{")
    with pytest.raises(UserError, match=r"cannot be compared: record\.json is not JSON"):
        compare(store, "run-a", "run-b")


def test_compare_settings_and_causes_are_told_apart(store: Store) -> None:
    models = [publish(store, "train_grpo", {"beta": beta}, {"reward_last": 1.0}) for beta in (0.0, 0.04)]
    write_run(store, "a", [("eval", "evaluate", publish_evaluation(store, BEFORE_QS, model=models[0]))])
    late = publish_evaluation(store, AFTER_QS, model=models[1], max_new_tokens=200)
    write_run(store, "b", [("eval", "evaluate", late)])
    one = compare(store, "a", "b").comparisons[0]
    assert "config.max_new_tokens: 100 → 200" in one.own_changes
    assert one.causes == ["model → train_grpo: config.beta: 0.0 → 0.04"]
    shown = as_lines(compare(store, "a", "b"))
    assert shown.index("The evaluations differ") < shown.index("max_new_tokens: 100 → 200") < shown.index("config.beta")


def test_compare_json_holds_every_number(store: Store) -> None:
    answer = json.loads(json.dumps(as_json(compare(store, *runs_of(store))), allow_nan=False))
    one = answer["comparisons"][0]
    assert (answer["a"], answer["b"], one["benchmark"], one["verdict"]) == (
        "run-a",
        "run-b",
        "countdown",
        "not decided",
    )
    assert (one["a"]["accuracy"]["mean"], one["b"]["accuracy"]["num_samples"]) == (0.375, 2)
    assert (one["needed"]["more_samples"], one["needed"]["more_questions"]) == (9, 2)


def test_compare_tables_hold_scores_and_footnote(store: Store) -> None:
    compared = compare(store, *runs_of(store))
    row = "| countdown | eval | eval | 4 | 37.5 (0.0 to 100.0) | 75.0 (29.1 to 100.0) | +37.5 (-2.3 to +77.3) |"
    assert as_markdown(compared).splitlines()[2] == row  # 0.75 ± 3.182 * sqrt(0.25 / 3 / 4) = 0.75 ± 0.459
    assert "A: `run-a`, B: `run-b`." in as_markdown(compared)
    cells = r"countdown & eval & eval & 4 & 37.5 (0.0 to 100.0) & 75.0 (29.1 to 100.0) & $+37.5$ ($-2.3$ to $+77.3$) \\"
    assert cells in as_latex(compared).splitlines()


def test_tables_hostile_text_is_neither_markup_nor_command() -> None:
    table = markdown(("name", "n"), [(HOSTILE, "1")], num_names=1)
    assert table == (
        "| name | n |\n| :-- | --: |\n| a\\|b\\_c\\*\\<img src=x onerror=alert(1)\\>\\` \\$x^2\\$ \\& 50% "
        "\\\\end\\{table\\} \\#\\~\\{\\}⟨U+202E⟩ | 1 |\n"
    )
    body = latex(("name", "n"), [(HOSTILE, "1")], num_names=1, caption=HOSTILE)
    cell = (
        r"a\textbar{}b\_c*\textless{}img src=x onerror=alert(1)\textgreater{}` \$x\textasciicircum{}2\$ \& 50\% "
        r"\textbackslash{}end\{table\} \#\textasciitilde{}\{\}⟨U+202E⟩"
    )
    assert rf"{cell} & 1 \\" in body.splitlines() and rf"\caption{{{cell}}}" in body.splitlines()
    assert body.count(r"\end{table}") == 1


def test_tables_numbers_in_names_stay_text() -> None:
    body = latex(("name", "n"), [("r1-1.5b +3", "-2.0 → -1")], num_names=1, caption="")
    assert r"r1-1.5b $+3$ & $-2.0$ $\to$ $-1$ \\" in body.splitlines()


def test_compare_command_prints_forms_and_refuses_two(offline_r1: Any) -> None:
    runs_of(Store(offline_r1.store))
    assert json.loads(offline_r1("compare", "run-a", "run-b", "--json"))["a"] == "run-a"
    assert offline_r1("compare", "run-a", "run-b", "--latex").startswith("% needs")
    assert "not allowed with argument" in offline_r1("compare", "run-a", "b", "--latex", "--json", exit_code=2)
    assert offline_r1("compare", "run-a", "run-x", exit_code=2).startswith("r1: 'run-x' names nothing in")
