"""What the samples of a probe foretell: lines of "fine", "watch" or "will not learn", each with the fix."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from tasks.core.preflight.probe import Sampled
from tasks.core.preflight.template import judge_text

FEW, MOST = 0.1, 0.9

Outlook = Literal["fine", "watch", "will not learn"]


class Line(NamedTuple):
    """One verdict and why."""

    outlook: Outlook
    text: str


def judge(sampled: Sampled, rewards: dict[str, object], *, is_ppo: bool) -> list[Line]:
    """The verdicts, the worst first; one line "fine" where nothing is wrong.

    Sixty-four completions tell a share to about six points; a model that is right once in a hundred may show none.
    """
    lines = [*_of_template(sampled, rewards), *_of_rewards(sampled, is_ppo=is_ppo), *_of_lengths(sampled)]
    if not lines:
        return [Line("fine", "rewards differ within groups, completions end, the template fits.")]
    return sorted(lines, key=lambda line: line.outlook != "will not learn")


def _of_template(sampled: Sampled, rewards: dict[str, object]) -> Iterator[Line]:
    for finding in judge_text(sampled.rendered, sampled.messages, rewards):
        yield Line("will not learn" if finding.level == "refuse" else "watch", finding.text)
    if sampled.begins_twice:
        yield Line("watch", "the prompt begins with the beginning-of-text token twice: take it out of chat_template.")


def _of_rewards(sampled: Sampled, *, is_ppo: bool) -> Iterator[Line]:
    """From equal rewards nothing is learnt, unless a sample was cut shorter than the recipe's completions are."""
    is_cut = sampled.max_new_tokens < sampled.wanted_tokens and sampled.share_truncated > MOST
    never: Outlook = "watch" if is_cut else "will not learn"
    cut = f" But only {sampled.max_new_tokens} of {sampled.wanted_tokens} tokens were sampled: try on a GPU." * is_cut
    total = sampled.total
    if sampled.not_scored:
        named = " and ".join(sampled.not_scored)
        yield Line("watch", f"the reward {named} was not asked, so the weighted sum lacks it.")
        never = "watch"
    if total.most is not None and total.most == total.least:
        if total.most == 0:
            yield Line(
                never,
                "every reward is 0, so every advantage is: begin with train_sft on some traces (a cold start), take "
                f"easier problems, or add a reward that is earned sooner, such as format or tag_count.{cut}",
            )
        else:
            yield Line(
                never, f"every reward is {total.most:g}: there is nothing to improve; take harder problems.{cut}"
            )
    elif not is_ppo and sampled.share_equal_groups > 1 - FEW:
        yield Line(
            "watch",
            f"{sampled.share_equal_groups:.0%} of the groups have equal rewards and teach nothing: raise "
            "num_generations, or set dynamic_sampling, or take problems nearer to what the model can do.",
        )
    accuracy = sampled.rewards.get("accuracy")
    if accuracy and accuracy.most == 0 and total.most:
        yield Line(
            "watch", f"no answer was right; the model may learn the form alone. Sample more, or easier problems.{cut}"
        )
    if sampled.share_no_answer > MOST and sampled.share_truncated <= MOST:
        yield Line(
            "watch",
            f"{sampled.share_no_answer:.0%} of the completions hold no answer that the verifier finds: does the prompt "
            "say how to give it (<answer> tags, or \\boxed{})?",
        )


def _of_lengths(sampled: Sampled) -> Iterator[Line]:
    if sampled.share_truncated == 1.0:
        pad = " The pad token is one of them, so training that hides padding never teaches it." * sampled.pad_is_end
        yield Line(
            "watch",
            f"no completion ended by itself within {sampled.max_new_tokens} tokens; what ends one is "
            f"{' or '.join(sampled.end_tokens)}.{pad} Does the template end a turn with it? A base model may need "
            "eos_token in fetch_model, or a cold start.",
        )
    elif sampled.share_truncated > 0.5:
        yield Line(
            "watch",
            f"{sampled.share_truncated:.0%} of the completions were cut at {sampled.max_new_tokens} tokens: raise "
            "max_completion_length, or set mask_truncated_completions.",
        )
