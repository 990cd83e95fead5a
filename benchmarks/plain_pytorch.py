"""The ten algorithms written plainly and well in PyTorch: what one would write by hand for one of them.

Flat lists of parameters, autograd, in-place updates, no optimiser, module or data loader, no needless copies. Examples
are kept in one tensor, whose first row is the incoming example; a reservoir's memories are its other rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

Layers = Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]
"""For each layer weights ``(in, out)`` and biases; of a private one, those of all its copies."""


def tensors(layers: Layers, task: int) -> list[Tensor]:
    """One task's parameters, weights before biases, as PyTorch keeps them: ``(out, in)``."""
    chosen = [(weights, biases) if weights.ndim == 2 else (weights[task], biases[task]) for weights, biases in layers]
    arrays = [array for weights, biases in chosen for array in (np.ascontiguousarray(weights.T), biases)]
    return [torch.tensor(array, requires_grad=True) for array in arrays]


def forward(parameters: Sequence[Tensor], x: Tensor) -> Tensor:
    """Scores of a batch ``x (n, inputs)``."""
    for weights, biases in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
        x = linear(x, weights, biases).relu()
    return linear(x, parameters[-2], parameters[-1])


def gradient(parameters: Sequence[Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """The gradient of the mean loss of a batch."""
    return torch.autograd.grad(cross_entropy(forward(parameters, x), y), parameters)


def descend(parameters: Sequence[Tensor], direction: Sequence[Tensor], lr: float) -> None:
    """Step along minus ``direction``."""
    with torch.no_grad():
        torch._foreach_add_(parameters, direction, alpha=-lr)


def steps(parameters: Sequence[Tensor], x: Tensor, y: Tensor, rows: list[int], lr: float) -> None:
    """One SGD step on each of ``rows``: the loop of the step benchmark."""
    for row in rows:
        descend(parameters, gradient(parameters, x[row : row + 1], y[row : row + 1]), lr)


def steps_as_usual(
    module: torch.nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, rows: list[int]
) -> None:
    """The same as one finds it in most programs: a module, its loss, an optimiser."""
    for row in rows:
        optimizer.zero_grad()
        cross_entropy(module(x[row : row + 1]), y[row : row + 1]).backward()
        optimizer.step()


def steps_by_hand(parameters: Sequence[Tensor], x: Tensor, y: Tensor, rows: list[int], lr: float) -> None:
    """The same without autograd: backpropagation written out, for two hidden layers."""
    w1, b1, w2, b2, w3, b3 = parameters
    labels = y.tolist()
    with torch.no_grad():
        for row in rows:
            h1 = torch.addmv(b1, w1, x[row]).relu_()
            h2 = torch.addmv(b2, w2, h1).relu_()
            d3 = torch.softmax(torch.addmv(b3, w3, h2), 0)
            d3[labels[row]] -= 1
            d2 = torch.mv(w3.t(), d3).mul_(h2 > 0)
            d1 = torch.mv(w2.t(), d2).mul_(h1 > 0)
            for weights, biases, delta, before in ((w3, b3, d3, h2), (w2, b2, d2, h1), (w1, b1, d1, x[row])):
                weights.addr_(delta, before, alpha=-lr)
                biases.add_(delta, alpha=-lr)


def flat(pieces: Sequence[Tensor]) -> Tensor:
    """Join the pieces of a gradient."""
    return torch.cat([piece.flatten() for piece in pieces])


class Reservoir:
    """A uniform sample of the examples offered, in all rows of the table but the first."""

    def __init__(self, x: Tensor, y: Tensor, tasks: Tensor, rng: np.random.Generator) -> None:
        self.x, self.y, self.tasks, self.rng = x, y, tasks, rng
        self.offered = 0

    def offer(self) -> None:
        """Offer the example in row 0."""
        capacity = len(self.x) - 1
        place = self.offered if self.offered < capacity else int(self.rng.integers(self.offered + 1))
        self.offered += 1
        if place < capacity:
            for table in (self.x, self.y, self.tasks):
                table[place + 1] = table[0]

    def draw(self, batches: int, size: int) -> NDArray[np.int64]:
        """Rows of memories, uniformly with replacement."""
        held = min(self.offered, len(self.x) - 1)
        return self.rng.integers(1, held + 1, (batches, min(size, held)))


class Online:
    """One SGD step on each example as it comes."""

    def __init__(self, layers: Layers, inputs: int, memories: int, tasks: int, rng: np.random.Generator, *, lr: float):
        self.parameters = tensors(layers, 0)
        self.lr = lr
        self.x = torch.zeros(1 + memories, inputs)
        self.y = torch.zeros(1 + memories, dtype=torch.int64)
        self.tasks = torch.zeros(1 + memories, dtype=torch.int64)
        self.memory = Reservoir(self.x, self.y, self.tasks, rng)

    def begin_task(self, task: int) -> None:
        """The next examples come from ``task``."""

    def put(self, x: Tensor, y: int, task: int) -> None:
        """Take in one example, ``x (inputs,)``."""
        self.x[0], self.y[0], self.tasks[0] = x, y, task

    def keep(self) -> None:
        """Offer the example in row 0 to the memory, without learning it."""
        self.memory.offer()

    def observe(self) -> None:
        """Learn the example in row 0 of the table."""
        descend(self.parameters, gradient(self.parameters, self.x[:1], self.y[:1]), self.lr)


class TaskNetworks(Online):
    """taskinput and independent: some layers, or all, are a task's own."""

    def __init__(self, layers: Layers, inputs: int, memories: int, tasks: int, rng: np.random.Generator, *, lr: float):
        super().__init__(layers, inputs, memories, tasks, rng, lr=lr)
        self.own = [tensors(layers, task) for task in range(tasks)]
        for network in self.own:  # what is not a task's own is the same tensor for all
            for place, (weights, _) in enumerate(layers):
                if weights.ndim == 2:
                    network[2 * place : 2 * place + 2] = self.own[0][2 * place : 2 * place + 2]

    def begin_task(self, task: int) -> None:
        self.parameters = self.own[task]


class EWC(Online):
    """The penalties of all past tasks as one quadratic: gradient 2λ (Σ F_t θ − Σ F_t θ_t)."""

    def __init__(self, *arguments, memory_strength: float, n_memories: int, **settings) -> None:
        super().__init__(*arguments, **settings)
        self.memory_strength, self.n_memories = memory_strength, n_memories
        self.importance = [torch.zeros_like(p) for p in self.parameters]
        self.pull = [torch.zeros_like(p) for p in self.parameters]
        self.kept = self.past = 0

    def begin_task(self, task: int) -> None:
        if self.kept:
            rows = slice(1, self.kept + 1)
            for importance, pull, parameter, g in zip(
                self.importance,
                self.pull,
                self.parameters,
                gradient(self.parameters, self.x[rows], self.y[rows]),
                strict=True,
            ):
                importance += g**2
                pull += g**2 * parameter.detach()
            self.past += 1
            self.kept = 0

    def observe(self) -> None:
        if self.kept < max(1, self.n_memories):
            self.kept += 1
            self.x[self.kept], self.y[self.kept] = self.x[0], self.y[0]
        direction = gradient(self.parameters, self.x[:1], self.y[:1])
        if self.past:
            with torch.no_grad():
                penalty = torch._foreach_mul(self.importance, self.parameters)
                torch._foreach_sub_(penalty, self.pull)
                torch._foreach_add_(direction, penalty, alpha=2 * self.memory_strength)
        descend(self.parameters, direction, self.lr)


class GEM(Online):
    """The gradient, turned where it would make a past task's memories worse: one batched gradient for each of these."""

    def __init__(self, layers, inputs, memories, tasks, rng, *, memory_strength: float, **settings) -> None:
        super().__init__(layers, inputs, 0, tasks, rng, **settings)
        self.margin = memory_strength
        self.memory_x = torch.zeros(tasks, memories // tasks, inputs)
        self.memory_y = torch.zeros(tasks, memories // tasks, dtype=torch.int64)
        self.offered = [0] * tasks
        self.violated = 0

    def keep(self) -> None:
        """Keep the example over the oldest of its task."""
        task = int(self.tasks[0])
        place = self.offered[task] % self.memory_x.shape[1]
        self.memory_x[task, place], self.memory_y[task, place] = self.x[0], self.y[0]
        self.offered[task] += 1

    def observe(self) -> None:
        current = int(self.tasks[0])
        self.keep()
        g = gradient(self.parameters, self.x[:1], self.y[:1])
        past = []
        for task, offered in enumerate(self.offered):
            if offered and task != current:
                held = slice(min(offered, self.memory_x.shape[1]))
                past.append(flat(gradient(self.parameters, self.memory_x[task, held], self.memory_y[task, held])))
        if past:
            gradients, incoming = torch.stack(past), flat(g)
            if (gradients @ incoming < 0).any():
                self.violated += 1
                turned = gradients.T @ self._weights(gradients, incoming) + incoming
                sizes = [parameter.numel() for parameter in self.parameters]
                pieces = zip(torch.split(turned, sizes), self.parameters, strict=True)
                g = [piece.view_as(parameter) for piece, parameter in pieces]
        descend(self.parameters, g, self.lr)

    def _weights(self, gradients: Tensor, g: Tensor) -> Tensor:
        """v ≥ margin that minimises ½ vᵀGGᵀv + gᵀGᵀv."""
        gram = (gradients @ gradients.T).double().numpy()
        slope = (gradients @ g).double().numpy() + self.margin * gram.sum(1)
        factor = np.linalg.cholesky(gram + 1e-9 * np.trace(gram) * np.eye(len(gram)))
        v = self.margin + nnls(factor.T, -np.linalg.solve(factor, slope))[0]
        return torch.from_numpy(v).float()


class ER(Online):
    """One step on the mean loss of the example and memories drawn anew."""

    def __init__(self, *arguments, replay_batch_size: int, **settings) -> None:
        super().__init__(*arguments, **settings)
        self.replay_batch_size = replay_batch_size

    def observe(self) -> None:
        rows = torch.from_numpy(np.append(self.memory.draw(1, self.replay_batch_size)[0], 0))
        losses = cross_entropy(forward(self.parameters, self.x[rows]), self.y[rows], reduction="none")
        loss = self.total(losses, self.tasks[rows])
        descend(self.parameters, torch.autograd.grad(loss, self.parameters), self.lr)
        self.keep()

    def total(self, losses: Tensor, tasks: Tensor) -> Tensor:
        """The loss of the batch."""
        return losses.mean()


class ERWithTasks(ER):
    """The sum, over the tasks in the batch, of each one's mean loss."""

    def total(self, losses: Tensor, tasks: Tensor) -> Tensor:
        return losses @ (1 / torch.bincount(tasks)[tasks])


class MER(Online):
    """Reptile steps within each batch, and across the batches of an example (Algorithm 1)."""

    current_at = "front"

    def __init__(
        self,
        *arguments,
        replay_batch_size: int,
        gamma: float,
        batches_per_example: int = 1,
        beta: float = 1,
        **settings,
    ) -> None:
        super().__init__(*arguments, **settings)
        self.replay_batch_size, self.batches_per_example = replay_batch_size, batches_per_example
        self.beta, self.gamma = beta, gamma
        self.before = [torch.empty_like(p, requires_grad=False) for p in self.parameters]

    def observe(self) -> None:
        start = [p.detach().clone() for p in self.parameters] if self.gamma != 1 else None
        for memories in self.memory.draw(self.batches_per_example, self.replay_batch_size).tolist():
            self.batch([0, *memories], self.beta)
        if start:
            self.keep_share(start, self.gamma)
        self.memory.offer()

    def batch(self, rows: list[int], rate: float, times: float = 1) -> None:
        """A step on each row, the current one's ``times`` as long; of the change, the share ``rate`` is kept."""
        with torch.no_grad():
            torch._foreach_copy_(self.before, self.parameters)
        for row in rows:
            g = gradient(self.parameters, self.x[row : row + 1], self.y[row : row + 1])
            descend(self.parameters, g, self.lr * times if row == 0 else self.lr)
        self.keep_share(self.before, rate)

    def keep_share(self, before: Sequence[Tensor], rate: float) -> None:
        """Go back to ``before`` but for the share ``rate`` of the change."""
        with torch.no_grad():
            torch._foreach_lerp_(self.parameters, before, 1 - rate)


class MEROneBigBatch(MER):
    """One batch, the example at its end (Algorithm 6)."""

    def observe(self) -> None:
        for memories in self.memory.draw(self.batches_per_example, self.replay_batch_size).tolist():
            self.batch([*memories, 0], self.gamma)
        self.memory.offer()


class MERCurrentExampleLearningRate(MER):
    """One batch in random order, the example's step longer (Algorithm 7)."""

    def __init__(self, *arguments, s: float, **settings) -> None:
        super().__init__(*arguments, **settings)
        self.s = s

    def observe(self) -> None:
        if self.memory.offered:
            rows = self.in_random_order([*self.memory.draw(1, self.replay_batch_size)[0].tolist(), 0])
            self.batch(rows, self.gamma, self.s)
        self.memory.offer()

    def in_random_order(self, rows: list[int]) -> list[int]:
        """Shuffle a batch."""
        return self.memory.rng.permutation(rows).tolist()


MODELS: dict[str, type[Online]] = {
    "online": Online,
    "taskinput": TaskNetworks,
    "independent": TaskNetworks,
    "ewc": EWC,
    "gem": GEM,
    "eralg4": ER,
    "eralg5": ERWithTasks,
    "meralg1": MER,
    "meralg6": MEROneBigBatch,
    "meralg7": MERCurrentExampleLearningRate,
}
