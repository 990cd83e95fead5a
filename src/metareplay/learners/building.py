"""From the description of a network to a module that can be trained."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.parameter import UninitializedParameter

from metareplay.errors import BadInput
from metareplay.learners.beside import BesideParameters
from metareplay.learners.modules import PerceptronModule, Shaped
from metareplay.networks import Network
from metareplay.networks.module import ModuleNetwork, first_line
from metareplay.networks.perceptron import Perceptron


def build(
    network: Network, batch_size: int, rng: np.random.Generator, device: torch.device, dtype: torch.dtype
) -> tuple[Module, BesideParameters]:
    """Make the module and set its initial weights, without a trace in PyTorch's global generators.

    A module of one's own is tried out before anything starts: a batch of black images passes through every copy, there
    and back, as in learning and in evaluation. Nothing is kept of it.

    Parameters
    ----------
    network
        What to make.
    batch_size
        How many examples come at once.
    rng
        Decides the initial weights, and what the module draws later.
    device, dtype
        Where it is to compute, and in what.

    Raises
    ------
    BadInput
        If it cannot be made, or not be trained, or does not give one score for each class.
    """
    if isinstance(network, Perceptron):
        perceptron = PerceptronModule(network).to(dtype).to_empty(device=device)
        perceptron.set_layers(network.initial_layers(rng))
        return perceptron, BesideParameters(device, None)
    beside = BesideParameters(device, int(rng.integers(2**63)))
    with beside.drawing():
        copies = network.modules()
        _check_parameters(network.name, copies)
        module = Shaped(copies, network.private, network.shape).to(device, dtype)
        _try_out(network, module, batch_size, learning=False)  # this is also when lazy layers get their sizes
    for part in module.parameters():
        if isinstance(part, UninitializedParameter):
            raise BadInput(f"the network {network.name} has a lazy layer that it does not use")
    beside.belong_to(module)
    before = beside.moved()
    with beside.drawing():
        _try_out(network, module, batch_size, learning=True)
    beside.put_back(before)
    return module, beside


def flatten(module: Module) -> tuple[Tensor, Tensor]:
    """Lay a module's parameters into one flat tensor and their gradients into another.

    Returns
    -------
    parameters, gradient : Tensor
        ``(p,)`` each, in the order of ``module.parameters()``, without those that need no gradient. The module's
        parameters and their ``grad`` become views of them; so the module must not be moved to another device or dtype
        afterwards.
    """
    parts = [part for part in module.parameters() if part.requires_grad]
    parameters = torch.cat([part.detach().reshape(-1) for part in parts])
    gradient = torch.zeros_like(parameters)
    sizes = [part.numel() for part in parts]
    views = zip(parts, torch.split(parameters, sizes), torch.split(gradient, sizes), strict=True)
    for part, value, slope in views:
        part.data = value.view_as(part)
        part.grad = slope.view_as(part)
    return parameters, gradient


def _check_parameters(name: str, copies: list[Module]) -> None:
    parts = [part for module in copies for part in module.parameters()]
    types = sorted({str(part.dtype).removeprefix("torch.") for part in parts})
    if not any(part.requires_grad for part in parts):
        raise BadInput(f"the network {name} has no parameters that could be trained")
    if len(types) > 1:
        raise BadInput(f"the parameters of the network {name} are {', '.join(types)}, but must all be of one type")
    if not parts[0].is_floating_point():
        raise BadInput(f"the parameters of the network {name} are {types[0]}, but must be floating-point numbers")
    trained = [id(part) for part in parts if part.requires_grad]
    if len(set(trained)) < len(trained):
        raise BadInput(f"the network {name} gave the same parameters to two tasks, but must make new ones each time")


def _try_out(network: ModuleNetwork, module: Module, n: int, learning: bool) -> None:
    """Pass a batch of n black images through every copy, and back if it is learning."""
    some = next(module.parameters())
    x = torch.zeros(n, network.inputs, device=some.device, dtype=some.dtype)
    module.train(learning)
    for task in range(network.copies):
        try:
            with torch.set_grad_enabled(learning):
                scores = module(x, np.full(n, task))
            found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            if found == (n, network.classes) and learning:
                torch.autograd.backward(scores.sum())
        except Exception as error:  # a user's code may raise anything
            raise BadInput(does_not_take(network.name, network.shape, n, error)) from error
        if found != (n, network.classes):
            raise BadInput(
                f"the network {network.name} makes {found} of {n} × {network.shape}, but must make scores "
                f"{(n, network.classes)}, one for each of the {network.classes} classes"
            )


def does_not_take(name: str, shape: tuple[int, ...], n: int, error: Exception) -> str:
    """Say in one line what a module raised."""
    hint = ""
    if "more than 1 value per channel" in str(error):
        hint = (
            ": batch normalisation cannot learn from one number per channel; take GroupNorm, larger images or batches"
        )
    return f"the network {name} fails on {n} × {shape}: {first_line(error)}{hint}"
