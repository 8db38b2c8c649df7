"""maj@k: how often the answer that most of k samples give is right (Wang et al., self-consistency, arXiv:2203.11171).

Legend for shapes: Q questions, S samples a question.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from tasks.core.harness.records import Completion
from tasks.core.verdict import Verdict
from tasks.core.verifier import Verifier

MAX_TEXTS = 12
"""Of one question's wrong answers this many, the most frequent, are compared with one another: at most 66 pairs."""
COMPARED_TASK = "math"
RIGHT = ""
"""Stands for every right answer to one question of mathematics; no answer is the empty text."""


def majority_right(completions_QS: Sequence[Sequence[Completion]], verifier: Verifier) -> list[float]:
    """One value a question, 0 to 1: the chance that the winner is right if ties are broken by a fair draw.

    A completion without an answer has no vote; where nobody votes the value is 0. In mathematics answers are one when
    the verifier takes them for equal: the right ones all equal the gold, the wrong ones are compared here. The other
    verifiers (Countdown's) do not compare answers: there two are one when their texts are, blanks left out.
    """
    ballots_QS = [[_ballot(completion) for completion in completions_S] for completions_S in completions_QS]
    same_Q = _same_answers(completions_QS, ballots_QS, verifier)
    return [
        _chance(completions_S, [text if text is None else same.get(text, text) for text in ballots_S])
        for completions_S, ballots_S, same in zip(completions_QS, ballots_QS, same_Q, strict=True)
    ]


def _chance(completions_S: Sequence[Completion], ballots_S: Sequence[str | None]) -> float:
    """The share of right answers among those with the most votes."""
    votes = Counter(text for text in ballots_S if text is not None)
    most = max(votes.values(), default=0)
    pairs = zip(completions_S, ballots_S, strict=True)
    right = {text for completion, text in pairs if completion.judgement.verdict.is_right}
    winners = [text for text, count in votes.items() if count == most]
    return sum(text in right for text in winners) / len(winners) if winners else 0.0


def _ballot(completion: Completion) -> str | None:
    """The text that stands for the answer, None where there is none; right answers to mathematics share one text."""
    answer, is_compared = completion.judgement.answer, completion.question.task == COMPARED_TASK
    if is_compared and completion.judgement.verdict.is_right:
        return RIGHT
    return None if answer is None else (" " if is_compared else "").join(answer.split())


def _same_answers(
    completions_QS: Sequence[Sequence[Completion]], ballots_QS: Sequence[Sequence[str | None]], verifier: Verifier
) -> list[dict[str, str]]:
    """For each question {text: an earlier text that is the same answer}, from wrong answers compared pair by pair."""
    pairs = [
        (place, completions_S[0].question.task, *pair)
        for place, (completions_S, ballots_S) in enumerate(zip(completions_QS, ballots_QS, strict=True))
        for pair in combinations(_compared(completions_S, ballots_S), 2)
    ]
    same_Q: list[dict[str, str]] = [{} for _ in completions_QS]
    if not pairs:
        return same_Q
    _, asked_tasks, golds, answers = zip(*pairs, strict=True)
    judgements = verifier.judge(asked_tasks, golds, [rf"<answer>\boxed{{{answer}}}</answer>" for answer in answers])
    for (place, _, one, other), judgement in zip(pairs, judgements, strict=True):
        if judgement.verdict.is_right:
            same_Q[place].setdefault(other, same_Q[place].get(one, one))
    return same_Q


def _compared(completions_S: Sequence[Completion], ballots_S: Sequence[str | None]) -> list[str]:
    """The wrong answers of one question to compare. One that ran out of time has been tried for long enough."""
    if completions_S[0].question.task != COMPARED_TASK:
        return []
    wrong = Counter(
        text
        for completion, text in zip(completions_S, ballots_S, strict=True)
        if text is not None and completion.judgement.verdict is Verdict.WRONG
    )
    return [text for text, _ in wrong.most_common(MAX_TEXTS)]
