"""Hidden units made anew: continual backprop, and recycling dormant neurons."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metareplay.learners.base import Learner, Rows, Vector
from metareplay.methods.adamw import AdamW
from metareplay.methods.online import Online
from metareplay.networks import Perceptron
from metareplay.settings import setting


def widths(learner: Learner) -> tuple[int, ...]:
    """How many units each hidden layer has."""
    assert isinstance(learner.network, Perceptron)
    return learner.network.widths[1:-1]


def reborn(
    learner: Learner, rng: np.random.Generator, layer: int, units: NDArray[np.int64], vectors: Sequence[Vector] = ()
) -> None:
    """Give ``units`` of a hidden layer weights as at the start of all: incoming random, biases and outgoing zero.

    What ``vectors``, as an optimiser's moments, have for these weights becomes zero.
    """
    assert isinstance(learner.network, Perceptron)
    for vector in (None, *vectors):
        layers = learner.layers(vector)
        (incoming, biases), (outgoing, _) = layers[layer], layers[layer + 1]
        bound = learner.network.bound(layer) if vector is None else 0.0
        incoming[:, units] = rng.uniform(-bound, bound, (len(incoming), len(units))) if bound else 0.0
        biases[units], outgoing[units] = 0.0, 0.0


class CBP(AdamW):
    """After each step, hidden units of least use are made anew (Dohare et al., Nature 2024, Algorithm 1).

    Unit i has an age a, the running mean h̄ ← η h̄ + (1 − η) h of its outputs, ĥ = h̄ / (1 − ηᵃ), and the utility
    u ← η u + (1 − η) (abs(h − ĥ) · Σ abs w_out / mean abs w_in), û = u / (1 − ηᵃ). Of a batch, means are taken.
    In each step a layer's count grows by ρ for each unit older than ``maturity``; of these, a whole number with the
    least û is then reborn, and the next layer's biases take over what they gave on average, w_out·ĥ.
    """

    id = "cbp"
    perceptron_for = "makes hidden units anew"
    inert = ({"replacement_rate": 0.0, "base": "sgd"}, Online)

    base: str = setting("sgd", ("sgd", "adamw"), help="whose steps are taken: sgd, or adamw")
    replacement_rate: float = setting(
        1e-4, "[0, 1]", search=(1e-6, 1e-3, "log"), help="ρ, the share of mature units that is made anew in each step"
    )
    utility_decay: float = setting(0.99, "[0, 1)", help="η, how slowly the means of outputs and of utility forget")
    maturity: int = setting(100, "[0, inf)", help="the steps during which a new unit is left alone")

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner, self.rng = learner, rng
        if self.base == "adamw":
            super().start(learner, rng, tasks)
        hidden = widths(learner)
        self.age, self.output, self.utility = ([np.zeros(width) for width in hidden] for _ in range(3))
        self.count = np.zeros(len(hidden))

    def observe(self, rows: Rows) -> None:
        outputs = self.learner.activations(rows) if self.replacement_rate else []
        if self.base == "adamw":
            super().observe(rows)
        else:
            self.learner.sgd_pulled(rows, self.lr, self.weight_decay)
        sizes = self.learner.weight_sizes() if outputs else []
        for layer, (h, (incoming, outgoing)) in enumerate(zip(outputs, sizes, strict=True)):
            self.generate_and_test(layer, h, outgoing / np.maximum(incoming, 1e-30))

    def generate_and_test(self, layer: int, h: NDArray[np.floating], reach: NDArray[np.floating]) -> None:
        """Let the units of a layer grow older, given their outputs ``h (n, units)`` and what their utility is times."""
        eta, age, output, utility = self.utility_decay, self.age[layer], self.output[layer], self.utility[layer]
        age += 1
        met = 1 - eta**age
        output += (1 - eta) * (h.mean(0) - output)
        utility += (1 - eta) * (np.abs(h - output / met).mean(0) * reach - utility)
        mature = age > self.maturity
        self.count[layer] += self.replacement_rate * np.count_nonzero(mature)
        if (due := int(self.count[layer])) > 0:
            self.count[layer] -= due
            units = np.argsort(np.where(mature, utility / met, np.inf), kind="stable")[:due]
            outgoing, next_biases = (part for part in (self.learner.layers()[layer + 1]))
            next_biases += (output / met)[units] @ outgoing[units]
            reborn(self.learner, self.rng, layer, units, (self.mean, self.squares) if self.base == "adamw" else ())
            for kept in (age, output, utility):
                kept[units] = 0
            self.counters["units_reborn"] += due


class ReDo(Online):
    """Every so many examples, hidden units hardly ever on are made anew (Sokar et al., ICML 2023, Algorithm 1).

    Those are the units whose mean abs h since the last time is at most τ times the mean over their layer.
    """

    id = "redo"
    family = "plasticity"
    perceptron_for = "makes hidden units anew"
    inert = ({"period": 0}, Online)

    tau: float = setting(0.025, "[0, inf)", search=(1e-3, 0.2, "log"), help="τ, how dormant a unit must be")
    period: int = setting(1000, "[0, inf)", help="the examples after which dormant units are made anew; 0: never")

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner, self.rng = learner, rng
        self.seen = 0
        self.outputs = [np.zeros(width) for width in widths(learner)]

    def observe(self, rows: Rows) -> None:
        for output, h in zip(self.outputs, self.learner.activations(rows) if self.period else [], strict=False):
            output += np.abs(h).sum(0)
        super().observe(rows)
        self.seen += len(rows)
        if self.period and self.seen >= self.period:
            for layer, output in enumerate(self.outputs):
                dormant = np.flatnonzero(output <= self.tau * output.mean())
                reborn(self.learner, self.rng, layer, dormant)
                self.counters["units_reborn"] += len(dormant)
                output[:] = 0
            self.seen = 0
