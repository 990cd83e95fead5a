"""Plasticity: decay, L2-Init, shrink and perturb, AdamW, continual backprop, ReDo, UPGD."""

import numpy as np
import torch
from torch import Tensor

from metareplay.learners.normal import normal
from naive import Example, Naive


class SGDW(Naive):
    """θ ← (1 − lr·λ)θ − lr·g."""

    def move(self, gradient: list[Tensor], decay: float) -> None:
        with torch.no_grad():
            for part, g in zip(self.theta, gradient, strict=True):
                part.copy_((1 - self.lr * decay) * part - self.lr * g)

    def observe(self, batch: list[Example]) -> None:
        self.move(self.gradient(self.ce(batch).mean()), self.weight_decay)


class L2Init(Naive):
    """SGD on the loss + ½ λ Σ (θ − θ_initial)²."""

    def start(self) -> None:
        self.initial = self.copy()

    def observe(self, batch: list[Example]) -> None:
        away = sum(((part - start) ** 2).sum() for part, start in zip(self.theta, self.initial, strict=True))
        self.step(self.ce(batch).mean() + self.strength / 2 * away)


class ShrinkPerturb(SGDW):
    def noise(self) -> list[Tensor]:
        numbers = torch.tensor(normal(self.rng, sum(self.sizes))).double()
        return [drawn.view_as(part) for drawn, part in zip(numbers.split(self.sizes), self.theta, strict=True)]

    def observe(self, batch: list[Example]) -> None:
        gradient = self.gradient(self.ce(batch).mean())
        self.move([g + self.sigma * e for g, e in zip(gradient, self.noise(), strict=True)], self.weight_decay)


class AdamW(Naive):
    """What PyTorch's own optimiser does."""

    def start(self) -> None:
        betas, other = (self.beta1, self.beta2), {"eps": self.eps, "weight_decay": self.weight_decay}
        self.optimiser = torch.optim.AdamW(self.theta, self.lr, betas, **other)

    def observe(self, batch: list[Example]) -> None:
        self.optimiser.zero_grad()
        self.ce(batch).mean().backward()
        self.optimiser.step()


class UPGD(ShrinkPerturb):
    def start(self) -> None:
        self.utility, self.t = [torch.zeros_like(part) for part in self.theta], 0

    def observe(self, batch: list[Example]) -> None:
        self.t += 1
        gradient = self.gradient(self.ce(batch).mean())
        with torch.no_grad():
            for u, g, part in zip(self.utility, gradient, self.theta, strict=True):
                u.copy_(self.settings["beta"] * u + (1 - self.settings["beta"]) * (-g * part))
            corrected = [u / (1 - self.settings["beta"] ** self.t) for u in self.utility]
            most = max(u.max() for u in corrected)
            held = [1 - torch.sigmoid(u / most) for u in corrected]
            changes = [(g + self.sigma * e) * h for g, e, h in zip(gradient, self.noise(), held, strict=True)]
        self.move(changes, self.weight_decay)


class Units(SGDW):
    """What both methods that make units anew need."""

    def outputs(self, batch: list[Example]) -> list[Tensor]:
        x, layers = torch.stack([e.x for e in batch]), list(zip(self.theta[::2], self.theta[1::2], strict=True))
        return [(x := torch.relu(x @ weights + biases)).detach() for weights, biases in layers[:-1]]

    def make_anew(self, layer: int, units: list[int]) -> None:
        incoming, biases, outgoing = self.theta[2 * layer : 2 * layer + 3]
        bound = np.sqrt(6 / sum(incoming.shape))
        with torch.no_grad():
            drawn = self.rng.uniform(-bound, bound, (len(incoming), len(units)))
            incoming[:, units] = torch.tensor(drawn).to(incoming)
            biases[units] = 0
            outgoing[units] = 0
        self.counters["units_reborn"] += len(units)


class CBP(Units):
    def start(self) -> None:
        self.units = [
            [{"age": 0, "mean": 0.0, "utility": 0.0} for _ in range(part.shape[1])] for part in self.theta[:-2:2]
        ]
        self.counts = [0.0] * len(self.units)
        if self.base == "adamw":
            AdamW.start(self)

    def observe(self, batch: list[Example]) -> None:
        outputs = self.outputs(batch)
        if self.base == "adamw":
            AdamW.observe(self, batch)
        else:
            super().observe(batch)
        eta = self.utility_decay
        for layer, (units, h) in enumerate(zip(self.units, outputs, strict=True)):
            incoming, outgoing, next_biases = (self.theta[2 * layer + place].detach() for place in (0, 2, 3))
            for i, unit in enumerate(units):
                unit["age"] += 1
                unit["mean"] = eta * unit["mean"] + (1 - eta) * float(h[:, i].mean())
                unit["h hat"] = unit["mean"] / (1 - eta ** unit["age"])
                apart = float((h[:, i] - unit["h hat"]).abs().mean())
                contribution = apart * float(outgoing[i].abs().sum()) / float(incoming[:, i].abs().mean())
                unit["utility"] = eta * unit["utility"] + (1 - eta) * contribution
                unit["u hat"] = unit["utility"] / (1 - eta ** unit["age"])
            mature = [i for i, unit in enumerate(units) if unit["age"] > self.maturity]
            self.counts[layer] += self.replacement_rate * len(mature)
            ranked = sorted(mature, key=lambda i: units[i]["u hat"])
            chosen = ranked[: int(self.counts[layer])]
            self.counts[layer] -= len(chosen)
            if chosen and len(chosen) < len(ranked):
                self.near(
                    (units[ranked[len(chosen)]]["u hat"] - units[chosen[-1]]["u hat"]) / units[ranked[-1]]["u hat"]
                )
            for i in chosen:
                next_biases += outgoing[i] * units[i]["h hat"]
                units[i].update(age=0, mean=0.0, utility=0.0)
            if chosen:
                self.make_anew(layer, chosen)
                if self.base == "adamw":
                    for name in ("exp_avg", "exp_avg_sq"):
                        incoming, biases, outgoing = (
                            self.optimiser.state[part][name] for part in self.theta[2 * layer : 2 * layer + 3]
                        )
                        incoming[:, chosen], biases[chosen], outgoing[chosen] = 0, 0, 0


class ReDo(Units):
    def start(self) -> None:
        self.seen: list[list[Tensor]] = []

    def observe(self, batch: list[Example]) -> None:
        self.seen += [[h[i] for h in self.outputs(batch)] for i in range(len(batch))]
        super().observe(batch)
        if len(self.seen) >= self.period:
            for layer in range(len(self.seen[0])):
                mean = torch.stack([outputs[layer].abs() for outputs in self.seen]).mean(0)
                least = self.tau * mean.mean()
                self.near((mean[mean > 0] - least) / mean.max())
                self.make_anew(layer, torch.where(mean <= least)[0].tolist())
            self.seen = []
