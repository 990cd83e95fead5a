"""Features that come and go by name, each with a place of its own among a network's inputs."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray


class FeatureNames:
    """The place of each feature, given when its name is first met; what is missing is 0.

    Names that are new in one example get their places in ascending order, so that it does not matter in which order a
    dictionary holds them.

    Parameters
    ----------
    most
        How many names are taken in; those that come later are left out, and a warning says so once.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.places: dict[Any, int] = {}
        self.left_out = False
        # Most examples have the names of the one before: those, and their places.
        self.last: tuple[list[Any], NDArray[np.int64]] = ([], np.empty(0, np.int64))

    def learn(self, names: list[Any]) -> NDArray[np.int64]:
        """Give a place to each name that has none, while there is room; all their places, −1 for none."""
        if names == self.last[0]:
            return self.last[1]
        new = [name for name in names if name not in self.places]
        room = self.most - len(self.places)
        for name in sorted(new, key=_order)[:room]:
            self.places[name] = len(self.places)
        if len(new) > room and not self.left_out:
            self.left_out = True
            warnings.warn(
                f"more than max_features={self.most} features have come: those that are new from here on are left out",
                RuntimeWarning,
                stacklevel=4,
            )
        self.last = (names, self._found(names))
        return self.last[1]

    def at(self, names: list[Any]) -> NDArray[np.int64]:
        """The places of names, −1 for those that have none; nothing is taken in."""
        last, places = self.last
        return places if names == last else self._found(names)

    def _found(self, names: list[Any]) -> NDArray[np.int64]:
        return np.array([self.places.get(name, -1) for name in names], np.int64)


def _order(name: Any) -> tuple[str, str]:
    return type(name).__name__, repr(name)
