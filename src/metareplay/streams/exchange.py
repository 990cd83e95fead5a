"""Streams for others: Hugging Face's ``datasets`` and Avalanche, imported when they are used, both ways."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.data.images import Images
from metareplay.errors import BadInput
from metareplay.streams.stream import Stream

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
