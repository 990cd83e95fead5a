"""The convolutional networks by name; importing this needs PyTorch."""

from torch import Tensor
from torch.nn import BatchNorm2d, Conv2d, Flatten, Identity, Linear, MaxPool2d, Module, ReLU, Sequential
from torch.nn.functional import relu

from metareplay.errors import BadInput


def small_cnn(shape: tuple[int, ...], classes: int, share: int = 1) -> Module:
    """Two 3×3 convolutions with 32 and 64 maps, each with ReLU and a 2×2 maximum; a hidden layer of 128; the classes.

    It has no buffers and draws nothing while it learns. Weights start as PyTorch's layers have them. Images of a
    ``shape (channels, height, width)`` have at least 4×4 pixels; maps and units are divided by ``share``.
    """
    channels, height, width = shape
    if min(height, width) < 4:
        raise BadInput(f"the network cnn-small needs images of at least 4×4 pixels, not {height}×{width}")
    first, second, units = (max(1, count // share) for count in (32, 64, 128))
    return Sequential(
        *(Conv2d(channels, first, 3, padding=1), ReLU(), MaxPool2d(2)),
        *(Conv2d(first, second, 3, padding=1), ReLU(), MaxPool2d(2)),
        *(Flatten(), Linear(second * (height // 4) * (width // 4), units), ReLU()),
        Linear(units, classes),
    )


class ReducedResNet18(Module):
    """ResNet-18 (He et al. 2016) with 20, 40, 80 and 160 maps, as in GEM (Lopez-Paz and Ranzato 2017) for CIFAR-100.

    The first convolution is 3×3 and keeps the image's size; nothing is pooled before the last average, which is over
    4×4 for images of 32×32 and over whatever there is for others. Convolutions have no bias; batch normalisation
    follows each. Weights start as PyTorch's layers have them. The 20 maps are divided by ``share``; at least one stays.

    To learn from one image ``(channels, height, width)`` at a time, one side must be larger than 8: else the last maps
    are single numbers, which no batch normalisation can normalise.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, share: int = 1) -> None:
        super().__init__()
        maps = channels = max(1, 20 // share)
        self.first = normalised(shape[0], maps, 3, 1)
        blocks = []
        for stage in range(4):
            for stride in (1 if stage == 0 else 2, 1):
                blocks.append(ResidualBlock(channels, maps << stage, stride))
                channels = maps << stage
        self.blocks = Sequential(*blocks)
        self.last = Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(self.blocks(relu(self.first(x))).mean((2, 3)))
        return scores


class ResidualBlock(Module):
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
    return Sequential(Conv2d(channels, maps, size, stride, padding=size // 2, bias=False), BatchNorm2d(maps))


CONVOLUTIONAL = {"cnn-small": small_cnn, "resnet18-reduced": ReducedResNet18}
