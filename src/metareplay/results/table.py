"""One table with several faces: for the terminal, LaTeX and CSV; in a page ``page.html`` shows it."""

import csv
import io
import re
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import rich.table
from rich.text import Text

from metareplay.errors import plain
from metareplay.results.statistics import Estimate
from metareplay.runs.metrics import Undefined

NONE = "–"
_NAMES = ("backslash", "asciicircum", "asciitilde", "less", "greater", "bar", "quotedbl")
LATEX = {character: rf"\text{name}{{}}" for character, name in zip('\\^~<>|"', _NAMES, strict=True)}
LATEX |= {"[": "{[}", "]": "{]}", "±": r"$\pm$", "−": "$-$", "–": "--", "—": "---"}  # a row's first [ begins an option
LATEX |= {character: f"\\{character}" for character in "{}$&#%_"}
"""What LaTeX would take for something else; every other character stands for itself, in UTF-8."""
FORMULA = re.compile(r"[=+\-@＝＋－＠]")
NUMBER = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?( ± [\d.]+)?")


def latex(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return "".join(LATEX.get(character, character) for character in plain(text))


def thousands(number: float) -> str:
    """A whole number with its digits in threes."""
    return f"{number:,.0f}".replace(",", " ")


def with_interval(value: Estimate | Undefined | None, *, signed: bool = False) -> str | None:
    """A mean in percent with half the width of its interval, ``−1.2 ± 0.3``, as far as they have a meaning."""
    if value is None or isinstance(value, Undefined):
        return None
    mean = f"{100 * value.mean:{'+' if signed else ''}.1f}".replace("-", "−")
    return mean if value.half_width is None else f"{mean} ± {100 * value.half_width:.1f}"


@dataclass(frozen=True)
class Column:
    """Its heading, one ``above`` that neighbours share, and the least ``width`` in a terminal; numbers stand right."""

    title: str
    above: str = ""
    holds: Literal["numbers", "words", "sentences", "commands"] = "numbers"
    meaning: str = ""
    width: int | None = None


@dataclass(frozen=True)
class Row:
    """A row; ``problem``, ``method`` and ``memories`` are what filters go by."""

    cells: tuple[object, ...]
    """Texts, numbers (which CSV gives in full), or None; the first names the row. For a terminal, also ``Text``."""
    problem: str = ""
    method: str = ""
    memories: int | None = None
    strong: bool = False
    rule: bool = False  # whether there is a rule above it


@dataclass(frozen=True)
class Table:
    """Columns and rows, with a caption above and notes below."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str = ""
    notes: tuple[str, ...] = ()

    @property
    def above(self) -> list[tuple[str, int]]:
        """The headings that columns share, each with how many do."""
        return [(above, len(list(own))) for above, own in groupby(column.above for column in self.columns)]

    def terminal(self, heading: str = "dim") -> rich.table.Table:
        """For a terminal; minus signs of numbers are those that programs read. ``heading`` is a style of rich."""
        title = Text(plain(self.caption), "bold") if self.caption else None
        table = rich.table.Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.header_style, table.show_header = heading, any(column.title for column in self.columns)
        shared = [word for above, width in self.above for word in (above, *[""] * (width - 1))]
        for column, word in zip(self.columns, shared, strict=True):
            number = column.holds == "numbers"
            head = Text((f"{plain(word)}\n" if len(self.above) > 1 else "") + plain(column.title))
            table.add_column(head, justify="right" if number else "left", no_wrap=number, min_width=column.width)
        for row in self.rows:
            texts = [one if isinstance(one, Text) else Text(re.sub(r"−(?=\d)", "-", _shown(one))) for one in row.cells]
            table.add_row(*texts, style="bold" if row.strong else "")
        return table

    def latex(self) -> str:
        """A ``tabular``; it wants the packages booktabs and, for quotes, fontenc with T1."""
        alignment = "".join("r" if column.holds == "numbers" else "l" for column in self.columns)
        lines = [
            "% Made by `metareplay report`. In the preamble: \\usepackage[T1]{fontenc} \\usepackage{booktabs}",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
        ]
        if any(column.above for column in self.columns):
            cells, rules, at = [], [], 1
            for above, width in self.above:
                cells.append(rf"\multicolumn{{{width}}}{{c}}{{{latex(above)}}}" if above else " & " * (width - 1))
                rules += [rf"\cmidrule(lr){{{at}-{at + width - 1}}}"] if above else []
                at += width
            lines += [" & ".join(cells) + r" \\", " ".join(rules)]
        lines += [" & ".join(latex(column.title) for column in self.columns) + r" \\", r"\midrule"]
        for row in self.rows:
            lines += [r"\midrule"] if row.rule else []
            lines.append(" & ".join(latex(_shown(cell)) for cell in row.cells) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}", *(f"% {plain(note)}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        """With numbers in full; what a spreadsheet would take for a formula has an apostrophe before it."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([_cell(f"{column.above} {column.title}".strip()) for column in self.columns])
        writer.writerows([_cell(cell) for cell in row.cells] for row in self.rows)
        return text.getvalue()


def _shown(cell: object) -> str:
    return NONE if cell is None else plain(str(cell))


def _cell(cell: object) -> object:
    if not isinstance(cell, str):
        return "" if cell is None else cell
    text = plain(cell)
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text
