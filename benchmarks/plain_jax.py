"""The step loop in JAX: one compiled ``lax.scan`` over the steps, parameters donated."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
Parameters = list[tuple[jax.Array, jax.Array]]


class Steps:
    """Single-example SGD steps on rows of a table.

    Weights are ``(out, in)``, which XLA multiplies a vector by fastest. ``at_once`` steps go into one call.
    """

    def __init__(self, layers: list[Layer], x: NDArray[np.float32], y: NDArray[np.int64], at_once: int) -> None:
        self.parameters: Parameters = [(jnp.array(weights.T), jnp.array(biases)) for weights, biases in layers]
        self.x, self.y, self.at_once = jnp.array(x), jnp.array(y), at_once

    def run(self, rows: NDArray[np.int64], lr: float) -> None:
        for begin in range(0, len(rows), self.at_once):
            self.parameters = _scan(self.parameters, self.x, self.y, jnp.array(rows[begin : begin + self.at_once]), lr)
        jax.block_until_ready(self.parameters)

    def layers(self) -> list[Layer]:
        return [(np.array(weights).T, np.array(biases)) for weights, biases in self.parameters]


def _loss(parameters: Parameters, x: jax.Array, y: jax.Array) -> jax.Array:
    *hidden, (weights, biases) = parameters
    for hidden_weights, hidden_biases in hidden:
        x = jax.nn.relu(hidden_weights @ x + hidden_biases)
    scores = weights @ x + biases
    return jax.nn.logsumexp(scores) - scores[y]


@partial(jax.jit, donate_argnums=0)
def _scan(parameters: Parameters, x: jax.Array, y: jax.Array, rows: jax.Array, lr: float) -> Parameters:
    def step(parameters: Parameters, row: jax.Array) -> tuple[Parameters, None]:
        gradients = jax.grad(_loss)(parameters, x[row], y[row])
        return jax.tree.map(lambda now, gradient: now - lr * gradient, parameters, gradients), None

    return jax.lax.scan(step, parameters, rows)[0]
