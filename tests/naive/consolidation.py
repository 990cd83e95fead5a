"""Pulls to the past: SI (Zenke 2017), online EWC (Schwarz 2018), MAS (Aljundi 2018), LwF (Li, Hoiem 2016)."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import nll_loss

from naive import Example, Naive


class Pulled(Naive):
    """The loss gains factor · Σ Ω (θ − θ*)²."""

    def start(self) -> None:
        self.anchor = self.copy()
        self.omega = [torch.zeros_like(part) for part in self.theta]
        self.kept: list[Example] = []

    def begin_task(self, task: int, previous: int | None) -> None:
        if previous is not None and previous != task:
            self.border()
            self.anchor, self.kept = self.copy(), []

    def border(self) -> None:
        self.omega = self.importances()
        self.counters["consolidations"] += 1

    def observe(self, batch: list[Example]) -> None:
        self.kept = (self.kept + batch)[: self.n_memories]
        self.step(self.ce(batch).mean() + self.factor * self.pull())

    def pull(self) -> Tensor:
        parts = zip(self.omega, self.theta, self.anchor, strict=True)
        return torch.stack([(o * (theta - anchor) ** 2).sum() for o, theta, anchor in parts]).sum()

    def importances(self) -> list[Tensor]:
        raise NotImplementedError


class SI(Pulled):
    def start(self) -> None:
        super().start()
        self.path = [torch.zeros_like(part) for part in self.theta]
        self.shares: list[float] = []

    def border(self) -> None:
        moved = [(theta.detach() - anchor) ** 2 for theta, anchor in zip(self.theta, self.anchor, strict=True)]
        for o, p, m in zip(self.omega, self.path, moved, strict=True):
            o += p / (m + self.xi)
            p.zero_()
        self.shares.append(float((torch.cat([m.flatten() for m in moved]) < self.xi).double().mean()))
        self.counters["share within xi"] = float(np.mean(self.shares))

    def observe(self, batch: list[Example]) -> None:
        before, loss = self.copy(), self.ce(batch).mean()
        g = self.gradient(loss)
        self.step(self.ce(batch).mean() + self.c * self.pull())
        for p, slope, now, then in zip(self.path, g, self.copy(), before, strict=True):
            p -= slope * (now - then)


class OnlineEWC(Pulled):
    @property
    def factor(self) -> float:
        return self.strength / 2

    def importances(self) -> list[Tensor]:
        log_p = [self.counting(self.z([e]), [e]).log_softmax(1) for e in self.kept]
        labels = [e.y for e in self.kept]
        if not self.settings.get("empirical"):
            for i, u in enumerate(self.rng.random((len(self.kept), 1)).flatten()):
                edges = log_p[i][0].detach().exp().cumsum(0)
                self.near(edges - u)
                labels[i] = int((edges <= u).sum())
        each = [self.gradient(nll_loss(p, torch.tensor([y]))) for p, y in zip(log_p, labels, strict=True)]
        fisher = [torch.stack([g[k] ** 2 for g in each]).mean(0) for k in range(len(self.theta))]
        return [self.decay * old + new for old, new in zip(self.omega, fisher, strict=True)]


class MAS(Pulled):
    @property
    def factor(self) -> float:
        return self.strength

    def importances(self) -> list[Tensor]:
        lengths = [self.counting(self.z([e]), [e]) for e in self.kept]
        each = [self.gradient((z[torch.isfinite(z)] ** 2).sum()) for z in lengths]
        found = [torch.stack([g[k].abs() for g in each]).mean(0) for k in range(len(self.theta))]
        return [old + new for old, new in zip(self.omega, found, strict=True)]


class LwF(Naive):
    """Equations 2 to 4."""

    def start(self) -> None:
        self.old, self.met, self.seen = self.copy(), [], set()

    def begin_task(self, task: int, previous: int | None) -> None:
        if previous is not None and previous != task:
            self.old, self.met = self.copy(), sorted(self.seen)

    def observe(self, batch: list[Example]) -> None:
        z = self.z(batch)
        loss = self.ce(batch, z).mean()
        if self.met:
            before = (self.z(batch, self.old)[:, self.met].detach() / self.temperature).softmax(1)
            now = (z[:, self.met] / self.temperature).log_softmax(1)
            loss = loss - self.strength * self.temperature**2 * (before * now).sum(1).mean()
            self.counters["examples distilled"] += len(batch)
        self.step(loss)
        self.seen |= {e.y for e in batch}
