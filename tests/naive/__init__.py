"""The methods once more, as their papers' formulas in plain PyTorch: what ours are held against, step by step.

Each naive loop is a class with a method's settings as its attributes. It sees the examples that the method sees, has a
twin of its random generator, and shares no arithmetic with it: float64, autograd, lists of examples for a table.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


class Example:
    """One example; whatever a loop knows of it besides is an attribute, as the scores that it had."""

    z: Tensor

    def __init__(self, x: Tensor, y: int, task: int) -> None:
        self.x, self.y, self.task = x, y, task


class Naive:
    """What the loops share: parameters, scores, losses, steps. A subclass says how it learns, in ``observe``.

    ``theta`` are leaves in the order of ``Learner.layers``, weights as ``(in, out)``; ``allowed (tasks, classes)`` says
    which classes count. ``counters`` must come out as the method's. ``network(theta, x, near)`` gives scores.
    """

    def __init__(
        self,
        network: Callable[[Sequence[Tensor], Tensor, Callable[[Tensor], None]], Tensor],
        theta: Sequence[Tensor],
        rng: np.random.Generator,
        tasks: int,
        settings: dict[str, Any],
    ) -> None:
        self.network, self.rng, self.tasks, self.settings = network, rng, tasks, settings
        self.theta = [part.clone().requires_grad_() for part in theta]
        self.allowed: Tensor | None = None
        self.counters: Counter[str] = Counter()
        self.nearest = np.inf
        self.start()

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["settings"][name]
        except KeyError:
            raise AttributeError(name) from None

    def start(self) -> None:
        """Begin: make memories and averages."""

    def begin_task(self, task: int, previous: int | None) -> None:
        """Examples of ``task`` come next."""

    def observe(self, batch: list[Example]) -> None:
        raise NotImplementedError

    def answers(self, examples: list[Example]) -> Tensor:
        """The scores ``(n, classes)`` that the method answers with when it is tested."""
        return self.z(examples)

    def near(self, *distances: Tensor | float) -> None:
        """Note how near to a choice this was, as a share of what it is about: rounding may turn it."""
        self.nearest = min(self.nearest, *(float(torch.as_tensor(d).abs().min()) for d in distances))

    def z(self, examples: list[Example], theta: Sequence[Tensor] | None = None) -> Tensor:
        return self.network(self.theta if theta is None else theta, torch.stack([e.x for e in examples]), self.near)

    def counting(self, z: Tensor, examples: list[Example]) -> Tensor:
        """Scores of which those that do not count are −∞."""
        if self.allowed is None:
            return z
        return z.masked_fill(~self.allowed[[e.task for e in examples]], -torch.inf)

    def ce(self, examples: list[Example], z: Tensor | None = None) -> Tensor:
        z = self.counting(self.z(examples) if z is None else z, examples)
        return cross_entropy(z, torch.tensor([e.y for e in examples]), reduction="none")

    def gradient(self, loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, self.theta))

    def descend(self, gradient: Sequence[Tensor]) -> None:
        with torch.no_grad():
            torch._foreach_add_(self.theta, list(gradient), alpha=-self.lr)

    def step(self, loss: Tensor) -> None:
        """One SGD step on a loss."""
        self.descend(self.gradient(loss))

    def copy(self) -> list[Tensor]:
        return [part.detach().clone() for part in self.theta]

    def interpolate(self, before: Sequence[Tensor], share: float) -> None:
        with torch.no_grad():
            torch._foreach_lerp_(self.theta, list(before), 1 - share)

    @property
    def sizes(self) -> list[int]:
        return [part.numel() for part in self.theta]


class Memory:
    """Vitter's reservoir as a list, with the draws of ``metareplay.Reservoir``."""

    def __init__(self, capacity: int, rng: np.random.Generator) -> None:
        self.capacity, self.offered = capacity, 0
        self.kept: list[Example] = []
        self.keeping, self.replaying = rng.spawn(2)

    def offer(self, examples: list[Example]) -> None:
        for example in examples:
            self.offered += 1
            if len(self.kept) < self.capacity:
                self.kept.append(example)
            elif (place := int(self.keeping.random() * self.offered)) < self.capacity:
                self.kept[place] = example

    def draw(self, size: int) -> list[Example]:
        count = min(size, len(self.kept))
        return [self.kept[int(fraction * len(self.kept))] for fraction in self.replaying.random(count)]

    def lots(self, example: Example, batches: int, size: int, place: int = 0) -> list[list[Example]]:
        """Batches of an example, at the front or the back, and memories drawn anew for each."""
        fractions = self.replaying.random((batches, 1 + min(size, len(self.kept))))
        drawn = [[self.kept[int(f * len(self.kept))] for f in np.delete(row, place)] for row in fractions]
        return [[*lot, example] if place else [example, *lot] for lot in drawn]
