"""The small convolutional network: what learns pictures one at a time without batch normalisation."""

from __future__ import annotations

from torch import Tensor
from torch.nn import Conv2d, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential

from metareplay.errors import BadInput

MAPS = (32, 64)
UNITS = 128


class SmallCNN(Module):
    """Two 3×3 convolutions, each with ReLU and a 2×2 maximum; a hidden layer; the classes.

    It has no buffers and draws nothing while it learns. Weights start as PyTorch's layers have them.

    Parameters
    ----------
    shape
        Of an image, ``(channels, height, width)``, at least 4×4.
    classes
        How many scores it gives.
    share
        Its maps and units are divided by this; at least one of each stays.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, share: int = 1) -> None:
        super().__init__()
        channels, height, width = shape
        if min(height, width) < 4:
            raise BadInput(f"the network cnn-small needs images of at least 4×4 pixels, not {height}×{width}")
        first, second = (max(1, maps // share) for maps in MAPS)
        units = max(1, UNITS // share)
        self.layers = Sequential(
            Conv2d(channels, first, 3, padding=1),
            ReLU(),
            MaxPool2d(2),
            Conv2d(first, second, 3, padding=1),
            ReLU(),
            MaxPool2d(2),
            Flatten(),
            Linear(second * (height // 4) * (width // 4), units),
            ReLU(),
            Linear(units, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scores ``(n, classes)`` of images ``(n, channels, height, width)``."""
        scores: Tensor = self.layers(x)
        return scores
