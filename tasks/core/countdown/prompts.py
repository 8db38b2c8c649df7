"""How a Countdown problem is put to a model. A style is a function from (numbers, target) to chat messages.

`tinyzero`, `mini_r1` and `datawhale` are built like the prompts of these projects, in words of our own: the numbers as
a list, the target, the four operators, each number once, think and answer tags with an example. All three let the
reply begin with a sentence and `<think>`, which is no part of the question: it is the chat template `tinyzero`, or
`prefill` in fetch_model.

- tinyzero: TinyZero@95df88f, examples/data_preprocess/countdown.py: no system message.
- mini_r1: philschmid/deep-learning-pytorch-huggingface@59b3797, training/scripts/run_r1_grpo.py: a system message, and
  the question also asks to think step by step.
- datawhale: unlock-deepseek@051e0c9, Datawhale-R1/train_Datawhale-R1.py: as mini_r1, in Chinese, no system message.
"""

from collections.abc import Callable, Sequence

Message = dict[str, str]


def _tokens(numbers: Sequence[int], target: int) -> list[Message]:
    """For the scratch tokenizer: `3 5 7 -> 20`, one token each."""
    return [{"role": "user", "content": f"{' '.join(map(str, numbers))} -> {target}"}]


def _english(numbers: Sequence[int], target: int) -> list[Message]:
    system = (
        "You solve arithmetic puzzles. Work through the puzzle between <think> and </think>, trying combinations and "
        "checking each one, then give the finished expression, and nothing else, between <answer> and </answer>."
    )
    user = (
        f"Numbers: {', '.join(map(str, numbers))}. Target: {target}.\n"
        "Combine all of the numbers into one expression that equals the target. Every number is used exactly once; "
        "you may add, subtract, multiply, divide and use brackets.\n"
        "For the numbers 2, 3, 4 and the target 10 a correct reply ends with <answer>3 * 4 - 2</answer>."
    )
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def _chinese(numbers: Sequence[int], target: int) -> list[Message]:
    system = (
        "你擅长解算术谜题。请先在 <think> 和 </think> 之间写出思考过程：逐个尝试组合并检验结果；"
        "再在 <answer> 和 </answer> 之间只写最终的算式。"
    )
    user = (
        f"给定数字：{'、'.join(map(str, numbers))}。目标：{target}。\n"
        "请把全部数字组成一个等于目标的算式，每个数字恰好使用一次，可以使用加、减、乘、除和括号。\n"
        "例如数字 2、3、4，目标 10，正确的回答以 <answer>3 * 4 - 2</answer> 结尾。"
    )
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def _asked(numbers: Sequence[int], target: int) -> str:
    return (
        f"Form an equation from the numbers {list(numbers)} whose result is {target}. Addition, subtraction, "
        "multiplication and division (+, -, *, /) are allowed, and every number may be used only once. Write down your "
        "work between <think> and </think>, and then only the final equation between <answer> and </answer>, as in "
        "<answer> (1 + 2) / 3 </answer>."
    )


def _tinyzero(numbers: Sequence[int], target: int) -> list[Message]:
    return [{"role": "user", "content": _asked(numbers, target)}]


def _mini_r1(numbers: Sequence[int], target: int) -> list[Message]:
    system = "You are an assistant who first works out in thought how to get to the answer, then tells it to the user."
    user = f"{_asked(numbers, target)} Between the think tags, go one step at a time."
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def _datawhale(numbers: Sequence[int], target: int) -> list[Message]:
    user = (
        f"请用数字 {list(numbers)} 列出一个结果为 {target} 的等式。可以多次使用加、减、乘、除（+、-、*、/），"
        "但每个数字只能用一次。把思考过程写在 <think> 和 </think> 之间，再把最终的等式写在 <answer> 和 </answer> 之间，"
        "例如 <answer> (1 + 2) / 3 </answer>。请在 <think> 标签内一步一步地思考。"
    )
    return [{"role": "user", "content": user}]


PROMPT_STYLES: dict[str, Callable[[Sequence[int], int], list[Message]]] = {
    "tokens": _tokens,
    "english": _english,
    "chinese": _chinese,
    "tinyzero": _tinyzero,
    "mini_r1": _mini_r1,
    "datawhale": _datawhale,
}
