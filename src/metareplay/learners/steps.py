"""The update rules of the primitives, each written for one parameter."""

from typing import Any

import numpy as np


def descend(theta: Any, g: Any, lr: float) -> Any:
    """The rule of one SGD step."""
    return theta - lr * g


def decayed(theta: Any, g: Any, lr: float, decay: float) -> Any:
    """The rule of one SGD step with weight decay."""
    return (1 - lr * decay) * theta - lr * g


def pulled(theta: Any, g: Any, towards: Any, lr: float, decay: float) -> Any:
    """The rule of one SGD step with a pull."""
    return theta - lr * (g + decay * (theta - towards))


def fast_weights(theta: Any, g: Any, moved: Any, rates: Any) -> Any:
    """The rule of a step at rates of its own, and of the sum of the gradients that led there."""
    return theta - np.maximum(rates, 0) * g, moved + g


def interpolate(theta: Any, start: Any, rate: float) -> Any:
    """The rule of a step back towards where one came from."""
    return start + rate * (theta - start)
