"""Tables as text for papers and pages: Markdown (GitHub's) and LaTeX (booktabs). Cells are plain text."""

import re
from collections.abc import Sequence

from tasks.core.report.text import visible

# fmt: off
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "−": "$-$", "–": "--", "→": r"$\to$", "×": r"$\times$",
}
# fmt: on
_SIGNED = re.compile(r"(?<![\w.-])([+-]\d+(?:\.\d+)?)(?![\w.-])")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&$])")


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]], *, num_names: int) -> str:
    """A table whose first `num_names` columns are names, left-aligned; the others are numbers, right-aligned."""
    rule = [":--" if index < num_names else "--:" for index in range(len(columns))]
    cells = [[_markdown_cell(cell) for cell in row] for row in (columns, *rows)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (cells[0], rule, *cells[1:]))


def latex(columns: Sequence[str], rows: Sequence[Sequence[str]], *, num_names: int, caption: str) -> str:
    """A table environment of the same layout; needs the package booktabs."""
    head, *body = [" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in (columns, *rows)]
    lines = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\begin{{tabular}}{{{'l' * num_names + 'r' * (len(columns) - num_names)}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        rf"\caption{{{_latex_cell(caption)}}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _one_line(cell: str) -> str:
    return " ".join(visible(cell).split())


def _markdown_cell(cell: str) -> str:
    """Nothing in it is read as markup, HTML or the end of the cell."""
    return _MARKDOWN.sub(r"\\\1", _one_line(cell))


def _latex_cell(cell: str) -> str:
    """Nothing in it is read as a command; signed numbers get a minus, not a hyphen."""
    parts = _SIGNED.split(_one_line(cell))
    texts = ("".join(_LATEX.get(character, character) for character in part) for part in parts[::2])
    numbers = [f"${number}$" for number in parts[1::2]] + [""]
    return "".join(text + number for text, number in zip(texts, numbers, strict=True))
