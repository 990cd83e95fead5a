"""Streams for others: Hugging Face's ``datasets`` and Avalanche, imported when they are used, both ways; pictures."""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from metareplay.data.images import Images
from metareplay.errors import BadInput, RunFailed, failing
from metareplay.files import write_atomically
from metareplay.streams.stream import Stream

COLUMNS, MOST_ROWS = 10, 20
SIDE = 32  # pixels that an image's side has at least in the file: a small one's own pixels are enlarged
GAP, MARGIN = 2, 6
Arrays = tuple[NDArray[Any], NDArray[Any]]


def from_hugging_face(
    name: str, tasks: Sequence[Mapping[str, Any]], inputs: str = "image", label: str = "label"
) -> Stream:
    """A stream of data sets of Hugging Face's ``datasets``, one for each task.

    Parameters
    ----------
    tasks
        For each task a ``DatasetDict``, or a dictionary, with the splits ``train`` and ``test``.
    inputs, label
        The columns: pictures of one size, or lists of numbers; and whole numbers from 0. BadInput if one or a split is
        missing, or the arrays do not fit (``Stream.from_arrays``).

    Examples
    --------
    >>> from metareplay.streams.exchange import from_hugging_face, to_hugging_face  # needs datasets
    >>> from_hugging_face("as before", to_hugging_face(stream))
    Stream('as before': 2 tasks of ... examples, 10 classes, shape (8, 8), ...)
    """
    return Stream.from_arrays(
        name, [(*_columns(task, "train", inputs, label), *_columns(task, "test", inputs, label)) for task in tasks]
    )


def _columns(task: Mapping[str, Any], split: str, inputs: str, label: str) -> Arrays:
    if split not in task:
        raise BadInput(f"a task has the splits {', '.join(map(str, task))}, but must have train and test")
    data = task[split]
    if missing := [column for column in (inputs, label) if column not in data.column_names]:
        raise BadInput(f"{split} has no column {missing[0]}; it has {', '.join(data.column_names)}: name it")
    columns = data.select_columns([inputs, label]).with_format("numpy")[:]
    x = np.asarray(columns[inputs])
    if x.ndim == 4 and x.shape[-1] in (1, 3):  # colours come last there
        x = x.transpose(0, 3, 1, 2)
    return x, np.asarray(columns[label])


def to_hugging_face(stream: Stream) -> list[Any]:
    """For each task a ``DatasetDict`` with ``train`` and ``test``, columns ``image`` (the inputs) and ``label``.

    Examples
    --------
    >>> from metareplay.streams.exchange import to_hugging_face  # needs datasets
    >>> to_hugging_face(stream)[0]["test"].num_rows
    500
    """
    from datasets import Dataset, DatasetDict

    def part(images: Images) -> Any:
        x, y = arrays(images, stream.shape)
        return Dataset.from_dict({"image": x, "label": y})

    return [DatasetDict(train=part(task.train), test=part(task.test)) for task in stream.tasks]


def arrays(images: Images, shape: tuple[int, ...]) -> Arrays:
    """Inputs ``(n, *shape)`` float32, as they are learned, and labels ``(n,)``."""
    return images.inputs(np.arange(len(images))).reshape(-1, *shape), images.labels


def from_avalanche(name: str, benchmark: Any) -> Stream:
    """A stream of an Avalanche benchmark: each pair of its train and test experiences is a task.

    Examples are what its data sets give, so its transformations are applied, once.

    Parameters
    ----------
    benchmark
        What has ``train_stream`` and ``test_stream``; BadInput if there are not as many experiences in both, or their
        examples do not fit (``Stream.from_arrays``).

    Examples
    --------
    >>> from metareplay.streams.exchange import from_avalanche, to_avalanche  # needs avalanche
    >>> from_avalanche("as before", to_avalanche(stream))
    Stream('as before': 2 tasks of ... examples, 10 classes, shape (8, 8), ...)
    """
    train, test = list(benchmark.train_stream), list(benchmark.test_stream)
    if len(train) != len(test):
        raise BadInput(f"{name} has {len(train)} experiences to train on, but {len(test)} to test on")
    sides = enumerate(zip(train, test, strict=True))
    tasks = [(*_examples(one.dataset, n), *_examples(other.dataset, n)) for n, (one, other) in sides]
    return Stream.from_arrays(name, tasks)


def _examples(dataset: Iterable[Sequence[Any]], number: int) -> Arrays:
    pairs = [(np.asarray(example[0]), int(example[1])) for example in dataset]
    if len(shapes := {x.shape for x, _ in pairs}) != 1:
        raise BadInput(f"experience {number} has inputs of the shapes {sorted(shapes)}, but must have some of one size")
    return np.stack([x for x, _ in pairs]), np.array([y for _, y in pairs])


def to_avalanche(stream: Stream) -> Any:
    """An Avalanche benchmark with an experience for each task.

    Examples
    --------
    >>> from metareplay.streams.exchange import to_avalanche  # needs avalanche
    >>> len(to_avalanche(stream).train_stream)
    2
    """
    import torch
    from avalanche.benchmarks import benchmark_from_datasets
    from avalanche.benchmarks.utils import as_classification_dataset
    from torch.utils.data import TensorDataset

    def part(images: Images) -> Any:
        x, y = arrays(images, stream.shape)
        data: Any = TensorDataset(torch.from_numpy(np.array(x)), torch.from_numpy(np.array(y)))
        data.targets = data.tensors[1]  # what Avalanche looks for
        return as_classification_dataset(data)

    return benchmark_from_datasets(
        train=[part(task.train) for task in stream.tasks], test=[part(task.test) for task in stream.tasks]
    )


def rows(stream: Stream, columns: int = COLUMNS, most: int = MOST_ROWS) -> list[tuple[str, NDArray[np.uint8]]]:
    """For each task ``1: 45.00°``, and images ``(columns, height, width, 3)`` uint8, class by class; or BadInput."""
    shape = stream.shape
    if len(shape) == 1 or (len(shape) == 3 and shape[0] not in (1, 3)):
        raise BadInput(f"{stream.name} cannot be drawn: its examples form no images of one or three colours")
    step = -(-len(stream.tasks) // most)
    return [
        (f"{number + 1}: {stream.tasks[number].description}", _drawn(stream.tasks[number].train, shape, columns))
        for number in range(0, len(stream.tasks), step)
    ]


def _drawn(images: Images, shape: tuple[int, ...], columns: int) -> NDArray[np.uint8]:
    values = images.inputs(_in_turn(images.labels, columns)).reshape(-1, *shape)
    grey = np.clip(values * 255, 0, 255).astype(np.uint8)
    colours = grey[:, None] if grey.ndim == 3 else grey
    return np.repeat(colours, 4 - len(colours[0]), 1)[:, :3].transpose(0, 2, 3, 1)


def _in_turn(labels: NDArray[np.int64], columns: int) -> NDArray[np.int64]:
    """The first example of each class, then the second of each, and so on."""
    by_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    longest = max(map(len, by_class))
    turns = [own[turn] for turn in range(min(columns, longest)) for own in by_class if turn < len(own)]
    return np.array(turns[:columns])


def picture(stream: Stream) -> Image.Image:
    """The gallery as one image: a row for each task, its description at the left."""
    found = rows(stream)
    height, width = found[0][1].shape[1:3]
    scale = -(-SIDE // min(height, width))
    across, down = width * scale + GAP, height * scale + GAP
    font = ImageFont.load_default(13)
    left = 3 * MARGIN + int(max(font.getlength(description) for description, _ in found))
    sheet = Image.new("RGB", (left + COLUMNS * across + MARGIN, len(found) * down + 2 * MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (description, images) in enumerate(found):
        top = MARGIN + row * down
        draw.text((MARGIN, top + down / 2), description, "black", font, "lm")
        for column, pixels in enumerate(images):
            enlarged = Image.fromarray(pixels.repeat(scale, 0).repeat(scale, 1))
            sheet.paste(enlarged, (left + column * across, top))
    return sheet


def save_picture(stream: Stream, path: Path) -> None:
    """Write the gallery as a PNG file: BadInput if its name does not end with ``.png`` or there is no such folder."""
    if path.suffix.lower() != ".png":
        raise BadInput(f"--output is {path}, but a gallery is a PNG image: give it a name that ends with .png")
    if not path.parent.is_dir():
        raise BadInput(f"--output is {path}, but there is no folder {path.parent}")
    content = io.BytesIO()
    picture(stream).quantize(64).save(content, "PNG", optimize=True)
    with failing(RunFailed, f"{path} cannot be written"):
        write_atomically(path, content.getvalue())
