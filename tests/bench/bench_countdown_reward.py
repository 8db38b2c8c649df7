"""Countdown reward: microseconds a completion, ours against the tutorials' regular expression and `eval`.

    python -m tests.bench.bench_countdown_reward

Both judge the same completions of 200-2,000 characters, about half of them right, alternately in one process; the best
of ROUNDS rounds counts. The reference is written from the tutorials' description (mini-r1, Datawhale-R1).
"""

import random
import re
import time

from tasks.core.countdown.problems import Problem, generate
from tasks.core.countdown.solver import solve
from tasks.core.rewards import build_rewards

NUM_COMPLETIONS = 4_000
ROUNDS = 7


def reference_reward(completions: list[str], target: list[int], nums: list[list[int]]) -> list[float]:
    """The tutorials' reward: find the tags, compare the digits, allow some characters, run the rest as code."""
    rewards = []
    for completion, wanted, numbers in zip(completions, target, nums, strict=True):
        try:
            match = re.search(r"<answer>(.*?)<\/answer>", completion, re.DOTALL)
            if match is None:
                rewards.append(0.0)
                continue
            equation = match.group(1).strip()
            used = [int(n) for n in re.findall(r"\d+", equation)]
            if sorted(used) != sorted(numbers) or not re.match(r"^[\d+\-*/().\s]+$", equation):
                rewards.append(0.0)
                continue
            result = eval(equation, {"__builtins__": None}, {})
            rewards.append(1.0 if abs(float(result) - float(wanted)) < 1e-5 else 0.0)
        except Exception:  # the tutorials' own: whatever the text was, the reward is 0
            rewards.append(0.0)
    return rewards


def completions_for(problems: list[Problem], rng: random.Random) -> list[str]:
    """A rambling thought and an answer: right for half of them, else a wrong value or a wrong number."""
    completions = []
    for problem in problems:
        thought, num_chars = "", rng.randint(150, 1_900)
        while len(thought) < num_chars:
            a, b = rng.sample(range(1, 100), 2)
            thought += f"Let me try {a} + {b} = {a + b}, that is not {problem.target}.\n"
        expression = solve(problem.numbers, problem.target)
        wrong = (" + ".join(map(str, problem.numbers)), f"{problem.target} * 1")
        answer = expression if rng.random() < 0.5 else rng.choice(wrong)
        completions.append(f"<think>{thought}</think>\n<answer>{answer}</answer>")
    return completions


def main() -> None:
    """Print microseconds a completion for both and the ratio; they must agree on every completion."""
    problems = generate(0, NUM_COMPLETIONS)
    completions = completions_for(problems, random.Random(0))
    (countdown,), _ = build_rewards({"countdown": 1.0})
    golds = [problem.answer for problem in problems]
    targets = [problem.target for problem in problems]
    numbers = [list(problem.numbers) for problem in problems]
    ours_s, reference_s = [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        ours = countdown(prompts=None, completions=completions, answer=golds)
        ours_s.append(time.perf_counter() - start)
        start = time.perf_counter()
        theirs = reference_reward(completions, targets, numbers)
        reference_s.append(time.perf_counter() - start)
        if ours != theirs:
            raise SystemExit("the two rewards disagree")
    us = 1e6 / NUM_COMPLETIONS
    print(f"{NUM_COMPLETIONS} completions, mean {sum(map(len, completions)) / NUM_COMPLETIONS:.0f} characters")
    print(f"ours      {min(ours_s) * us:7.2f} us a completion")
    print(f"reference {min(reference_s) * us:7.2f} us a completion (regular expression + eval)")
    print(f"ratio     {min(reference_s) / min(ours_s):7.2f} x as fast")


if __name__ == "__main__":
    main()
