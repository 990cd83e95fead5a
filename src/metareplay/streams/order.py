"""Orders: which example of which task comes when. In each, every example comes once in an epoch.

``tasks``, ``shuffled``: one task after another, as the stream has them or in a random order. ``iid``: batches of all
tasks mixed. ``recurring N``: every task returns, N times in all, each time with another N-th of its examples.

Two have no borders between tasks. ``gradual WIDTH``: around each border, over WIDTH of a task's length, the next task's
share of the examples rises in a straight line from 0 to 1. ``blurry SHARE``: at any time the examples are those of one
task, but SHARE of them are the others' (Bang et al. 2021).
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput
from metareplay.settings import Hyperparameter, brief, nearest
from metareplay.streams.stream import Stream

Places = NDArray[np.int64]
ORDERS: dict[str, Hyperparameter | None] = {
    "tasks": None,
    "shuffled": None,
    "iid": None,
    "recurring": Hyperparameter("order recurring", int, 2, "[2, 10000]", "how often each task comes"),
    "gradual": Hyperparameter("order gradual", float, 0.5, "(0, 1]", "the width of a border, in tasks' lengths"),
    "blurry": Hyperparameter("order blurry", float, 0.1, "(0, 1)", "the share of examples that are other tasks'"),
}
"""By name, each with the number that belongs to it."""


def read(order: str) -> tuple[str, float]:
    """An order's name and its number, 0 where it has none; BadInput if there is no such order."""
    name, _, given = order.partition(" ")
    if name not in ORDERS:
        raise BadInput(f"--order is {brief(order)}, but must be one of {', '.join(ORDERS)}{nearest(name, ORDERS)}")
    number = ORDERS[name]
    if number is None:
        if given:
            raise BadInput(f"--order is {brief(order)}, but {name} takes no number")
        return name, 0.0
    value: Any = given or number.default
    with contextlib.suppress(ValueError):
        value = number.type(value)
    return name, number.check(value)


class Span(NamedTuple):
    """Examples that come one after another."""

    visit: int  # to a task, under way; of an order without borders, the one that would be
    sources: Places  # ``(n,)`` for each example the visit that it belongs to
    examples: Places  # ``(n,)`` which of its task's training examples it is


@dataclass(frozen=True)
class Order:
    """All examples of a run in the order in which they come, span by span; the fields are an ``Experiment``'s.

    A span is a visit; of ``iid``, a batch. It is made when it comes; those of ``iid``, ``gradual`` and ``blurry`` are
    mixed all at once, which takes eight bytes for each example. ``kind`` and ``number`` are what ``read`` gives, and
    ``draw`` gives the generator for a purpose, and for one of several things of that kind. With an ``imbalance`` class
    c of C keeps imbalance^(−c / (C − 1)) of its examples (Cao et al. 2019).
    """

    kind: str
    number: float
    stream: Stream
    visits: Sequence[int]
    samples: int | None
    epochs: int
    batch_size: int
    imbalance: float
    draw: Callable[..., np.random.Generator]

    def __post_init__(self) -> None:
        if self.kind == "blurry" and self.number > (most := 1 - 1 / len(self.visits)):
            text = f"--order blurry is {self.number:g}, but the others of {len(self.visits)} tasks have only {most:.3g}"
            raise BadInput(text)

    @property
    def borders(self) -> bool:
        """Whether it can be said when a task ends and the next begins."""
        return self.kind not in ("gradual", "blurry")

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, number: int) -> Span:
        visit = range(len(self))[number]
        if self.kind in ("iid", "gradual", "blurry"):
            end = int(self._ends[visit])
            sources, examples = (part[end - self.sizes[visit] : end].astype(np.int64) for part in self._mixed)
            return Span(len(self.visits) - 1 if self.kind == "iid" else visit, sources, examples)
        examples = self._presented(visit)
        return Span(visit, np.full(len(examples), visit), examples)

    @cached_property
    def counts(self) -> Places:
        """``(visits,)`` the examples of each visit."""
        if self.imbalance > 1:
            return np.array([len(self._presented(visit)) for visit in range(len(self.visits))])
        sizes = [len(self.stream.tasks[task].train) for task in self.visits]
        there = np.minimum(sizes, self.samples or max(sizes))
        times, turn = self._turn(np.arange(len(there)))
        return np.asarray((there // times + (turn < there % times)) * self.epochs)

    @cached_property
    def sizes(self) -> Places:
        """``(spans,)`` the examples of each span."""
        return self._batches[1] if self.kind == "iid" else self.counts

    @cached_property
    def _ends(self) -> Places:
        return np.cumsum(self.sizes)

    def _presented(self, visit: int) -> Places:
        """Which of its task's training examples a visit shows, in order: the same each time, but for ``recurring``."""
        task = self.visits[visit]
        labels = self.stream.tasks[task].train.labels
        examples = self.draw("examples", task).permutation(len(labels))[: self.samples]
        if self.imbalance > 1:
            examples = self._thinned(examples, labels[examples])
        times, turn = self._turn(visit)
        part, order = np.array_split(examples, times)[turn], self.draw("order", visit)
        return np.concatenate([order.permutation(part) for _ in range(self.epochs)])

    def _turn(self, visit: Any) -> tuple[int, Any]:
        """How often the stream goes round, and in which round a visit is."""
        times = int(self.number) if self.kind == "recurring" else 1
        return times, visit // (len(self.visits) // times)

    def _thinned(self, examples: Places, labels: Places) -> Places:
        counts = np.bincount(labels, minlength=self.stream.classes)
        kept = np.ceil(counts * self.imbalance ** -np.linspace(0, 1, len(counts)))
        rank = np.empty_like(labels)  # of each example among those of its class
        rank[np.argsort(labels, kind="stable")] = np.arange(len(labels)) - np.repeat(counts.cumsum() - counts, counts)
        return examples[rank < kept[labels]]

    @cached_property
    def _batches(self) -> tuple[Places, Places]:
        """``(batches,)`` where each begins among all examples, and how many it has, in a random order."""
        ends = self.counts.cumsum()
        begins = [np.arange(end - count, end, self.batch_size) for end, count in zip(ends, self.counts, strict=True)]
        sizes = [np.minimum(self.batch_size, end - begin) for end, begin in zip(ends, begins, strict=True)]
        order = self.draw("tasks").permutation(sum(map(len, begins)))
        return np.concatenate(begins)[order], np.concatenate(sizes)[order]

    @cached_property
    def _mixed(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        counts, draw = self.counts, self.draw("mixed")
        sources = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        if self.kind == "iid":
            order = np.concatenate([np.arange(begin, begin + size) for begin, size in zip(*self._batches, strict=True)])
        elif self.kind == "gradual":  # in tasks' lengths
            at = np.concatenate([visit + (np.arange(count) + 0.5) / count for visit, count in enumerate(counts)])
            order = np.argsort(at + self.number * (draw.random(len(at)) - 0.5), kind="stable")
        else:  # some examples come in each other's places, of which some are in their own task
            order = np.arange(len(sources))
            given = np.flatnonzero(draw.random(len(order)) < self.number / (1 - 1 / len(counts)))
            order[given] = draw.permutation(given)
        examples = np.concatenate([self._presented(visit).astype(np.int32) for visit in range(len(counts))])
        return sources[order], examples[order]
