"""One line under every plot for those who come to learn: what it means, what healthy and sick look like.

Where a paper tells of the sickness, it is named. How high is too high depends on model and task: read the shape.
"""

_LOSSES = {
    "train_sft": "How surprised the model is by the next token of the traces. Healthy: both lines fall and flatten "
    "together. Sick: held out turns up again (overfitting), or spikes that do not heal (learning rate too high).",
    "train_grpo": "Healthy: hovers near 0 by construction, since the advantages of a group cancel; its height says "
    "nothing, so read the reward instead. Sick: spikes, which come with jumps in KL or length.",
    "train_ppo": "Healthy: the critic's part falls early, then follows the policy. Sick: it stays high or spikes, and "
    "then the advantages that it gives are noise.",
}
_LESSONS = {
    "Mean reward": "What training maximises, averaged over a step's completions. Healthy: rises, then levels off. "
    "Sick: flat from the start (too hard, or no spread), or rising while held-out accuracy does not (reward hacking).",
    "Mean of each reward": "Each part before its weight. Healthy: format saturates first, accuracy climbs behind it. "
    "Sick: one is bought with another, or format falls back towards 0 (format collapse).",
    "Mean response length": "Healthy: changes slowly, and grows where thinking longer pays, as in R1-Zero. Sick: races "
    "to the token limit while the reward stands still (length explosion).",
    "Longest response": "The longest of each step. Healthy: below the token limit most of the time. Sick: stuck at the "
    "limit, so the longest thoughts are cut off before their answer.",
    "Responses cut off at the limit": "What is cut off has no answer and earns nothing. Healthy: few, and fewer with "
    "time. Sick: more and more: the limit, no longer the task, decides what is learnt.",
    "Groups whose rewards are all equal": "Such a group has zero variance, so its advantages are 0 and it teaches "
    "nothing. Healthy: a minority. Sick: towards 100%: problems all too easy or too hard, or too few samples of each.",
    "Groups kept by dynamic sampling": "The groups with both better and worse completions (DAPO, arXiv:2503.14476). "
    "Healthy: steady. Sick: falls towards 0, so each step costs ever more samples: the problems are used up.",
    "KL from the reference model": "How far the policy has moved from where it began. Healthy: grows slowly. Sick: a "
    "sudden jump, often just before the text falls apart: learning rate too high, or beta too low.",
    "Entropy of the policy": "How open the choice of the next token is. Healthy: falls slowly. Sick: close to 0 early "
    "(entropy collapse: nothing is explored any more), or climbing without end (the text turns to noise).",
    "Variance of the returns that the critic explains": "1: the critic foresees every return; 0: no better than their "
    "mean. Healthy: climbs above 0 and stays. Sick: at or below 0, where the advantages are noise.",
    "Next-token accuracy": "Share of the traces' tokens that the model would have picked itself. Healthy: rises and "
    "levels off below 100%. Sick: comes close to 100%: the traces are learnt by heart.",
    "Right answers among the rollouts": "Accuracy on the training problems, as sampled. Healthy: rises together with "
    "the evaluation. Sick: rises alone: problems learnt by heart, or a verifier that is being fooled.",
    "Rollouts with words of reflection": "Words such as “wait”; base models write them too (Oat-Zero, "
    "arXiv:2503.20783). Healthy: moves with accuracy. Sick: climbs alone: a manner of speaking, not a second thought.",
    "Language of the rollouts": "Healthy: the language of the problem throughout. Sick: the mixed share grows, as in "
    "R1-Zero, whose successor was given a reward for language consistency (arXiv:2501.12948).",
    "Accuracy": "Healthy: training moves the point right by more than its line is long. Sick: left. Intervals that "
    "overlap do not prove that nothing changed: the paired difference below is the sharper test.",
    "Completion lengths": "Healthy: a hump well below the limit. Sick: a spike at the limit (thoughts that never end), "
    "or one at a few tokens (no thought at all).",
    "Verdicts": "Healthy: what was wrong becomes correct. Sick: truncated or no answer grows: then format or length "
    "costs points, not reasoning.",
    "Accuracy while training": "Each point is a checkpoint with its 95% interval. Healthy: climbs, then levels off. "
    "Sick: a peak and a fall behind it (overoptimisation): stop there. One point against the next is mostly chance.",
    "Accuracy by thinking tokens": "The same checkpoint made to think less or more (budget forcing, s1, "
    "arXiv:2501.19393). Healthy: rises, then levels off. Sick: flat (its thoughts do not help), or falling.",
}


def lesson_of(title: str, stage: str = "") -> str:
    """The caption of the plot `title`; a loss means something else for each kind of training. Raises KeyError."""
    return _LOSSES[stage] if title == "Loss" else _LESSONS[title]
