"""Labels of any type, numbered in the order in which they are met."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput

KINDS = {"b": "truth values", "U": "text", "S": "bytes"}


class Labels:
    """Numbers for labels: the first one met is 0.

    Attributes
    ----------
    sorted
        All labels met, in ascending order, as an array of their type.
    order
        The number of each of those.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.numbers: dict[Any, int] = {}
        self.sorted: NDArray[Any] = np.empty(0)
        self.order: NDArray[np.int64] = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.numbers)

    def numbered(self, labels: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """The number of each label, and those that are new in the order in which they come; nothing is taken in yet.

        Raises
        ------
        BadInput
            If they are of another kind than those before.
        """
        distinct, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
        if len(self):
            check_same_kind(self.what, distinct, self.sorted)
        names = distinct.tolist()
        news = [place for place in np.argsort(first) if names[place] not in self.numbers]
        number = {names[place]: len(self) + count for count, place in enumerate(news)}
        numbers = np.array([self.numbers.get(name, number.get(name)) for name in names], np.int64)
        return numbers[inverse], distinct[news]

    def add(self, new: NDArray[Any]) -> None:
        """Take in labels that are new, in this order."""
        if len(new):
            for name in new.tolist():
                self.numbers[name] = len(self.numbers)
            self.sorted = np.unique(np.concatenate([self.sorted, new]) if len(self.sorted) else new)
            self.order = np.array([self.numbers[name] for name in self.sorted.tolist()])

    def state(self) -> dict[str, Any]:
        """The labels in the order in which they were met; text and numbers as they are."""
        return {"dtype": self.sorted.dtype.str, "names": list(self.numbers)}

    @staticmethod
    def of_state(what: str, state: dict[str, Any]) -> Labels:
        """Labels as ``state()`` gave them."""
        labels = Labels(what)
        labels.add(np.array(state["names"], np.dtype(state["dtype"])))
        return labels


def check_same_kind(what: str, labels: NDArray[Any], known: NDArray[Any]) -> None:
    """Raise BadInput if labels are of another kind than those that are known: 1 and "1" are not to become one."""
    if kind(labels) != kind(known):
        raise BadInput(f"{what} holds {kind(labels)}, but the labels that are known are {kind(known)}")


def kind(labels: NDArray[Any]) -> str:
    """What labels are, for messages and to compare."""
    if labels.dtype == object:
        kinds: Iterable[str] = {kind(np.asarray(label)) for label in labels}
        return " and ".join(sorted(kinds))
    return KINDS.get(labels.dtype.kind, "numbers")
