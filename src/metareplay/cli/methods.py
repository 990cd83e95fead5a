"""``metareplay methods``: the methods there are to learn with; and finding one, also a user's own."""

from __future__ import annotations

import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType

from metareplay.cli.arguments import Parser, nearest
from metareplay.cli.tables import show
from metareplay.errors import BadInput
from metareplay.methods import METHODS
from metareplay.methods.base import Method
from metareplay.settings import hyperparameters


def main(argv: list[str]) -> None:
    """List the methods."""
    Parser(
        prog="metareplay methods",
        description="List the methods there are to learn with.",
        epilog="A method of your own is a class in a file of yours: metareplay run BENCHMARK FILE.py:CLASS",
    ).parse(argv)
    show((name, summary(method), _details(method)) for name, method in METHODS.items())


def summary(method: type[Method]) -> str:
    """What a method is, in one line."""
    return (inspect.getdoc(method) or "").partition("\n")[0]


def _details(method: type[Method]) -> str:
    told = {"training": method.needs_task_in_training, "testing": method.needs_task_in_testing}
    needs = " and ".join(when for when, needed in told.items() if needed)
    flags = " ".join(parameter.flag for parameter in hyperparameters(method))
    return f"{flags or 'no settings'}{f'; must know the task in {needs}' if needs else ''}"


def find(text: str) -> type[Method]:
    """The method of that name, or for ``FILE.py:CLASS`` the one in a user's file.

    Raises
    ------
    BadInput
        If there is none.
    """
    if text in METHODS:
        return METHODS[text]
    path, colon, name = text.rpartition(":")
    if colon:
        return _in_file(Path(path), name)
    if text.endswith(".py"):
        raise BadInput(f"METHOD is {text!r}, but must say which class of that file too: {text}:CLASS")
    question = nearest(text, METHODS)
    raise BadInput(f"there is no method {text!r}{question or ';'} `metareplay methods` lists all of them")


def _in_file(path: Path, name: str) -> type[Method]:
    module = _load(path)
    there = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
    }
    if name not in there:
        has = f"it has {', '.join(there)}" if there else "it has none: write class MyMethod(metareplay.Method)"
        raise BadInput(f"there is no method {name!r} in {path}; {has}")
    if there[name].observe is Method.observe:
        raise BadInput(f"{name} in {path} does not say how to learn: give it an observe(self, rows)")
    return there[name]


def _load(path: Path) -> ModuleType:
    """Run a user's file as a module of its own."""
    if path.suffix != ".py" or not path.is_file():
        raise BadInput(f"METHOD is in {path}, but there is no such Python file (give FILE.py:CLASS)")
    module = ModuleType(f"metareplay_method_in_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses and type hints look for it
    try:
        exec(compile(path.read_bytes(), path, "exec"), vars(module))
    except SyntaxError as error:
        raise BadInput(f"{path} cannot be read: line {error.lineno}: {error.msg}") from error
    except Exception as error:
        raise BadInput(f"{path} cannot be loaded: {_where(error, path)}{type(error).__name__}: {error}") from error
    return module


def _where(error: Exception, path: Path) -> str:
    """The last line of a user's file that an error came through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"line {lines[-1]}: " if lines else ""
