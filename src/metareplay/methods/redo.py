"""Recycling dormant neurons (Sokar et al., ICML 2023)."""

from __future__ import annotations

import numpy as np

from metareplay.learners.base import Learner, Rows
from metareplay.methods.online import Online
from metareplay.methods.units import reborn, with_units
from metareplay.networks import Network
from metareplay.settings import setting


class ReDo(Online):
    """Every so many examples, hidden units that were hardly ever on are made anew (equation 1, Algorithm 1).

    Those are the units whose mean abs h since the last time is at most τ times the mean over their layer.
    """

    id = "redo"
    family = "plasticity"
    inert = ({"period": 0}, Online)

    tau: float = setting(0.025, "[0, inf)", search=(1e-3, 0.2, "log"), help="τ, how dormant a unit must be")
    period: int = setting(1000, "[0, inf)", help="the examples after which dormant units are made anew; 0: never")

    def network(self, network: Network, tasks: int) -> Network:
        return with_units(network, self.id)

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner, self.rng = learner, rng
        self.seen = 0
        self.outputs = [np.zeros(units) for units in with_units(learner.network, self.id).widths[1:-1]]

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
