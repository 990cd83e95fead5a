"""A table as LaTeX, with rules of the package booktabs."""

from __future__ import annotations

from itertools import groupby

from metareplay.results.tables import Column, Table

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # at the beginning of a row it would be taken for an option
    "]": "{]}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "\n": " ",
}
"""What LaTeX would take for something else; every other character stands for itself, in UTF-8."""


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return "".join(SPECIAL.get(character, character) for character in text)


def latex(table: Table) -> str:
    """The table as a ``tabular``; it wants the packages booktabs and, for quotes, fontenc with T1."""
    columns = table.columns
    lines = [
        "% Made by `metareplay report`. In the preamble: \\usepackage[T1]{fontenc} \\usepackage{booktabs}",
        rf"\begin{{tabular}}{{{''.join('r' if column.holds == 'numbers' else 'l' for column in columns)}}}",
        r"\toprule",
        *_heading(columns),
        _row([column.title for column in columns]),
        r"\midrule",
    ]
    for number, part in enumerate(table.parts):
        lines += [r"\midrule"] if number else []
        lines += [_row(line.cells) for line in part]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [f"% {_comment(note)}" for note in table.notes]
    return "\n".join(lines) + "\n"


def _heading(columns: tuple[Column, ...]) -> list[str]:
    """The row of shared headings with rules below them, if there are any."""
    if not any(column.above for column in columns):
        return []
    cells, rules, at = [], [], 1
    for above, shared in groupby(column.above for column in columns):
        width = len(list(shared))
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{escaped(above)}}}" if above else " & ".join([""] * width))
        rules += [rf"\cmidrule(lr){{{at}-{at + width - 1}}}"] if above else []
        at += width
    return [" & ".join(cells) + r" \\", " ".join(rules)]


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return " & ".join(map(escaped, cells)) + r" \\"


def _comment(text: str) -> str:
    return " ".join(text.split())
