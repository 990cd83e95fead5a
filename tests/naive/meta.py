"""La-MAML's family (Gupta, Yadav and Paull 2020), Algorithm 1 to first order."""

import torch
from torch import Tensor

from naive import Example, Memory, Naive


class CMAML(Naive):
    def start(self) -> None:
        self.memory = Memory(self.memories, self.rng)
        self.alpha = [torch.full_like(part, self.lr) for part in self.theta]

    def observe(self, batch: list[Example]) -> None:
        for glance in range(self.glances):
            judges = batch + self.memory.draw(self.replay_batch_size)
            theta_0, slow, fast = self.copy(), [], []
            for e in batch:
                fast.append(self.gradient(self.ce([e]).mean()))
                with torch.no_grad():
                    for theta, a, g in zip(self.theta, self.alpha, fast[-1], strict=True):
                        theta -= a.clamp(min=0) * g
                slow.append(self.gradient(self.ce(judges).mean()))
            n = len(batch)
            g_meta = [sum(m[k] for m in slow) / n for k in range(len(self.theta))]
            g_alpha = [
                -sum(m[k] * sum(g[k] for g in fast[: i + 1]) for i, m in enumerate(slow)) / n
                for k in range(len(self.theta))
            ]
            with torch.no_grad():
                for theta, start in zip(self.theta, theta_0, strict=True):
                    theta.copy_(start)
                self.outer(g_meta, g_alpha)
            if glance == 0:
                self.memory.offer(batch)

    def clipped(self, gradient: list[Tensor]) -> list[Tensor]:
        length = torch.cat([g.flatten() for g in gradient]).norm()
        self.near((length - self.clip) / length)
        if not self.clip or length <= self.clip:
            return gradient
        self.counters["clipped"] += 1
        return [self.clip * g / length for g in gradient]

    def outer(self, g_meta: list[Tensor], g_alpha: list[Tensor]) -> None:
        for theta, g in zip(self.theta, self.clipped(g_meta), strict=True):
            theta -= self.outer_lr * g


class Sync(CMAML):
    def outer(self, g_meta: list[Tensor], g_alpha: list[Tensor]) -> None:
        for a, g in zip(self.alpha, self.clipped(g_alpha), strict=True):
            a -= self.lr_of_lr * g
        super().outer(g_meta, g_alpha)


class LaMAML(CMAML):
    def outer(self, g_meta: list[Tensor], g_alpha: list[Tensor]) -> None:
        for a, g in zip(self.alpha, self.clipped(g_alpha), strict=True):
            a -= self.lr_of_lr * g
        for theta, a, g in zip(self.theta, self.alpha, self.clipped(g_meta), strict=True):
            theta -= a.clamp(min=0) * g
