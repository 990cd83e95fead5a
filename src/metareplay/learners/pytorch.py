"""The learner on PyTorch: any network, any device, float32 or float64. Needs the extra ``torch``."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metareplay.data.images import Images
from metareplay.errors import INSTALL, BadInput
from metareplay.learners import base
from metareplay.learners.base import EXCLUDED, Diverged, Learner, Loss, Rows, Rule
from metareplay.learners.normal import normal
from metareplay.networks import Network, Perceptron

try:
    import torch
except ImportError as error:
    raise BadInput(f"the PyTorch learner needs PyTorch: {INSTALL.format('torch')}") from error

from torch import Tensor
from torch.nn.functional import hardshrink, nll_loss, relu

from metareplay.learners.modules import Modules
from metareplay.learners.vector import DeviceVector, on_host

Floats = NDArray[np.floating[Any]]  # an array of the learner's own floating-point type


class PyTorchLearner(Learner):
    """A perceptron, or any ``torch.nn.Module``, differentiated by PyTorch.

    Parameters and buffers are values that the network is called with, not its own. θ is one flat tensor, so that a step
    on all parameters is one operation; a ``Vector`` is a :class:`DeviceVector` of the same order: a perceptron's layers
    one after another, weights before biases; else that of the module's ``parameters()``, without those that need no
    gradient.

    **Buffers**, such as the running statistics of batch normalisation, are no parameters: a Reptile step or any other
    interpolation leaves them alone. They follow what is *learned*: ``sgd``, ``sgd_each``, ``reptile`` and ``gradient``
    move them, once for each batch that passes. ``gradients`` and ``dots``, which *compare*, leave them as they were,
    and so does a step that was not taken. ``forward`` and ``scores`` have the module in evaluation mode, where it reads
    the running statistics and moves nothing.

    **What the module draws**, as dropout does, comes from a sequence of this learner's own, which ``rng`` decides. It
    is part of ``state()``. PyTorch's global generators are left as they were.

    Parameters
    ----------
    network, slots, batch_size
        As for every learner.
    rng
        Decides the initial weights, those of a perceptron as on every engine, and what a module draws.
    device
        Where parameters and table live, as PyTorch names it: ``cpu``, ``cuda``, ``cuda:1`` …
    dtype
        ``torch.float32`` or ``torch.float64``; scores have it too.

    Raises
    ------
    BadInput
        If the network cannot be made, or not be trained, or does not give one score for each class.
    """

    images_at_once = 256  # evaluation lays out so many at a time, which bounds the memory that it takes

    def __init__(
        self,
        network: Network,
        slots: int,
        batch_size: int,
        rng: np.random.Generator,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if dtype not in (torch.float32, torch.float64):
            raise BadInput(f"a PyTorch learner computes in torch.float32 or torch.float64, not in {dtype}")
        self.network, self.slots, self.batch_size, self.steps = network, slots, batch_size, 0
        self.labels, self.tasks = np.zeros(slots, np.int64), np.zeros(slots, np.int64)
        self._device, self._dtype = torch.device(device), dtype
        self._modules: Modules | None = None
        if isinstance(network, Perceptron):
            layers = network.initial_layers(rng)
            self._shapes = [part.shape for layer in layers for part in layer]
            self._theta = self._floats(np.concatenate([part.ravel() for layer in layers for part in layer]))
        else:
            self._modules = Modules(network, batch_size, rng, self._device, dtype)
            self._shapes, self._theta = self._modules.shapes, self._modules.theta
        self._sizes = [int(np.prod(shape)) for shape in self._shapes]
        # Views of θ that are differentiated by: they follow it, as it is only ever written in place.
        self._leaves = [piece.detach().requires_grad_() for piece in self._pieces(self._theta)]
        self._table = torch.zeros(slots, network.inputs, device=self._device, dtype=dtype)

    def restrict(self, allowed: NDArray[np.bool_] | None) -> None:
        base.check_restriction(allowed, self.classes)
        self._restriction = None if allowed is None else allowed.copy()

    def _excluded(self, tasks: NDArray[np.int64]) -> Tensor | None:
        """``(n, classes)``: which classes have no part; None for none."""
        return None if self._restriction is None else self._tensor(~self._restriction[tasks])

    def put(self, rows: Rows, x: NDArray[np.float32], y: NDArray[np.int64], task: int) -> None:
        rows = self._rows(rows)
        base.check_examples(rows, np.asarray(x), np.asarray(y), self.network.inputs)
        self._table[self._tensor(rows)] = self._floats(x)
        self.labels[rows] = y
        self.tasks[rows] = task

    def copy(self, source: int, target: int) -> None:
        self._rows([source, target])
        for held in (self._table, self.labels, self.tasks):
            held[target] = held[source]

    def inputs(self, rows: Rows) -> Floats:
        return on_host(self._x(self._rows(rows)))

    def _rows(self, rows: ArrayLike, dimensions: int = 1) -> Rows:
        return base.as_rows(rows, dimensions, self.slots)

    def _x(self, rows: Rows) -> Tensor:
        return self._table.index_select(0, self._tensor(rows))

    def scores(self, images: Images, task: int) -> Floats:
        base.check_range("task", np.array([task]), None, self._task_count())
        groups = np.split(np.arange(len(images)), range(self.images_at_once, len(images), self.images_at_once))
        parts = [self._read(self._floats(images.inputs(which)), np.full(len(which), task)) for which in groups]
        return np.concatenate(parts)

    def forward(self, rows: Rows, theta: Any = None) -> Floats:
        rows = self._rows(rows)
        self.forward_passes += len(rows)
        x, tasks = self._x(rows), self._tasks_of(rows)
        if theta is None:
            return self._read(x, tasks)
        with self.trial(), torch.no_grad():
            self.load(theta)
            return on_host(self._through(x, tasks, learning=False))

    def _read(self, x: Tensor, tasks: NDArray[np.int64], hidden: list[Tensor] | None = None) -> Floats:
        with torch.no_grad(), self._going_back():
            scores = self._through(x, tasks, learning=False, hidden=hidden)
        excluded = self._excluded(tasks)
        return on_host(scores if excluded is None else scores.masked_fill(excluded, EXCLUDED))

    def activations(self, rows: Rows) -> list[Floats]:
        rows = self._rows(rows)
        hidden: list[Tensor] = []
        self.forward_passes += len(rows)
        self._read(self._x(rows), self._tasks_of(rows), hidden)
        return [on_host(part) for part in hidden]

    def _through(
        self, x: Tensor, tasks: NDArray[np.int64], learning: bool, hidden: list[Tensor] | None = None
    ) -> Tensor:
        """Raw scores ``(n, classes)``; what hidden layers give is added to ``hidden``."""
        if self._modules:
            return self._modules.scores(self._leaves, x, tasks, learning, hidden)
        for number, (weights, biases) in enumerate(zip(self._leaves[::2], self._leaves[1::2], strict=True)):
            if number:
                x = relu(x)
                if hidden is not None:
                    hidden.append(x)
            if weights.ndim == 2:
                x = torch.addmm(biases, x, weights)
            elif len(tasks) and (tasks == tasks[0]).all():
                x = torch.addmm(biases[tasks[0]], x, weights[tasks[0]])
            else:
                own = self._tensor(tasks)
                x = torch.baddbmm(biases[own, None], x[:, None], weights[own])[:, 0]
        return x

    def _pieces(self, vector: Tensor) -> list[Tensor]:
        """Views of a vector, in the shapes of the parameters."""
        return [part.view(shape) for part, shape in zip(torch.split(vector, self._sizes), self._shapes, strict=True)]

    def sgd(self, rows: Rows, lr: float, weights: ArrayLike | None = None, loss: Loss | None = None) -> None:
        gradient = self._gradient(rows, weights, loss)
        self._theta.sub_(gradient, alpha=float(lr))
        self.steps += 1

    def sgd_each(self, rows: Rows, lr: ArrayLike, loss: Loss | None = None) -> None:
        """Take all steps before any loss is looked at, since looking makes the device wait.

        If one was not finite, those before it are taken again from where they began.
        """
        rows = self._rows(rows)
        if loss is not None or not len(rows):
            super().sgd_each(rows, lr, loss)
            return
        rates = base.as_rates(lr, rows.shape).tolist()
        start, before = self._theta.clone(), self._moving
        taken = self._steps(rows, rates)
        self.gradients_taken += taken
        if taken < len(rows):
            self._theta.copy_(start)
            self._moving = before
            self._steps(rows[:taken], rates)
            self.steps += taken
            raise Diverged(self.steps, int(rows[taken]))
        self.steps += taken

    def _steps(self, rows: Rows, rates: Sequence[float]) -> int:
        """One step on each row; returns how many come before a loss that is not finite."""
        if not len(rows):
            return 0
        tasks = self._tasks_of(rows)
        base.check_range("label", self.labels[rows], rows, self.classes)
        x, labels, excluded = self._x(rows), self._tensor(self.labels[rows]), self._excluded(tasks)
        losses, pieces = [], self._pieces(self._theta)
        for place in range(len(rows)):
            one = slice(place, place + 1)
            scores = self._through(x[one], tasks[one], learning=True)
            loss, delta = _cross_entropy(scores.detach(), labels[one], None if excluded is None else excluded[one])
            losses.append(loss)
            for piece, slope in zip(pieces, self._slopes(scores, delta), strict=True):
                if slope is not None:
                    piece.sub_(slope, alpha=rates[place])
        finite = np.isfinite(on_host(torch.cat(losses)))
        return len(rows) if finite.all() else int(finite.argmin())

    def _slopes(self, scores: Tensor, delta: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient by each parameter, given that by the scores; None where they do not depend on it."""
        return torch.autograd.grad(scores, self._leaves, delta, allow_unused=True)

    def _gradient(self, rows: Rows, weights: ArrayLike | None = None, loss: Loss | None = None) -> Tensor:
        """The gradient of a batch's loss. Where it is not finite, buffers and draws stay as they were."""
        rows = self._rows(rows)
        if not len(rows):
            raise BadInput("a gradient needs at least one row")
        self.gradients_taken += len(rows)
        shares = None if weights is None else self._floats(base.as_weights(weights, rows, loss))[:, None]
        tasks = self._tasks_of(rows)
        if loss is None:
            base.check_range("label", self.labels[rows], rows, self.classes)
        before = self._moving
        try:
            scores = self._through(self._x(rows), tasks, learning=True)
            if loss is not None:
                base.require_finite(on_host(scores), rows, self.steps)
                gradient = base.loss_gradient(loss, on_host(scores), rows)
                base.require_finite(gradient, rows, self.steps)
                delta = self._floats(gradient)
            else:
                losses, delta = _cross_entropy(scores.detach(), self._tensor(self.labels[rows]), self._excluded(tasks))
                finite = np.isfinite(on_host(losses))
                if not finite.all():
                    raise Diverged(self.steps, int(rows[finite.argmin()]))
                delta = delta / len(rows) if shares is None else delta * shares
        except BaseException:
            self._moving = before
            raise
        slopes = zip(self._leaves, self._slopes(scores, delta), strict=True)
        return torch.cat([(torch.zeros_like(leaf) if slope is None else slope).reshape(-1) for leaf, slope in slopes])

    def gradient(self, rows: Rows, loss: Loss | None = None) -> DeviceVector:
        """Buffers follow, as in a step."""
        return _vector(self._gradient(rows, loss=loss))

    def gradients(self, groups: Sequence[Rows], loss: Loss | None = None) -> DeviceVector:
        groups = [base.as_rows(group) for group in groups]  # whatever is no row is refused before the first
        with self._going_back():
            return _vector(torch.stack([self._gradient(group, loss=loss) for group in groups]))

    def dots(self, rows: Rows, groups: Sequence[Rows], loss: Loss | None = None) -> Floats:
        gradients = self.gradients([rows, *groups], loss)
        return on_host(gradients[1:] @ gradients[0])

    def update(self, rule: Rule, gradient: Any, *state: Any, **numbers: float) -> None:
        for vector in state:
            if not isinstance(vector, Tensor):
                raise BadInput("an update's state must be vectors of the learner's: make them as 0 * parameters()")
        # Clones, since a rule may write to its arguments, which compiled code has of its own.
        given = [_vector(self._like_theta(part).clone()) for part in (self._theta, gradient, *state)]
        try:
            with torch.no_grad():
                result = rule(*given, **numbers)
        except TypeError as error:
            raise BadInput(f"the rule {getattr(rule, '__qualname__', rule)} cannot be called: {error}") from error
        values = [
            torch.full_like(self._theta, value) if isinstance(value, int | float) else value
            for value in (result if isinstance(result, tuple) else (result,))
        ]
        if len(values) > 1 + len(state):
            raise BadInput(f"the rule gave {len(values)} results, but there are only θ and {len(state)} state vectors")
        tiny = float(np.nextafter(torch.finfo(self._dtype).tiny, 0, dtype=on_host(self._theta[:0]).dtype))
        for target, value in zip((self._theta, *state), values, strict=False):
            target.copy_(hardshrink(self._like_theta(value).as_subclass(Tensor), tiny))  # subnormal numbers are slow
        self.steps += 1

    def noise(self, rng: np.random.Generator) -> DeviceVector:
        return _vector(self._floats(normal(rng, len(self._theta))))

    def parameters(self) -> DeviceVector:
        return _vector(self._theta.clone())

    def load(self, vector: Any) -> None:
        self._theta.copy_(self._like_theta(vector))

    @contextmanager
    def trial(self) -> Iterator[None]:
        with self._going_back(), super().trial():
            yield

    def layers(self, vector: Any = None) -> list[tuple[DeviceVector, DeviceVector]]:
        if self._modules:
            text = f"the network {self._modules.network.name} is a module, whose layers are its own: use --network mlp"
            raise BadInput(text)
        pieces = self._pieces(self._theta if vector is None else self._like_theta(vector).as_subclass(Tensor))
        return [(_vector(weights), _vector(biases)) for weights, biases in zip(pieces[::2], pieces[1::2], strict=True)]

    def module(self, task: int = 0) -> torch.nn.Module:
        """A copy of the module that is trained, with its parameters and buffers; a task's where each has its own."""
        assert self._modules is not None
        at = task if self._modules.network.private else 0
        return self._modules.module([piece.detach() for piece in self._pieces(self._theta)], at)

    def copy_task(self, source: int, target: int) -> None:
        if self._modules:
            self._modules.copy_task(self._pieces(self._theta), source, target)
            return
        for weights, biases in self.layers():
            if weights.ndim == 3:
                weights[target], biases[target] = weights[source], biases[source]

    @property
    def _moving(self) -> Any:
        return self._modules.moving if self._modules else None

    @_moving.setter
    def _moving(self, moving: Any) -> None:
        if self._modules:
            self._modules.moving = moving

    @contextmanager
    def _going_back(self) -> Iterator[None]:
        before = self._moving
        try:
            yield
        finally:
            self._moving = before

    def state(self) -> dict[str, NDArray[Any]]:
        state = {"parameters": on_host(self._theta), "table": on_host(self._table), "steps": np.array(self.steps)}
        state |= {"labels": self.labels.copy(), "tasks": self.tasks.copy()}
        return state | (self._modules.state() if self._modules else {})

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a ``state()``; BadInput if it is not of a learner built in this way."""
        base.check_state(state, self.state())
        base.check_range("label", state["labels"], np.arange(self.slots), self.classes)
        self._theta.copy_(self._floats(state["parameters"]))
        self._table.copy_(self._floats(state["table"]))
        self.labels[:] = state["labels"]
        self.tasks[:] = state["tasks"]
        self.steps = int(state["steps"])
        if self._modules:
            self._modules.load_state(state)

    @property
    def parameter_bytes(self) -> int:
        return self._theta.nbytes

    @property
    def table_bytes(self) -> int:
        return self._table.nbytes + self.labels.nbytes + self.tasks.nbytes

    def _floats(self, values: ArrayLike) -> Tensor:
        return torch.as_tensor(_writable(values), dtype=self._dtype, device=self._device)

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.as_tensor(_writable(values), device=self._device)

    def _like_theta(self, vector: Any) -> Tensor:
        """A vector, also one of NumPy's, as a tensor on the device."""
        tensor = vector if isinstance(vector, Tensor) else self._floats(vector)
        if tensor.shape != self._theta.shape:
            raise BadInput(f"a vector has the shape {tuple(tensor.shape)}, but θ has {tuple(self._theta.shape)}")
        return tensor


def _cross_entropy(scores: Tensor, labels: Tensor, excluded: Tensor | None) -> tuple[Tensor, Tensor]:
    """The loss of each row ``(n,)``, and its gradient by the scores ``(n, classes)``."""
    if excluded is not None:
        scores = scores.masked_fill(excluded, EXCLUDED)
    logs = torch.log_softmax(scores, 1)
    losses = nll_loss(logs, labels, reduction="none")
    return losses, logs.exp_().scatter_add_(1, labels[:, None], logs.new_full((len(labels), 1), -1.0))


def _vector(tensor: Tensor) -> DeviceVector:
    return tensor.as_subclass(DeviceVector)


def _writable(values: ArrayLike) -> NDArray[Any]:
    """The same array, or a copy of one that cannot be written: tensors share memory, and always can."""
    array = np.asarray(values)
    return array if array.flags.writeable else array.copy()
