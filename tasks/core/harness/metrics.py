"""metrics.json of an evaluation, from its judged completions. Pure arithmetic; only maj@k asks the verifier.

Which interval stands where (all 95 %, all clustered by question, <name>_low and <name>_high):
- accuracy, pass@k and maj@k are means of one value a question: mean ± t·SE, `clustered_mean`;
- shares of completions (cut, without an answer, reflecting) are often near 0, where that would be lopsided: Wilson's
  interval of the effective number of completions, `clustered_share`;
- lengths and words per 1,000 tokens are quantiles and ratios, which have no such formula: the bootstrap over questions,
  null where no draw differs from another (one question, no such word at all), for that would claim certainty.

Legend for shapes: Q questions, S samples a question.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasks.core.harness.records import Completion
from tasks.core.prose import LANGUAGES, REFLECTION, language_of
from tasks.core.statistics import Estimate, bootstrap_intervals, clustered_mean, clustered_share, pass_at_k
from tasks.core.verdict import Verdict

if TYPE_CHECKING:
    from tasks.core.thinking import Thinking
    from tasks.core.verifier import Verifier


def summarise(
    completions: Sequence[Completion], num_samples: int, *, verifier: "Verifier", thinking: "Thinking | None" = None
) -> dict[str, Any]:
    """metrics.json of completions that lie grouped by question, `num_samples` each. Raises ValueError for none.

    Rates are shares of all completions; a truncated completion without an answer counts in both rates. Token counts
    include the end token. `pass_at_k` holds the unbiased estimates for k = 1, 2, 4, … up to num_samples,
    `pass_at_num_samples` the share of questions with a right completion. A question whose reference answer no rule can
    read (`num_unparsable_golds`) counts as wrong. `thinking` is the budget that was forced.
    """
    from tasks.core.harness.majority import majority_right

    groups_QS = [completions[start : start + num_samples] for start in range(0, len(completions), num_samples)]
    right_QS = [[float(one.judgement.verdict.is_right) for one in group] for group in groups_QS]
    verdicts = Counter(one.judgement.verdict for one in completions)
    accuracy = clustered_mean(right_QS)
    at_k = {k: _pass_at_k(right_QS, k) for k in _powers_of_two(num_samples)}
    majority = clustered_mean([[value] for value in majority_right(groups_QS, verifier)])
    metrics: dict[str, Any] = {
        **_bounded("accuracy", accuracy),
        "standard_error": accuracy.standard_error,
        "num_questions": len(groups_QS),
        "num_samples": num_samples,
        "pass_at_num_samples": _pass_at_k(right_QS, num_samples).mean,
        "pass_at_k": {str(k): _bounded("mean", estimate) for k, estimate in at_k.items()},
        **_bounded("maj_at_num_samples", majority),
        **_rate("truncation_rate", [[one.truncated for one in group] for group in groups_QS]),
        **_rate("no_answer_rate", [[one.judgement.answer is None for one in group] for group in groups_QS]),
        **_lengths(groups_QS),
        **_words(groups_QS, thinking),
        "num_unparsable_golds": sum(map(_has_unparsable_gold, groups_QS)),
        "verdicts": {str(verdict): verdicts[verdict] for verdict in Verdict if verdicts[verdict]},
    }
    return metrics | (_thoughts(groups_QS, thinking) if thinking else {})


def _has_unparsable_gold(group: Sequence[Completion]) -> bool:
    return any(one.judgement.verdict is Verdict.UNPARSABLE_GOLD for one in group)


def _pass_at_k(right_QS: Sequence[Sequence[float]], k: int) -> Estimate:
    return clustered_mean([[pass_at_k(len(right_S), round(sum(right_S)), k)] for right_S in right_QS])


def _powers_of_two(largest: int) -> list[int]:
    return [2**power for power in range(largest.bit_length())]


def _lengths(groups_QS: Sequence[Sequence[Completion]]) -> dict[str, Any]:
    """Mean, median and 95th percentile (the least length that 95 % do not exceed) of the tokens of a completion."""
    import numpy as np

    tokens_QS = np.array([[one.num_tokens for one in group] for group in groups_QS])

    def measure(drawn_Q: Any) -> Any:
        tokens = tokens_QS[drawn_Q]
        return np.array([tokens.mean(), np.median(tokens), np.quantile(tokens, 0.95, method="inverted_cdf")])

    return _resampled(("mean_tokens", "median_tokens", "p95_tokens"), measure, len(groups_QS))


def _words(groups_QS: Sequence[Sequence[Completion]], thinking: "Thinking | None") -> dict[str, Any]:
    """Languages and reflection. The words that budget forcing wrote into a thought are not the model's: left out."""
    import numpy as np

    planted = len(REFLECTION.findall(thinking.wait)) if thinking else 0
    words_QS = [[_num_words(one, planted) for one in group] for group in groups_QS]
    words_Q = np.array([sum(words_S) for words_S in words_QS])
    tokens_Q = np.array([sum(one.num_tokens for one in group) for group in groups_QS])
    languages = Counter(language_of(one.text) for group in groups_QS for one in group)

    def measure(drawn_Q: Any) -> Any:
        return np.array([1000 * words_Q[drawn_Q].sum() / tokens_Q[drawn_Q].sum()])

    return {
        "language_mix": {language: languages[language] / languages.total() for language in LANGUAGES},
        **_rate("reflection_rate", [[words > 0 for words in words_S] for words_S in words_QS]),
        **_resampled(("reflection_words_per_1k_tokens",), measure, len(groups_QS)),
    }


def _thoughts(groups_QS: Sequence[Sequence[Completion]], thinking: "Thinking") -> dict[str, Any]:
    thoughts = [one.thought for group in groups_QS for one in group]
    assert all(thoughts), "a completion under a budget has no thought"
    return {
        "thinking_budget": {"min_tokens": thinking.min_tokens, "max_tokens": thinking.max_tokens},
        "mean_thinking_tokens": _mean([thought.num_tokens for thought in thoughts if thought]),
        "mean_waits": _mean([thought.num_waits for thought in thoughts if thought]),
        **_rate(
            "forced_to_end_rate",
            [[bool(one.thought and one.thought.was_forced_to_end) for one in group] for group in groups_QS],
        ),
    }


def _num_words(completion: Completion, planted: int) -> int:
    """Words of reflection, less `planted` for each time that the thought was made to go on."""
    num_waits = completion.thought.num_waits if completion.thought else 0
    return max(0, len(REFLECTION.findall(completion.text)) - planted * num_waits)


def _rate(name: str, hits_QS: Sequence[Sequence[bool]]) -> dict[str, float]:
    return _bounded(name, clustered_share([list(map(float, hits_S)) for hits_S in hits_QS]))


def _bounded(name: str, estimate: Estimate) -> dict[str, float]:
    prefix = "" if name == "mean" else f"{name}_"
    return {name: estimate.mean, f"{prefix}low": estimate.low, f"{prefix}high": estimate.high}


def _resampled(names: Sequence[str], measure: Any, num_questions: int) -> dict[str, float | None]:
    """Each of the numbers of `measure` over all questions, with its bootstrap interval."""
    import numpy as np

    values = measure(np.arange(num_questions))
    intervals = bootstrap_intervals(measure, num_questions)
    metrics: dict[str, float | None] = {}
    for place, name in enumerate(names):
        low, high = intervals[place] if intervals else (0.0, 0.0)
        is_known = low < high
        metrics |= {name: float(values[place])}
        metrics |= {f"{name}_low": low if is_known else None, f"{name}_high": high if is_known else None}
    return metrics


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
