"""Labels and tasks by number, and the lock of an estimator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Condition, Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput


class Numbers(dict[Any, int]):
    """Labels, or the names of tasks, by their number: the order in which they were met."""

    def of(self, names: Iterable[Any]) -> NDArray[np.int64]:
        """The number of each; new ones get the next."""
        return np.array([self.setdefault(name, len(self)) for name in names], np.int64)

    def of_tasks(self, names: list[Any] | None, most: int, method: str, call: str) -> NDArray[np.int64]:
        """The number of each example's task where a method needs it to learn; new ones get the next.

        Raises
        ------
        BadInput
            If there are none, or they become more than ``most``.
        """
        if names is None:
            raise BadInput(f"{method} needs the task of each example: {call}")
        new = [name for name in dict.fromkeys(names) if name not in self]
        if len(self) + len(new) > most:
            raise BadInput(
                f"task {new[most - len(self)]!r} would be one more than the {most} that tasks={most} allows; "
                "give the number that will come"
            )
        return self.of(names)

    def of_known_tasks(self, names: list[Any] | None, method: str, call: str) -> NDArray[np.int64]:
        """The number of each example's task where a method needs it to answer.

        Raises
        ------
        BadInput
            If there are none, or nothing was learned of one.
        """
        if names is None:
            raise BadInput(f"{method} needs the task of each example to predict too: {call}")
        for name in names:
            if name not in self:
                raise BadInput(f"nothing was learned of task {name!r}; known are {list(self)}: {call}")
        return self.of(names)


class Guard:
    """Lets one thread write, or any number read, in about the order in which they come."""

    def __init__(self) -> None:
        self._turn = Lock()
        self._left = Condition()
        self._readers = 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Exclude writers while the block runs."""
        with self._turn, self._left:
            self._readers += 1
        try:
            yield
        finally:
            with self._left:
                self._readers -= 1
                self._left.notify()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Exclude everybody else while the block runs."""
        with self._turn:
            with self._left:
                self._left.wait_for(lambda: not self._readers)
            yield
