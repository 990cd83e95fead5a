"""Where in a TOML file each key and each element is, which Python's reader does not tell."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field

Place = tuple[str | int, ...]
"""How to get to a value: keys, and numbers of elements: ``("benchmarks", 1, "tasks")``."""

_TOKEN = re.compile(
    r"(?P<blank>[ \t\r]+|\#[^\n]*)"
    r'|(?P<text>"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\]|\\.)*"|\'[^\']*\')'
    r"|(?P<mark>\n|\[|\]|\{|\}|,|=|\.)"
    r"|(?P<bare>[^\s=,\[\]{}.\"'#]+)",
    re.DOTALL,
)


def lines(text: str) -> dict[Place, int]:
    """The line, from 1, of each key and each element of a TOML text that ``tomllib`` has accepted."""
    return _Reader(text).read()


@dataclass
class _Reader:
    text: str
    found: dict[Place, int] = field(default_factory=dict)
    newest: dict[Place, int] = field(default_factory=dict)  # the number of the last [[table]] of each name
    depth: int = 0  # of brackets and braces: within them, the ends of lines mean nothing

    def read(self) -> dict[Place, int]:
        self.tokens = self._tokens()
        self._next()
        table: Place = ()
        while self.token:
            if self.token == "\n":
                self._next()
            elif self.token == "[":
                table = self._header()
            else:
                self._assignment(table)
        return self.found

    def _tokens(self) -> Iterator[tuple[str, int]]:
        line = 1
        for match in _TOKEN.finditer(self.text):
            if match.lastgroup != "blank":
                yield match.group(), line
            line += match.group().count("\n")

    def _next(self) -> None:
        self.token, self.line = next(self.tokens, ("", 0))
        while self.token == "\n" and self.depth:
            self.token, self.line = next(self.tokens, ("", 0))

    def _header(self) -> Place:
        """``[table]`` or ``[[table]]``: the place that the lines below it belong to."""
        line = self.line
        self._next()
        array = self.token == "["
        if array:
            self._next()
        *above, last = self._keys()
        place: Place = ()
        for key in above:
            self.found.setdefault((*place, key), line)
            place = self._newest((*place, key))
        place = (*place, last)
        self.found.setdefault(place, line)
        if array:
            self.newest[place] = self.newest.get(place, -1) + 1
        place = self._newest(place)
        self.found.setdefault(place, line)
        while self.token not in ("\n", ""):
            self._next()
        return place

    def _newest(self, place: Place) -> Place:
        return (*place, self.newest[place]) if place in self.newest else place

    def _assignment(self, table: Place) -> None:
        line = self.line
        place = table
        for key in self._keys():
            place = (*place, key)
            self.found.setdefault(place, line)
        self._next()  # =
        self._value(place)

    def _keys(self) -> list[str]:
        keys = []
        while self.token not in ("=", "]"):
            if self.token != ".":
                quoted = self.token[0] in "\"'"
                keys.append(tomllib.loads(f"key = {self.token}")["key"] if quoted else self.token)
            self._next()
        return keys

    def _value(self, place: Place) -> None:
        if self.token in ("[", "{"):
            close = "]" if self.token == "[" else "}"
            self.depth += 1
            self._next()
            number = 0
            while self.token != close:
                if close == "}":
                    self._assignment(place)
                else:
                    self.found[*place, number] = self.line
                    self._value((*place, number))
                    number += 1
                if self.token == ",":
                    self._next()
            self.depth -= 1
            self._next()
        else:
            while self.token not in (",", "]", "}", "\n", ""):
                self._next()
