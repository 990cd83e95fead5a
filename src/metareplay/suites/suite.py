"""Suites: many runs, written down in a TOML file as benchmarks × methods × settings × seeds (docs/suites.md)."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from metareplay.errors import BadInput
from metareplay.files import read_regular
from metareplay.runs.request import Request
from metareplay.settings import nearest
from metareplay.suites.reader import Place, Reader

_TOKEN = re.compile(
    r"(?P<blank>[ \t\r]+|\#[^\n]*)"
    r'|(?P<text>"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\]|\\.)*"|\'[^\']*\')'
    r"|(?P<mark>\n|\[|\]|\{|\}|,|=|\.)"
    r"|(?P<bare>[^\s=,\[\]{}.\"'#]+)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Suite:
    """Runs that belong together."""

    name: str
    requests: tuple[Request, ...]
    """No two of them the same: all of the first seed, then all of the next."""
    notes: tuple[str, ...] = ()
    """What its author may want to know: settings that no recipe fits exactly, runs that were asked for twice."""
    tuned: tuple[dict[str, Any], ...] = ()
    """How its settings were chosen, as ``metareplay tune`` wrote it."""
    compare: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()

    @classmethod
    def read(cls, suite: str | Path, seeds: int | None = None) -> Self:
        """Read a suite file, or one among ``shipped()``; BadInput lists all that is wrong with it, each with its line.

        So many ``seeds`` run, from 0, or those that the file says. Nothing is downloaded; a user's own method files are
        run, since they say what settings there are.
        """
        file, reader = parse(suite, seeds)
        requests = () if reader.problems else reader.requests()
        beside = reader.beside(requests)
        refuse(file, reader)
        name, tuned = reader.content.get("name", file.stem), tuple(reader.content.get("tuned", ()))
        return cls(name, requests, reader.noted, tuned, *beside)

    @staticmethod
    def shipped() -> tuple[str, ...]:
        """The names of the suites that come with the package."""
        there = (file.name for file in files("metareplay.suites").iterdir())
        return tuple(sorted(name[:-5] for name in there if name.endswith(".toml")))


def parse(suite: str | Path, seeds: int | None = None) -> tuple[Path, Reader]:
    """A suite's file, or one that comes with the package, and its content; BadInput if that is no TOML."""
    file, text = _text(str(suite))
    try:
        content = tomllib.loads(text)
        reader = Reader(content, lines(text), file.parent, seeds)
        reader.refuse_absurd((), content)
    except RecursionError:
        raise BadInput(f"{file} cannot be read: its brackets are nested too deep") from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{file} is not valid TOML: {error}") from None
    except ValueError:
        raise BadInput(f"{file} is not valid TOML: a number in it has thousands of digits") from None
    return file, reader


def _text(suite: str) -> tuple[Path, str]:
    """The file's path, or a shipped suite's name as one, and what it says."""
    path = Path(suite)
    if path.suffix != ".toml" and not path.is_file():
        if suite in Suite.shipped():
            return Path(f"{suite}.toml"), (files("metareplay.suites") / f"{suite}.toml").read_text(encoding="utf-8")
        question = nearest(suite, Suite.shipped()) or ";"
        raise BadInput(
            f"there is no suite {suite!r}{question} metareplay comes with {', '.join(Suite.shipped())}; "
            "one of your own is a file: FILE.toml"
        )
    try:
        return path, read_regular(path).decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise BadInput(f"the suite {suite} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"the suite {suite} is not text in UTF-8 (byte {error.start}): save it as UTF-8") from None


def refuse(file: Path, reader: Reader) -> None:
    """Raise BadInput with all that is wrong with a file, if anything is."""
    found = [f"line {line}: {text}" if line else text for line, text in dict.fromkeys(sorted(reader.problems))]
    if len(found) == 1:
        raise BadInput(f"{file}, {found[0]}")
    if found:
        raise BadInput("\n  ".join([f"{file} has {len(found)} mistakes; nothing was run:", *found]))


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
