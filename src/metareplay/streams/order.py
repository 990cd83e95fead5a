"""Orders: which example of which task comes when. In each, every example comes once in an epoch.

``tasks``, ``shuffled``: one task after another, as the stream has them or in a random order. ``iid``: batches of all
tasks mixed. ``recurring N``: every task returns, N times in all, each time with another N-th of its examples.

Two have no borders between tasks. ``gradual WIDTH``: around each border, over WIDTH of a task's length, the next task's
share of the examples rises in a straight line from 0 to 1. ``blurry SHARE``: at any time the examples are those of one
task, but SHARE of them are the others' (Bang et al. 2021).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput
from metareplay.settings import Hyperparameter, brief, nearest
from metareplay.streams.stream import Stream

Places = NDArray[np.int64]
Draw = Callable[..., np.random.Generator]

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
        hint = nearest(name, ORDERS)
        raise BadInput(f"--order is {brief(order)}, but must be one of {', '.join(ORDERS)}{hint}")
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

    visit: int
    """The visit to a task under way; of an order without borders, the one that would be."""
    sources: Places
    """``(n,)`` for each example the visit that it belongs to."""
    examples: Places
    """``(n,)`` which of its task's training examples it is."""


class Order:
    """All examples of a run in the order in which they come, span by span, each made when it comes.

    A span is a visit; of ``iid``, a batch.

    Parameters
    ----------
    order
        As ``read`` takes it.
    visits
        The tasks visited, by number.
    samples
        Training examples shown of each task; None for all.
    epochs, batch_size
        How often they are shown; how many come at once.
    imbalance
        How many times as often the first class is shown as the last, where they are equally frequent: class c of C
        keeps imbalance^(−c / (C − 1)) of its examples (Cao et al. 2019).
    draw
        Gives the generator for a purpose, and for one of several things of that kind.

    Attributes
    ----------
    borders
        Whether it can be said when a task ends and the next begins.
    """

    def __init__(
        self,
        order: str,
        stream: Stream,
        visits: Sequence[int],
        *,
        samples: int | None,
        epochs: int,
        batch_size: int,
        imbalance: float,
        draw: Draw,
    ) -> None:
        self.kind, self.number = read(order)
        self.stream, self.visits, self.samples, self.epochs = stream, visits, samples, epochs
        self.batch_size, self.imbalance, self.draw = batch_size, imbalance, draw
        self.borders = self.kind not in ("gradual", "blurry")
        self._made = {"iid": self._batch, "gradual": self._gradual, "blurry": self._blurry}.get(self.kind, self._visit)
        if self.kind == "blurry" and self.number > (most := 1 - 1 / len(visits)):
            raise BadInput(f"--order is {brief(order)}, but the others of {len(visits)} tasks have only {most:.3g}")

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, number: int) -> Span:
        return self._made(range(len(self))[number])

    @cached_property
    def counts(self) -> Places:
        """``(visits,)`` the examples of each visit."""
        if self.imbalance > 1:
            return np.array([len(self._presented(visit)) for visit in range(len(self.visits))])
        there = np.array([self.samples or len(self.stream.tasks[task].train) for task in self.visits])
        if self.kind == "recurring":
            there = there // self._times + (self._turn(np.arange(len(there))) < there % self._times)
        return there * self.epochs

    @cached_property
    def sizes(self) -> Places:
        """``(spans,)`` the examples of each span."""
        if self.kind == "iid":
            return self._batches[2]
        if self.kind == "gradual":
            return sum(
                (np.bincount(self._places(visit)[1], minlength=len(self.visits)) for visit in range(len(self.visits))),
                np.zeros(len(self.visits), np.int64),
            )
        return self.counts

    def _presented(self, visit: int) -> Places:
        """Which of its task's training examples a visit shows, in order.

        A task that returns shows the same ones again, but that of ``recurring`` others.
        """
        task = self.visits[visit]
        labels = self.stream.tasks[task].train.labels
        examples = self.draw("examples", task).permutation(len(labels))[: self.samples]
        if self.imbalance > 1:
            examples = self._thinned(examples, labels[examples])
        if self.kind == "recurring":
            examples = np.array_split(examples, self._times)[self._turn(visit)]
        order = self.draw("order", visit)
        return np.concatenate([order.permutation(examples) for _ in range(self.epochs)])

    def _thinned(self, examples: Places, labels: Places) -> Places:
        counts = np.bincount(labels, minlength=self.stream.classes)
        kept = np.ceil(counts * self.imbalance ** -np.linspace(0, 1, len(counts)))
        rank = np.empty_like(labels)  # of each example among those of its class
        rank[np.argsort(labels, kind="stable")] = np.arange(len(labels)) - np.repeat(counts.cumsum() - counts, counts)
        return examples[rank < kept[labels]]

    def _visit(self, visit: int) -> Span:
        examples = self._presented(visit)
        return Span(visit, np.full(len(examples), visit), examples)

    # recurring: the stream goes round and round

    @property
    def _times(self) -> int:
        return int(self.number)

    def _turn(self, visit: Any) -> Any:
        return visit // (len(self.visits) // self._times)

    # iid

    @cached_property
    def _batches(self) -> tuple[Places, Places, Places]:
        """``(batches,)`` each: the visit, where it begins in it, and how many examples it has, in a random order."""
        begins = [np.arange(0, count, self.batch_size) for count in self.counts]
        visits = np.repeat(np.arange(len(begins)), [len(own) for own in begins])
        begin = np.concatenate(begins)
        size = np.minimum(self.batch_size, self.counts[visits] - begin)
        order = self.draw("tasks").permutation(len(begin))
        return visits[order], begin[order], size[order]

    @cached_property
    def _all(self) -> list[Places]:
        return [self._presented(visit) for visit in range(len(self.visits))]

    def _batch(self, number: int) -> Span:
        visit, begin, size = (int(part[number]) for part in self._batches)
        return Span(len(self.visits) - 1, np.full(size, visit), self._all[visit][begin : begin + size])

    # gradual: each example comes up to half a width before or after its place in order

    def _places(self, visit: int) -> tuple[NDArray[np.float64], Places]:
        """For each example of a visit where it comes, in tasks' lengths, and the visit that would be under way then."""
        count = self.counts[visit]
        at = visit + (np.arange(count) + 0.5) / count + self.number * (self.draw("mixed", visit).random(count) - 0.5)
        return at, np.clip(np.floor(at), 0, len(self.visits) - 1).astype(np.int64)

    def _gradual(self, visit: int) -> Span:
        at, sources, examples = [], [], []
        for source in range(max(visit - 1, 0), min(visit + 2, len(self.visits))):
            place, under_way = self._places(source)
            here = under_way == visit
            at.append(place[here])
            sources.append(np.full(len(at[-1]), source))
            examples.append(self._presented(source)[here])
        order = np.argsort(np.concatenate(at), kind="stable")
        return Span(visit, np.concatenate(sources)[order], np.concatenate(examples)[order])

    # blurry: some of all examples are mixed, and come in each other's places

    def _given(self, visit: int) -> Places:
        """The places in a visit whose examples are mixed with all other visits': some come back to their own."""
        visits, count = len(self.visits), self.counts[visit]
        return self.draw("mixed", visit).permutation(count)[: round(self.number * visits / (visits - 1) * count)]

    @cached_property
    def _mixed(self) -> tuple[Places, Places, Places]:
        """What is given, in the order in which it comes: visits and examples; and where each visit's part begins."""
        examples = [self._presented(visit)[self._given(visit)] for visit in range(len(self.visits))]
        counts = [len(part) for part in examples]
        sources, order = np.repeat(np.arange(len(counts)), counts), self.draw("mixed").permutation(sum(counts))
        return sources[order], np.concatenate(examples)[order], np.cumsum([0, *counts])

    def _blurry(self, visit: int) -> Span:
        span, places, (sources, examples, begins) = self._visit(visit), self._given(visit), self._mixed
        span.sources[places], span.examples[places] = (
            part[begins[visit] : begins[visit + 1]] for part in (sources, examples)
        )
        return span
