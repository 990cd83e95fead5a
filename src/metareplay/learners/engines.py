"""The engines by name, and the learner that each makes."""

import re
from importlib.util import find_spec

import numpy as np

from metareplay.errors import INSTALL, BadInput
from metareplay.learners.base import Learner
from metareplay.networks import Network, Perceptron
from metareplay.settings import nearest

ENGINES = {
    "fused": "compiled code, for mlp on the CPU: tens of times faster for one example at a time",
    "torch": "PyTorch, for any network on any device",
}


def chosen(engine: str | None, device: str, network: str) -> str:
    """The engine asked for, else ``fused`` if it can do it, else ``torch``; BadInput if that cannot, or not there."""
    if engine is None:
        engine = "fused" if network == "mlp" and device == "cpu" else "torch"
    if engine not in ENGINES:
        text = f"--engine is {engine!r}, but must be one of {', '.join(ENGINES)}{nearest(str(engine), ENGINES)}"
        raise BadInput(text)
    if engine == "fused" and network != "mlp":
        raise BadInput(f"--engine is fused, which computes only the network mlp: take --engine torch for {network}")
    if engine == "fused" and device != "cpu":
        raise BadInput(f"--engine is fused, which computes only on the CPU: take --engine torch for {device!r}")
    if engine == "torch" and find_spec("torch") is None:
        raise BadInput(f"--engine is torch, which needs PyTorch: {INSTALL.format('torch')}")
    if device == "cpu":
        return engine
    import torch

    if not re.fullmatch(r"mps|cuda(:(0|[1-9][0-9]*))?", device):
        raise BadInput(f"--device is {device!r}, but must be cpu, cuda, cuda:NUMBER or mps")
    kind, _, number = device.partition(":")
    there = torch.cuda.device_count() if kind == "cuda" else int(torch.backends.mps.is_available())
    if int(number or 0) >= there:
        has = (
            f"only {there} of them, counted from 0"
            if there
            else f"no {'CUDA' if kind == 'cuda' else 'such'} device here"
        )
        raise BadInput(f"--device is {device}, but PyTorch finds {has}; --device cpu always works")
    return engine


def learner(
    network: Network,
    slots: int,
    batch_size: int,
    rng: np.random.Generator,
    engine: str | None = None,
    device: str = "cpu",
) -> Learner:
    """Make a learner that trains a network; BadInput if that cannot be made.

    Parameters
    ----------
    slots, batch_size
        Size of the table of examples, and the largest batch that will come: it takes the first slots.
    rng
        Decides the initial weights; those of a perceptron are the same on every engine.
    engine, device
        As :func:`chosen` has checked them.
    """
    if isinstance(network, Perceptron) and (engine == "fused" or (engine is None and device == "cpu")):
        from metareplay.learners.fused import FusedPerceptron

        return FusedPerceptron(network, slots, batch_size, rng)
    from metareplay.learners.pytorch import PyTorchLearner

    return PyTorchLearner(network, slots, batch_size, rng, device)
