"""Where in a TOML file each key and each element is, which Python's reader does not tell."""

from __future__ import annotations

import re
import tomllib

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
    found: dict[Place, int] = {}
    newest: dict[Place, int] = {}  # the number of the last [[table]] of each name
    table: Place = ()  # that the keys at the beginning of a line belong to
    place: Place = ()  # of the value that comes
    keys: list[str] = []
    header = 0  # open brackets of a [table] or [[table]]
    is_key = True  # whether a key comes, not a value
    inside: list[tuple[Place, int]] = []  # arrays, with the number of the next element; inline tables, with −1
    line = 1

    def walk(above: Place, keys: list[str]) -> Place:
        for key in keys:
            above = (*above, newest[above]) if above in newest else above
            above = (*above, key)
            found.setdefault(above, line)
        return above

    for match in _TOKEN.finditer(text):
        token = match.group()
        begins_value = not is_key and match.lastgroup != "blank" and token not in ("\n", "]", "}", ",", "=", ".")
        if begins_value and inside and inside[-1][1] >= 0:  # the first token of an element
            place = (*inside[-1][0], inside[-1][1])
            found.setdefault(place, line)
        if match.lastgroup in ("text", "bare"):
            if is_key:
                keys.append(tomllib.loads(f"key = {token}")["key"] if match.lastgroup == "text" else token)
        elif token == "=":
            place, keys, is_key = walk(inside[-1][0] if inside else table, keys), [], False
        elif token == "[" and is_key:
            header += 1
        elif token == "]" and header:
            if keys:
                table, keys = walk((), keys), []
                if header == 2:
                    newest[table] = newest.get(table, -1) + 1
                table = (*table, newest[table]) if table in newest else table
                found.setdefault(table, line)
            header -= 1
        elif token in ("[", "{"):
            inside.append((place, 0 if token == "[" else -1))
            is_key = token == "{"
        elif token in ("]", "}"):
            inside.pop()
            is_key = False
        elif token == "," and inside:
            above, number = inside.pop()
            inside.append((above, number + 1 if number >= 0 else -1))
            is_key = number < 0
        elif token == "\n" and not inside:
            is_key = True
        line += token.count("\n")
    return found
