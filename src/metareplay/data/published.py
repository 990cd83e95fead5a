"""A data set that is published in files: fetched on first use; what lies in archives is decoded once."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.data.download import DataFile, Unusable, content, fetch, mapped_if, place_of
from metareplay.data.images import BaseImages, ImageSet
from metareplay.errors import BadInput
from metareplay.files import locked, read_regular, write_atomically

FORMAT = 2
"""Of the decoded arrays; to be raised when decoding changes, so that all is decoded anew."""
CONTENTS = "decoded.json"
ARRAYS = ("train", "train_labels", "test", "test_labels")


@dataclass(frozen=True, eq=False)
class Decoded:
    """What files hold: ``(n, d)`` uint8 images and ``(n,)`` labels; groups as ``ImageSet`` has them."""

    train: NDArray[np.uint8]
    train_labels: NDArray[Any]
    test: NDArray[np.uint8]
    test_labels: NDArray[Any]
    groups: tuple[tuple[str, tuple[int, ...]], ...] = ()


@dataclass(frozen=True)
class Published:
    """Images and labels in published files.

    Parameters
    ----------
    name, description
        As ``metareplay data`` shows them.
    files
        What is fetched, with pins.
    mirrors
        Addresses of folders that serve them; idx files gzipped or plain.
    decode
        Makes arrays of the verified contents of the files; raises Unusable.
    shape
        Of an image.
    classes, images
        How many classes there are, and images of them, for training and for testing.
    """

    name: str
    description: str
    files: tuple[DataFile, ...]
    mirrors: tuple[str, ...]
    decode: Callable[[Sequence[NDArray[np.uint8]]], Decoded]
    shape: tuple[int, ...]
    classes: int
    images: int

    @property
    def archived(self) -> bool:
        return any(file.archive for file in self.files)

    @property
    def size(self) -> int:
        """Bytes that it takes on disk."""
        return sum(file.size for file in self.files) + self.archived * self.images * (math.prod(self.shape) + 8)

    def get(self, folder: Path, source: str | Path | None = None, progress: bool = True) -> ImageSet:
        """Load it, first fetching into ``folder`` what is not there; see ``catalogue.get``."""
        loaded = None if source is not None else _LOADED.get((self, folder))
        if loaded is None:
            try:
                if source is not None:
                    fetch(self.name, self.files, folder, place_of(source), (), progress)
                loaded = self._load(folder)
            except Unusable as why:
                if source is not None:
                    raise self._useless(folder, why) from None
                fetch(self.name, self.files, folder, None, self.mirrors, progress)
                try:
                    loaded = self._load(folder)
                except Unusable as still:
                    raise self._useless(folder, still) from None
            _LOADED[self, folder] = loaded
        return loaded

    def present(self, folder: Path) -> bool:
        """Whether it can be loaded without a network."""
        try:
            if not (self.archived and self._decoded(folder)):
                self._contents(folder)
        except Unusable:
            return False
        return True

    def _useless(self, folder: Path, why: Unusable) -> BadInput:
        for file in self.files:
            (folder / file.name).unlink(missing_ok=True)
        return BadInput(f"{self.name} cannot be made of {', '.join(file.name for file in self.files)}: {why}")

    def _contents(self, folder: Path) -> list[NDArray[np.uint8]]:
        return [content(folder, file) for file in self.files]

    def _load(self, folder: Path) -> ImageSet:
        """Raises Unusable if neither decoded arrays nor the files are there and intact."""
        if not self.archived:
            return self._image_set(self.decode(self._contents(folder)), [file.sha256 for file in self.files])
        if (found := self._decoded(folder)) is not None:
            return found
        decoded = self.decode(self._contents(folder))
        classes = 1 + int(max(decoded.train_labels.max(), decoded.test_labels.max()))
        if classes > self.classes:
            raise Unusable(f"there are {classes} classes in it instead of {self.classes}")
        values = [hashlib.sha256(np.ascontiguousarray(getattr(decoded, name)).data).hexdigest() for name in ARRAYS]
        # Where nothing can be written, the arrays are made anew each time.
        with contextlib.suppress(OSError), locked(folder / ".lock", what=f"the data set {self.name} in {folder}"):
            self._store(decoded, values, folder)
        return self._decoded(folder) or self._image_set(decoded, values)

    def _decoded(self, folder: Path) -> ImageSet | None:
        """What was decoded before, mapped into memory; None if it is not there, not intact, or of other archives."""
        try:
            stored = json.loads(read_regular(folder / CONTENTS))
            if stored["format"] != FORMAT or stored["archives"] != [file.sha256 for file in self.files]:
                return None
            for name, sha256 in zip(ARRAYS, stored["files"], strict=True):
                if mapped_if(folder / f"{name}.npy", sha256) is None:
                    return None
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS}
            groups = tuple((str(name), tuple(map(int, classes))) for name, classes in stored["groups"])
            return self._image_set(Decoded(**arrays, groups=groups), stored["values"])
        except (OSError, ValueError, LookupError, TypeError, EOFError):
            return None

    def _store(self, decoded: Decoded, values: list[str], folder: Path) -> None:
        """Write the arrays; their list, which makes them count, last."""
        hashes = []
        for name in ARRAYS:
            file = io.BytesIO()
            np.save(file, getattr(decoded, name), allow_pickle=False)
            write_atomically(folder / f"{name}.npy", file.getvalue(), follow=False)
            hashes.append(hashlib.sha256(file.getbuffer()).hexdigest())
        stored = {
            "format": FORMAT,
            "archives": [file.sha256 for file in self.files],
            "files": hashes,
            "values": values,
            "groups": decoded.groups,
        }
        write_atomically(folder / CONTENTS, json.dumps(stored, indent=1).encode(), follow=False)

    def _image_set(self, decoded: Decoded, values: list[str]) -> ImageSet:
        return ImageSet(
            self.name,
            BaseImages(decoded.train, shape=self.shape),
            np.asarray(decoded.train_labels, np.int64),
            BaseImages(decoded.test, shape=self.shape),
            np.asarray(decoded.test_labels, np.int64),
            self.classes,
            hashlib.sha256("".join(values).encode()).hexdigest(),
            decoded.groups,
        )


_LOADED: dict[tuple[Published, Path], ImageSet] = {}
