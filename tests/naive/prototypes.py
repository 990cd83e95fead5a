"""Nearest class mean, and streaming linear discriminant analysis (Hayes and Kanan 2020), as distances."""

import torch
from torch import Tensor

from naive import Example, Naive


class SLDA(Naive):
    def start(self) -> None:
        size, classes = self.theta[-2].shape
        self.means, self.counts = torch.zeros(classes, size).to(self.theta[0]), [0] * classes
        self.sigma, self.t = torch.zeros(size, size).to(self.theta[0]), 0

    def features(self, examples: list[Example]) -> Tensor:
        f = torch.stack([e.x for e in examples])
        for weights, biases in zip(self.theta[:-2:2], self.theta[1:-2:2], strict=True):
            f = (f @ weights.detach() + biases.detach()).relu()
        return f

    def precision(self) -> Tensor:
        return torch.linalg.inv((1 - self.shrinkage) * self.sigma + self.shrinkage * torch.eye(len(self.sigma)))

    def observe(self, batch: list[Example]) -> None:
        for e, f in zip(batch, self.features(batch), strict=True):
            away = f - self.means[e.y] if self.counts[e.y] else torch.zeros_like(f)
            self.sigma = (self.t * self.sigma + self.t / (self.t + 1) * torch.outer(away, away)) / (self.t + 1)
            self.means[e.y] = (self.counts[e.y] * self.means[e.y] + f) / (self.counts[e.y] + 1)
            self.counts[e.y] += 1
            self.t += 1
        by_class = self.means @ self.precision()
        with torch.no_grad():
            self.theta[-2].copy_(by_class.T)
            self.theta[-1].copy_(-0.5 * (by_class * self.means).sum(1))
            self.theta[-1][torch.tensor(self.counts) == 0] = -1e30

    def answers(self, examples: list[Example]) -> Tensor:
        """Minus half the squared distances to the means, and what all classes have in common."""
        f, precision = self.features(examples), self.precision()
        away = f[:, None] - self.means
        scores = -0.5 * torch.einsum("ncf,fg,ncg->nc", away, precision, away)
        scores += 0.5 * torch.einsum("nf,fg,ng->n", f, precision, f)[:, None]
        scores[:, torch.tensor(self.counts) == 0] = -1e30
        return scores


class NCM(SLDA):
    def precision(self) -> Tensor:
        return torch.eye(len(self.sigma)).to(self.sigma)
