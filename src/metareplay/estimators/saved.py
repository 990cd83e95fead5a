"""Estimators in files: arrays and JSON, nothing pickled, so that a file from anywhere may be opened."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from metareplay.errors import BadInput
from metareplay.estimators.parameters import method_class
from metareplay.files import write_atomically
from metareplay.methods import METHODS
from metareplay.methods.base import Method
from metareplay.runs.checkpoint import State, pack, unpack

FORMAT = 1
"""Raised when a file of before cannot be read any more."""


def name_of(method: str | type[Method]) -> str:
    """What a file says of a method: its name, or where a user's class is."""
    if isinstance(method, str):
        return method
    names = [name for name, known in METHODS.items() if known is method]
    return names[0] if names else f"{method.__module__}.{method.__qualname__}"


def write(path: str | os.PathLike[str], kind: str, state: State) -> None:
    """Write an estimator's state, all or nothing.

    Raises
    ------
    BadInput
        If it holds what is neither an array nor plain, or the file cannot be written.
    """
    content = pack({"saved": kind, "format": FORMAT, **state})
    try:
        write_atomically(Path(path), content)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from error


def read(
    path: str | os.PathLike[str],
    kind: str,
    method: type[Method] | None,
    build: Callable[[State, type[Method]], Any],
) -> Any:
    """Make the estimator that was written.

    Parameters
    ----------
    method
        The class of its method, where that is a user's own: no file decides what code is run.
    build
        Makes it from the state and the method's class.

    Raises
    ------
    BadInput
        If the file is missing, damaged or something else.
    """
    try:
        state = unpack(Path(path).read_bytes())
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error
    except BadInput as error:
        raise BadInput(f"{path} is damaged, or no saved {kind} ({error})") from error
    if state.get("saved") != kind or state.get("format") != FORMAT:
        what = f"a {state['saved']} in format {state.get('format')}" if "saved" in state else "something else"
        raise BadInput(f"{path} is {what}, but must be a saved {kind} in format {FORMAT}")
    name = state.get("method")
    if method is None and name not in METHODS:
        raise BadInput(f"{path} was learned by {name}: give that class, {kind}.load(path, method=…)")
    try:
        return build(state, method or method_class(str(name)))
    except Exception as error:  # what a changed file may say has no end
        raise BadInput(f"{path} is damaged, or from another version ({error})") from error


def plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as a file holds them: a user's method by its name."""
    return {
        name: name_of(value) if name == "method" else dict(value) if isinstance(value, Mapping) else value
        for name, value in parameters.items()
    }
