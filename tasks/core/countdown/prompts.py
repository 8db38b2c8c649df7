"""How a Countdown problem is put to a model. A style is a function from (numbers, target) to chat messages."""

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


PROMPT_STYLES: dict[str, Callable[[Sequence[int], int], list[Message]]] = {
    "tokens": _tokens,
    "english": _english,
    "chinese": _chinese,
}
