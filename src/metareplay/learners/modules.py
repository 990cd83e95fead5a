"""Modules that are called with parameters and buffers as values, and draw from a sequence of their own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call
from torch.nn import Linear, Module
from torch.nn.parameter import UninitializedParameter

from metareplay.errors import BadInput, RunFailed
from metareplay.networks import ModuleNetwork, first_line

Moving = tuple[list[dict[str, Tensor]], list[Tensor]]
"""What a pass through a module moves: the buffers of each copy, and the states of the generators."""


class Modules:
    """The module that all tasks share, or one for each task.

    It is tried out before anything starts: a batch of black images passes through every copy, there and back, as in
    learning and in evaluation. Nothing is kept of it.

    Attributes
    ----------
    theta, shapes
        The initial values of all parameters that need a gradient, flat, and their shapes.
    moving
        Buffers and generators now. They are values: to go back, set it to what it was.

    Raises
    ------
    BadInput
        If it cannot be made, or not be trained, or does not give one score for each class.
    """

    def __init__(
        self,
        network: ModuleNetwork,
        batch_size: int,
        rng: np.random.Generator,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.network = network
        self._generators, self._alone = _generators(device), Lock()
        self.moving: Moving = ([], self._seeded(int(rng.integers(2**63))))
        black = torch.zeros(batch_size, network.inputs, device=device, dtype=dtype)
        with self._drawing():
            self.copies = network.modules()
            self._check_parameters()
            self.copies = [copy.to(device, dtype).eval() for copy in self.copies]
            for copy in self.copies:  # lazy layers find their sizes
                with torch.no_grad(), self._in_words(len(black), BadInput):
                    self._check_scores(copy(black.view(-1, *network.shape)), len(black))
        named = [(at, name, part) for at, copy in enumerate(self.copies) for name, part in copy.named_parameters()]
        if any(isinstance(part, UninitializedParameter) for *_, part in named):
            raise BadInput(f"the network {network.name} has a lazy layer that it does not use")
        self._trained = [(at, name) for at, name, part in named if part.requires_grad]
        self._fixed = {f"fixed {at}.{name}": part.detach() for at, name, part in named if not part.requires_grad}
        parts = [part.detach() for *_, part in named if part.requires_grad]
        self.shapes = [tuple(part.shape) for part in parts]
        self.theta = torch.cat([part.reshape(-1) for part in parts])
        buffers = [{name: value.clone() for name, value in copy.named_buffers()} for copy in self.copies]
        self.moving = (buffers, self.moving[1])
        before = self.moving
        for task in range(network.copies):
            with self._in_words(len(black), BadInput):
                pieces = [part.clone().requires_grad_() for part in parts]
                scores = self._call(pieces, task, black, learning=True)
                torch.autograd.grad(scores.sum(), pieces, allow_unused=True)
        self.moving = before

    def scores(
        self, pieces: list[Tensor], x: Tensor, tasks: NDArray[np.int64], learning: bool, hidden: list[Tensor] | None
    ) -> Tensor:
        """Scores ``(n, classes)`` of examples ``x (n, inputs)``; each goes through its task's module.

        ``pieces`` are the parameters, in ``shapes``. While ``learning``, modules are in training mode, and buffers and
        draws move. ``hidden`` gets the features: what goes into the last linear layer.
        """
        with self._in_words(len(x), RunFailed):
            if hidden is not None:
                return self._with_features(pieces, x, hidden)
            if not self.network.private or (tasks == tasks[0]).all():
                return self._call(pieces, int(tasks[0]) if self.network.private else 0, x, learning)
            by_task = np.argsort(tasks, kind="stable")
            present, counts = np.unique(tasks, return_counts=True)
            groups = zip(
                present, torch.split(x[torch.as_tensor(by_task, device=x.device)], counts.tolist()), strict=True
            )
            parts = [self._call(pieces, int(task), group, learning) for task, group in groups]
            return torch.cat(parts)[torch.as_tensor(np.argsort(by_task), device=x.device)]

    def _call(self, pieces: list[Tensor], at: int, x: Tensor, learning: bool) -> Tensor:
        module = self.copies[at]
        if module.training is not learning:
            module.train(learning)
        buffers, _ = self.moving
        values = self._named(pieces, at)
        values |= {name: value.clone() if learning else value for name, value in buffers[at].items()}
        with self._alone, self._drawing():  # while it is called the module has these in place of its own
            scores: Tensor = functional_call(module, values, (x.view(-1, *self.network.shape),))
        if learning:
            moved = {name: values[name].detach() for name in buffers[at]}
            self.moving = ([*buffers[:at], moved, *buffers[at + 1 :]], self.moving[1])
        return self._check_scores(scores, len(x))

    def _with_features(self, pieces: list[Tensor], x: Tensor, hidden: list[Tensor]) -> Tensor:
        linear = [part for part in self.copies[0].modules() if isinstance(part, Linear)]
        if self.network.private or not linear:
            text = f"the network {self.network.name} has no features that could be read: "
            raise BadInput(f"{text}one module that all tasks share must end in a torch.nn.Linear")
        hook = linear[-1].register_forward_pre_hook(lambda module, given: hidden.append(given[0].flatten(1)))
        try:
            return self._call(pieces, 0, x, learning=False)
        finally:
            hook.remove()

    def _named(self, pieces: list[Tensor], at: int) -> dict[str, Tensor]:
        """The parameters of one copy."""
        return {name: piece for (copy, name), piece in zip(self._trained, pieces, strict=True) if copy == at}

    def copy_task(self, pieces: list[Tensor], source: int, target: int) -> None:
        """Start task ``target``'s module from task ``source``'s: parameters, also fixed ones, and buffers."""
        if not self.network.private:
            return
        theirs = dict(self.copies[source].named_parameters()) | self._named(pieces, source)
        own = dict(self.copies[target].named_parameters()) | self._named(pieces, target)
        for name, part in own.items():
            part.data.copy_(theirs[name])
        buffers = list(self.moving[0])
        buffers[target] = {name: value.clone() for name, value in buffers[source].items()}
        self.moving = (buffers, self.moving[1])

    def module(self, pieces: list[Tensor], at: int) -> Module:
        """A module of its own with these parameters and the buffers of now, in evaluation mode."""
        made = deepcopy(self.copies[at])
        parts = dict(made.named_parameters()) | dict(made.named_buffers())  # also those that no state_dict has
        for name, value in {**self._named(pieces, at), **self.moving[0][at]}.items():
            parts[name].data.copy_(value)
        return made.eval()

    def _check_parameters(self) -> None:
        name = f"the network {self.network.name}"
        parts = [part for copy in self.copies for part in copy.parameters()]
        types = sorted({str(part.dtype).removeprefix("torch.") for part in parts})
        trained = [id(part) for part in parts if part.requires_grad]
        if not trained:
            raise BadInput(f"{name} has no parameters that could be trained")
        if len(types) > 1:
            raise BadInput(f"the parameters of {name} are {', '.join(types)}, but must all be of one type")
        if not parts[0].is_floating_point():
            raise BadInput(f"the parameters of {name} are {types[0]}, but must be floating-point numbers")
        if len(set(trained)) < len(trained):
            raise BadInput(f"{name} gave the same parameters to two tasks, but must make new ones each time")

    def _check_scores(self, scores: Any, n: int) -> Tensor:
        wanted = (n, self.network.classes)
        found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        if found != wanted:
            text = f"the network {self.network.name} makes {found} of {n} × {self.network.shape}, but must make scores "
            raise BadInput(f"{text}{wanted}, one for each of the {self.network.classes} classes")
        return scores  # type: ignore[no-any-return]

    @contextmanager
    def _in_words(self, n: int, kind: type[Exception]) -> Iterator[None]:
        """Say in one line what a module raised, which may be anything."""
        try:
            yield
        except BadInput:
            raise
        except Exception as error:  # a user's module may raise anything
            reason = first_line(error)
            if "more than 1 value per channel" in reason:
                reason += ": batch normalisation cannot learn from one number per channel; "
                reason += "take GroupNorm, larger images or batches"
            raise kind(f"the network {self.network.name} fails on {n} × {self.network.shape}: {reason}") from error

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Swap the states of PyTorch's global generators for this module's own while the block runs."""
        outside = [generator.get_state() for generator in self._generators]
        self._set(self.moving[1])
        try:
            yield
        finally:
            self.moving = (self.moving[0], [generator.get_state() for generator in self._generators])
            self._set(outside)

    def _set(self, states: list[Tensor]) -> None:
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)

    def _seeded(self, seed: int) -> list[Tensor]:
        outside = [generator.get_state() for generator in self._generators]
        states = [generator.manual_seed(seed).get_state() for generator in self._generators]
        self._set(outside)
        return states

    def state(self) -> dict[str, NDArray[Any]]:
        """Copies of buffers, fixed parameters and generator states, by name."""
        buffers, draws = self.moving
        values = {f"buffer {at}.{name}": value for at, own in enumerate(buffers) for name, value in own.items()}
        values |= self._fixed | {f"draws {number}": value for number, value in enumerate(draws)}
        return {name: np.array(value.cpu().numpy()) for name, value in values.items()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a ``state()``; what else it holds is left alone."""
        for name, value in self._fixed.items():
            value.copy_(torch.as_tensor(state[name]))
        buffers, draws = self.moving
        own: list[dict[str, Tensor]] = [{} for _ in buffers]
        for at, copy in enumerate(buffers):
            for name, value in copy.items():
                own[at][name] = torch.empty_like(value).copy_(torch.as_tensor(state[f"buffer {at}.{name}"]))
        self.moving = (own, [torch.tensor(state[f"draws {number}"]) for number in range(len(draws))])


def _generators(device: torch.device) -> list[torch.Generator]:
    """The global generators that a module on this device may draw from."""
    torch.empty(0, device=device)  # CUDA has its generators once it is in use
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or 0])
    elif device.type == "mps":
        generators.append(torch.mps._get_default_mps_generator())
    return generators
