"""The reduced ResNet-18 that the continual-learning literature has for CIFAR-100."""

from __future__ import annotations

from torch import Tensor
from torch.nn import BatchNorm2d, Conv2d, Identity, Linear, Module, Sequential
from torch.nn.functional import relu

MAPS = 20
"""Feature maps of the first of the four stages; each of the others has twice as many as the one before."""


class ReducedResNet18(Module):
    """ResNet-18 (He et al. 2016) with 20, 40, 80 and 160 maps, as in GEM (Lopez-Paz and Ranzato 2017).

    The first convolution is 3×3 and keeps the image's size; nothing is pooled before the last average, which is over
    4×4 for images of 32×32 and over whatever there is for others. Convolutions have no bias; batch normalisation
    follows each. Weights start as PyTorch's layers have them.

    Parameters
    ----------
    shape
        Of an image, ``(channels, height, width)``. To learn from one image at a time, one side must be larger than 8:
        else the last maps are single numbers, which no batch normalisation can normalise.
    classes
        How many scores it gives.
    share
        The 20 maps are divided by this; at least one stays.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, share: int = 1) -> None:
        super().__init__()
        maps = max(1, MAPS // share)
        self.first = normalised(shape[0], maps, 3, 1)
        blocks = []
        channels = maps
        for stage in range(4):
            for stride in (1 if stage == 0 else 2, 1):
                blocks.append(Block(channels, maps << stage, stride))
                channels = maps << stage
        self.blocks = Sequential(*blocks)
        self.last = Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Scores ``(n, classes)`` of images ``(n, channels, height, width)``."""
        scores: Tensor = self.last(self.blocks(relu(self.first(x))).mean((2, 3)))
        return scores


class Block(Module):
    """Two 3×3 convolutions beside a shortcut, which is a 1×1 convolution where the shape changes."""

    def __init__(self, channels: int, maps: int, stride: int) -> None:
        super().__init__()
        self.one = normalised(channels, maps, 3, stride)
        self.two = normalised(maps, maps, 3, 1)
        same = channels == maps and stride == 1
        self.shortcut = Identity() if same else normalised(channels, maps, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.two(relu(self.one(x))) + self.shortcut(x))


def normalised(channels: int, maps: int, size: int, stride: int) -> Sequential:
    """A convolution without bias, and batch normalisation."""
    return Sequential(
        Conv2d(channels, maps, size, stride, padding=size // 2, bias=False),
        BatchNorm2d(maps),
    )
