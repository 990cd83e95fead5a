"""The engines by name, and the learner that each makes."""

from __future__ import annotations

import re
from importlib.util import find_spec

import numpy as np

from metareplay.errors import BadInput
from metareplay.learners.base import Learner
from metareplay.networks import Network
from metareplay.networks.perceptron import Perceptron

ENGINES = {
    "fused": "compiled code, for mlp on the CPU: tens of times faster for one example at a time",
    "torch": "PyTorch, for any network on any device",
}


def chosen(engine: str | None, device: str, network: str) -> str:
    """The engine that is asked for; where none is, ``fused`` if it can do it, else ``torch``.

    Raises
    ------
    BadInput
        If there is no such engine, it does not compute that network, or the device is not there.
    """
    if engine is None:
        engine = "fused" if network == "mlp" and device == "cpu" else "torch"
    if engine not in ENGINES:
        raise BadInput(f"--engine is {engine!r}, but must be one of {', '.join(ENGINES)}")
    if engine == "fused":
        if network != "mlp":
            raise BadInput(f"--engine is fused, which computes only the network mlp: take --engine torch for {network}")
        if device != "cpu":
            raise BadInput(f"--engine is fused, which computes only on the CPU: take --engine torch for {device!r}")
    elif find_spec("torch") is None:
        raise BadInput('--engine is torch, which needs PyTorch; install it with: pip install "metareplay[torch]"')
    elif device != "cpu":
        _require(device)
    return engine


def _require(device: str) -> None:
    """Raise BadInput unless PyTorch can compute on the device."""
    import torch

    if not re.fullmatch(r"cpu|mps|cuda(:(0|[1-9][0-9]*))?", device):
        raise BadInput(f"--device is {device!r}, but must be cpu, cuda, cuda:NUMBER or mps")
    kind, _, number = device.partition(":")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        has = "no CUDA device here" if there == 0 else f"only {there} of them, counted from 0"
        raise BadInput(f"--device is {device}, but PyTorch finds {has}; --device cpu always works")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise BadInput(f"--device is {device}, but PyTorch finds no such device here; --device cpu always works")


def learner(
    network: Network,
    slots: int,
    batch_size: int,
    rng: np.random.Generator,
    engine: str | None = None,
    device: str = "cpu",
) -> Learner:
    """Make a learner.

    Parameters
    ----------
    network
        What it trains.
    slots
        Size of the table of examples; of these the first ``batch_size`` take the incoming batch.
    batch_size
        The largest batch that will come.
    rng
        Decides the initial weights; those of a perceptron are the same on every engine.
    engine, device
        As :func:`chosen` has checked them.

    Raises
    ------
    BadInput
        If the network cannot be made.
    """
    if isinstance(network, Perceptron) and (engine == "fused" or (engine is None and device == "cpu")):
        from metareplay.learners.fused import FusedPerceptron

        return FusedPerceptron(network, slots, batch_size, rng)
    from metareplay.learners.pytorch import PyTorchLearner

    return PyTorchLearner(network, slots, batch_size, rng, device)
