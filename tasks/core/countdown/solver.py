"""Solve Countdown exactly: every value that some numbers can reach, and one expression for each.

Values are rationals held as (numerator, denominator) in lowest terms with a positive denominator; intermediate results
may be negative or fractions. Every subset of the numbers is worked out once from its splits into two smaller subsets,
always in the same order, so the same call gives the same expressions. 3 and 4 numbers take milliseconds, `solve` takes
about a second for 6, `expressions` some seconds and several hundred MB.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import gcd

from tasks.core.errors import UserError

MAX_NUMBERS = 6
OPERATORS = "+-*/"
PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}
ATOM_PRECEDENCE = 3

Value = tuple[int, int]
Tree = int | tuple[str, "Tree", "Tree"]


def solve(numbers: Sequence[int], target: int, operators: str = OPERATORS) -> str | None:
    """An expression that uses each of `numbers` once and equals `target`, such as "(3 + 5) * 7", or None.

    The last operation is searched from the target backwards, so the values of all the numbers together, the largest
    set by far, are never listed.
    """
    _refuse_bad_input(numbers, operators)
    if len(numbers) == 1:
        return str(numbers[0]) if numbers[0] == target else None
    wanted = (target, 1)
    full = (1 << len(numbers)) - 1
    reached = _reachable(numbers, operators, largest=len(numbers) - 1)
    for left, right in _splits(full):
        for value, tree in reached[left].items():
            for operator, other, swapped in _completions(value, wanted, operators):
                if other in reached[right]:
                    partner = reached[right][other]
                    return _render((operator, partner, tree) if swapped else (operator, tree, partner))
            if value == wanted == (0, 1) and "*" in operators:
                return _render(("*", tree, next(iter(reached[right].values()))))
    return None


def expressions(numbers: Sequence[int], operators: str = OPERATORS) -> dict[Fraction, str]:
    """Every value that uses each of `numbers` once, with one expression for it, in a deterministic order.

    An integer looks its value up too: `expressions([3, 5, 7])[22]`.
    """
    _refuse_bad_input(numbers, operators)
    reached = _reachable(numbers, operators, largest=len(numbers))
    return {Fraction(*value): _render(tree) for value, tree in reached[(1 << len(numbers)) - 1].items()}


def _reachable(numbers: Sequence[int], operators: str, largest: int) -> dict[int, dict[Value, Tree]]:
    """{bit mask of a subset: {value: tree}} for every subset of at most `largest` of the numbers."""
    reached: dict[int, dict[Value, Tree]] = {1 << i: {(number, 1): number} for i, number in enumerate(numbers)}
    masks = (mask for mask in range(1, 1 << len(numbers)) if 1 < mask.bit_count() <= largest)
    for mask in sorted(masks, key=lambda mask: (mask.bit_count(), mask)):
        found: dict[Value, Tree] = {}
        for left, right in _splits(mask):
            for a, tree_a in reached[left].items():
                for b, tree_b in reached[right].items():
                    for operator, value, swapped in _results(a, b, operators):
                        if value not in found:
                            found[value] = (operator, tree_b, tree_a) if swapped else (operator, tree_a, tree_b)
        reached[mask] = found
    return reached


def _splits(mask: int) -> Iterator[tuple[int, int]]:
    """Every way to cut a subset in two, each once: the lowest number is always on the left."""
    lowest = mask & -mask
    rest = mask ^ lowest
    right = rest
    while right:
        yield mask ^ right, right
        right = (right - 1) & rest


def _results(a: Value, b: Value, operators: str) -> Iterator[tuple[str, Value, bool]]:
    """(operator, value, swapped) for a∘b and, where the order matters, b∘a (swapped)."""
    (p, q), (r, s) = a, b
    for operator in operators:
        if operator == "+":
            yield "+", _lowest(p * s + r * q, q * s), False
        elif operator == "*":
            yield "*", _lowest(p * r, q * s), False
        elif operator == "-":
            numerator, denominator = _lowest(p * s - r * q, q * s)
            yield "-", (numerator, denominator), False
            yield "-", (-numerator, denominator), True
        else:
            if r:
                yield "/", _lowest(p * s, q * r), False
            if p:
                yield "/", _lowest(r * q, s * p), True


def _completions(a: Value, wanted: Value, operators: str) -> Iterator[tuple[str, Value, bool]]:
    """(operator, x, swapped) with a∘x = wanted, or x∘a = wanted when swapped, for each x that is unique."""
    (p, q), (r, s) = a, wanted
    for operator in operators:
        if operator == "+":
            yield "+", _lowest(r * q - p * s, s * q), False
        elif operator == "-":
            yield "-", _lowest(p * s - r * q, s * q), False
            yield "-", _lowest(r * q + p * s, s * q), True
        elif operator == "*" and p:
            yield "*", _lowest(r * q, s * p), False
        elif operator == "/" and p:
            if r:
                yield "/", _lowest(p * s, q * r), False
            yield "/", _lowest(r * p, s * q), True


def _lowest(numerator: int, denominator: int) -> Value:
    """The fraction in lowest terms with a positive denominator."""
    if denominator < 0:
        numerator, denominator = -numerator, -denominator
    if denominator == 1:
        return numerator, 1
    divisor = gcd(numerator, denominator)
    return numerator // divisor, denominator // divisor


def _render(tree: Tree) -> str:
    """The expression with no more parentheses than it needs and spaces around the operators."""
    return _render_at(tree)[0]


def _render_at(tree: Tree) -> tuple[str, int]:
    """(text, precedence of its outermost operator)."""
    if isinstance(tree, int):
        return str(tree), ATOM_PRECEDENCE if tree >= 0 else 0
    operator, left, right = tree
    own = PRECEDENCE[operator]
    left_text, left_precedence = _render_at(left)
    right_text, right_precedence = _render_at(right)
    if left_precedence < own:
        left_text = f"({left_text})"
    # a - (b + c) and a / (b * c) need them, and so does a + (b - c) in no case: only - and / are not associative.
    if right_precedence < own or (right_precedence == own and operator in "-/"):
        right_text = f"({right_text})"
    return f"{left_text} {operator} {right_text}", own


def _refuse_bad_input(numbers: Sequence[int], operators: str) -> None:
    if not 1 <= len(numbers) <= MAX_NUMBERS:
        raise UserError(f"countdown solver: {len(numbers)} numbers given: 1 to {MAX_NUMBERS} are allowed.")
    if not operators or set(operators) - set(OPERATORS):
        raise UserError(f"countdown solver: operators is {operators!r}: give one or more of {OPERATORS!r}.")
