"""Suites: many runs, written down in a TOML file as benchmarks × methods × settings × seeds (docs/suites.md)."""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from metareplay.errors import BadInput, failing
from metareplay.files import read_regular
from metareplay.runs.request import Request
from metareplay.settings import nearest
from metareplay.suites.plan import forget_streams
from metareplay.suites.reader import Reader


@dataclass(frozen=True)
class Suite:
    """Runs that belong together."""

    name: str
    requests: tuple[Request, ...]  # no two of them the same: all of the first seed, then all of the next
    notes: tuple[str, ...] = ()
    """What its author may want to know: settings that no recipe fits exactly, runs that were asked for twice."""
    tuned: tuple[dict[str, Any], ...] = ()  # how its settings were chosen, as ``metareplay tune`` wrote it
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
    forget_streams()
    try:
        content = tomllib.loads(text)
        reader = Reader(content, text, file.parent, seeds)
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
        text = f"there is no suite {suite!r}{question} metareplay comes with {', '.join(Suite.shipped())}; "
        raise BadInput(f"{text}one of your own is a file: FILE.toml")
    try:
        with failing(BadInput, f"the suite {suite} cannot be read"):
            return path, read_regular(path).decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"the suite {suite} is not text in UTF-8 (byte {error.start}): save it as UTF-8") from None


def refuse(file: Path, reader: Reader) -> None:
    """Raise BadInput with all that is wrong with a file, if anything is."""
    found = [f"line {line}: {text}" if line else text for line, text in dict.fromkeys(sorted(reader.problems))]
    if len(found) == 1:
        raise BadInput(f"{file}, {found[0]}")
    if found:
        raise BadInput("\n  ".join([f"{file} has {len(found)} mistakes; nothing was run:", *found]))
