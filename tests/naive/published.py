"""The methods of MER's paper and code (Riemer et al. 2019): EWC, GEM, and what replays, by its algorithms' numbers."""

from collections import Counter, deque

import numpy as np
import pytest
import torch
from torch import Tensor

from naive import Example, Memory, Naive


class Online(Naive):
    def observe(self, batch: list[Example]) -> None:
        self.step(self.ce(batch).mean())


class Fresh(Online):
    """Online, from the initial weights in each task."""

    def start(self) -> None:
        self.initial = self.copy()

    def begin_task(self, task: int, previous: int | None) -> None:
        self.interpolate(self.initial, 0)


class EWC(Naive):
    """The loss gains λ Σ_t Σ F_t (θ − θ_t)², the gradient 2λ (θ Σ_t F_t − Σ_t F_t θ_t).

    Of each task the first batch is kept, and then as many examples as asked.
    """

    def start(self) -> None:
        self.kept: list[Example] = []
        self.importance, self.pull = ([torch.zeros_like(part) for part in self.theta] for _ in range(2))
        self.past = 0

    def begin_task(self, task: int, previous: int | None) -> None:
        if self.kept and task != previous:
            each = [torch.stack(of) for of in zip(*(self.gradient(self.ce([e]).sum()) for e in self.kept), strict=True)]
            squares = [(g**2).mean(0) if self.settings.get("mean_of_squares") else g.mean(0) ** 2 for g in each]
            for i, (f, there) in enumerate(zip(squares, self.copy(), strict=True)):
                self.importance[i], self.pull[i] = self.importance[i] + f, self.pull[i] + f * there
            self.kept, self.past = [], self.past + 1

    def observe(self, batch: list[Example]) -> None:
        self.kept += batch[: max(0, self.n_memories - len(self.kept))] if self.kept else batch
        g = self.gradient(self.ce(batch).mean())
        if self.past:
            with torch.no_grad():
                away = torch._foreach_sub(torch._foreach_mul(self.importance, self.theta), self.pull)
                torch._foreach_add_(g, away, alpha=2 * self.memory_strength)
        self.descend(g)


class GEM(Naive):
    """Each step is turned until it makes no past task's newest examples worse: a quadratic programme, equation 11."""

    def start(self) -> None:
        self.rings = [deque[Example](maxlen=self.memories // self.tasks) for _ in range(self.tasks)]
        self.turned: list[bool] = []

    def begin_task(self, task: int, previous: int | None) -> None:
        self.task = task

    def flat(self, examples: list[Example]) -> Tensor:
        return torch.cat([part.flatten() for part in self.gradient(self.ce(examples).mean())])

    def observe(self, batch: list[Example]) -> None:
        self.rings[self.task].extend(batch)
        g, others = self.flat(batch), [ring for task, ring in enumerate(self.rings) if ring and task != self.task]
        if others:
            past = torch.stack([self.flat(list(ring)) for ring in others])
            self.near(past @ g / (past.norm(dim=1) * g.norm()))
            self.turned.append(bool((past @ g < 0).any()))
            if self.turned[-1]:
                gram, slopes = (part.double().numpy() for part in (past @ past.T, past @ g))
                quadprog = pytest.importorskip("quadprog")
                v = quadprog.solve_qp(gram, -slopes, np.eye(len(past)), np.full(len(past), self.memory_strength))[0]
                g = past.T @ torch.tensor(v).to(past) + g
        self.descend([part.view_as(like) for part, like in zip(g.split(self.sizes), self.theta, strict=True)])


class Replaying(Naive):
    """Each example is learned in batches beside memories, and then offered."""

    place = 0

    def start(self) -> None:
        self.memory = Memory(self.memories, self.rng)

    def observe(self, batch: list[Example]) -> None:
        for e in batch:
            for lot in self.memory.lots(
                e, self.settings.get("batches_per_example", 1), self.replay_batch_size, self.place
            ):
                self.learn(lot)
            self.memory.offer([e])

    def learn(self, lot: list[Example]) -> None:
        self.step(self.ce(lot).mean())


class Algorithm5(Replaying):
    def learn(self, lot: list[Example]) -> None:
        of_task = Counter(e.task for e in lot)
        shares = torch.tensor([1 / of_task[e.task] for e in lot]).to(self.theta[0])
        self.step(self.ce(lot) @ shares / (len(of_task) if self.settings.get("mean_over_tasks") else 1))


class MERLite(Replaying):
    """MER lite (arXiv 2508.01908)."""

    def start(self) -> None:
        super().start()
        self.before, self.batches = self.copy(), 0

    def learn(self, lot: list[Example]) -> None:
        super().learn(lot)
        self.batches += 1
        if self.batches % self.interpolate_every == 0:
            self.interpolate(self.before, self.rate)
            self.before = self.copy()
            self.counters["interpolations"] += 1


class Algorithm6(Replaying):
    place = -1

    def learn(self, lot: list[Example]) -> None:
        self.reptile(lot, self.gamma)

    def reptile(self, lot: list[Example], share: float) -> None:
        before = self.copy()
        for e in lot:
            self.step(self.ce([e]).mean())
        self.interpolate(before, share)


class Algorithm1(Algorithm6):
    place = 0

    def observe(self, batch: list[Example]) -> None:
        for e in batch:
            before = self.copy()
            for lot in self.memory.lots(e, self.batches_per_example, self.replay_batch_size):
                self.reptile(lot, self.beta)
            self.interpolate(before, self.gamma)
            self.memory.offer([e])


class Algorithm7(Naive):
    """The very first example is only stored."""

    def start(self) -> None:
        self.order, memory = self.rng.spawn(2)
        self.memory = Memory(self.memories, memory)

    def observe(self, batch: list[Example]) -> None:
        for e in batch:
            if self.memory.offered:
                (lot,), before = self.memory.lots(e, 1, self.replay_batch_size), self.copy()
                place = int(self.order.random() * len(lot))
                lot[0], lot[place] = lot[place], e
                for number, one in enumerate(lot):
                    self.step(self.ce([one]).sum() * (self.s if number == place else 1))
                self.interpolate(before, self.gamma)
            self.memory.offer([e])
