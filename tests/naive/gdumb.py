"""GDumb (Prabhu et al. 2020), Algorithm 1."""

import math
from collections import Counter

from torch import Tensor

from naive import Example, Naive


class GDumb(Naive):
    def start(self) -> None:
        self.keeping, self.fitting = self.rng.spawn(2)
        self.initial = self.copy()
        self.kept: list[Example] = []

    def observe(self, batch: list[Example]) -> None:
        for example in batch:
            counts = Counter(e.y for e in self.kept)
            most = max(counts.values(), default=0)
            if len(self.kept) < self.memories:
                self.kept.append(example)
            elif counts[example.y] < most:
                largest = min(y for y, count in counts.items() if count == most)
                places = [i for i, e in enumerate(self.kept) if e.y == largest]
                self.kept[places[int(self.keeping.random() * len(places))]] = example
                self.counters["replaced"] += 1

    def answers(self, examples: list[Example]) -> Tensor:
        lr, before = self.settings["lr"], self.fitting.bit_generator.state
        theta = [part.clone().requires_grad_() for part in self.initial]
        self.theta, now = theta, self.theta
        for p in range(self.passes):
            angle = math.pi * p / (self.passes - 1)
            rate = lr / 100 + (lr - lr / 100) * (1 + math.cos(angle)) / 2
            order = [self.kept[i] for i in self.fitting.permutation(len(self.kept))]
            for begin in range(0, len(order), self.fit_batch_size):
                self.settings = self.settings | {"lr": rate}
                self.step(self.ce(order[begin : begin + self.fit_batch_size]).mean())
        self.settings = self.settings | {"lr": lr}
        z = self.z(examples)
        self.theta = now
        self.fitting.bit_generator.state = before  # what is done to be tested is undone
        return z
