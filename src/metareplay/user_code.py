"""What a user gives as FILE.py:NAME: a class or a function in a file of theirs."""

from __future__ import annotations

import hashlib
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from metareplay.errors import BadInput


def split(text: str) -> tuple[Path, str] | None:
    """The file and the name in ``FILE.py:NAME``; None if the text is no such thing."""
    path, colon, name = text.rpartition(":")
    return (Path(path), name) if colon and path.endswith(".py") else None


def module(path: Path) -> ModuleType:
    """Run a user's file as a module of its own.

    Raises
    ------
    BadInput
        If there is no such file, or it cannot be run; with the line.
    """
    if path.suffix != ".py" or not path.is_file():
        raise BadInput(f"there is no such Python file as {path}; give FILE.py:NAME")
    content = path.read_bytes()
    name = f"metareplay_user_{path.stem}_{hashlib.sha256(bytes(path.resolve()) + content).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    loaded = ModuleType(name)
    loaded.__file__ = str(path)
    sys.modules[name] = loaded  # where dataclasses and type hints look for it
    try:
        exec(compile(content, path, "exec"), vars(loaded))
    except SyntaxError as error:
        del sys.modules[name]
        line = f"line {error.lineno}: " if error.lineno else ""
        raise BadInput(f"{path} cannot be read: {line}{error.msg}") from error
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadInput(f"{path} cannot be loaded: {_where(error, path)}{text}") from error
    return loaded


def load(text: str, what: str) -> Any:
    """The object that ``FILE.py:NAME`` names.

    Parameters
    ----------
    what
        What it is for, for messages: "a tracker".

    Raises
    ------
    BadInput
        If there is none.
    """
    parts = split(text)
    if parts is None:
        raise BadInput(f"{what} is {text!r}, but must be FILE.py:NAME")
    path, name = parts
    found = vars(module(path))
    if name not in found:
        own = [
            key
            for key, value in found.items()
            if callable(value) and getattr(value, "__module__", "") == found["__name__"]
        ]
        raise BadInput(f"there is no {name!r} in {path}; it has {', '.join(own) or 'nothing that could be called'}")
    return found[name]


def _where(error: BaseException, path: Path) -> str:
    """The last line of a user's file that an error came through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"line {lines[-1]}: " if lines else ""
