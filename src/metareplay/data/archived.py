"""Images that are published in archives: fetched as they are, unpacked once, and kept as plain arrays beside them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from metareplay.data.download import DataFile, Report, Unusable, download_bars, fetch, place_of, read, reporter_of
from metareplay.data.images import ImageSet
from metareplay.errors import BadInput
from metareplay.files import unfinished, write_atomically
from metareplay.streams.stream import BaseImages

FORMAT = 1
"""Of what lies beside the archives; to be raised when decoding changes, so that all is decoded anew."""

CONTENTS = "decoded.json"
ARRAYS = ("train", "train_labels", "test", "test_labels")


@dataclass(frozen=True, eq=False)
class Decoded:
    """What archives hold: ``(n, d)`` uint8 images and ``(n,)`` int64 labels; groups as ``ImageSet`` has them."""

    train: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    groups: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @cached_property
    def sha256(self) -> dict[str, str]:
        """Of each array's values, by its name."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}
        return {name: hashlib.sha256(array.data).hexdigest() for name, array in arrays.items()}


@dataclass(frozen=True)
class ArchivedImages:
    """Images and labels in archives, fetched on first use.

    Parameters
    ----------
    files
        The archives.
    mirrors
        Addresses of folders that serve them.
    decode
        Makes arrays of the archives at some paths, which have been verified; raises Unusable.
    shape
        Of an image.
    classes, images
        How many classes there are, and images of them, for training and for testing.
    """

    name: str
    description: str
    files: tuple[DataFile, ...]
    mirrors: tuple[str, ...]
    decode: Callable[[Sequence[Path], Report], Decoded]
    shape: tuple[int, ...]
    classes: int
    images: int

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files) + self.images * (math.prod(self.shape) + 8)

    def get(self, folder: Path, source: str | Path | None = None, progress: bool = True) -> ImageSet:
        if source is None and (self, folder) in _LOADED:
            return _LOADED[self, folder]
        if source is None:
            try:
                images = self._load(folder, progress)
            except Unusable:
                images = self._fetched(folder, None, progress)
        else:
            images = self._fetched(folder, source, progress)
        _LOADED[self, folder] = images
        return images

    def present(self, folder: Path) -> bool:
        try:
            if self._kept(folder) is None:
                self._verify(folder)
        except Unusable:
            return False
        return True

    def _fetched(self, folder: Path, source: str | Path | None, progress: bool) -> ImageSet:
        """Fetch the archives and load them; if they are of no use, they are not kept."""
        place = None if source is None else place_of(source)
        fetch(self.name, self.files, folder, place, self.mirrors, progress)
        try:
            return self._load(folder, progress)
        except Unusable as why:
            for file in self.files:
                (folder / file.name).unlink(missing_ok=True)
            names = ", ".join(file.name for file in self.files)
            raise BadInput(f"{self.name} cannot be made of {names}: {why}") from None

    def _load(self, folder: Path, progress: bool) -> ImageSet:
        """Raises Unusable if neither what was decoded nor the archives are there and intact."""
        kept = self._kept(folder)
        if kept is None:
            self._verify(folder)
            # Where nothing can be written, the arrays are made anew each time.
            with contextlib.suppress(OSError):
                with FileLock(folder / ".lock"):
                    if self._kept(folder) is None:  # a second process waits here, and then finds it done
                        _keep(self._decoded(folder, progress), folder, self._archives())
                kept = self._kept(folder)
        return self._image_set(kept or self._decoded(folder, progress))

    def _verify(self, folder: Path) -> None:
        for file in self.files:
            read(folder, file)

    def _decoded(self, folder: Path, progress: bool) -> Decoded:
        with download_bars(progress) as bars:
            decoded = self.decode(
                [folder / file.name for file in self.files], reporter_of(bars, f"unpacking {self.name}")
            )
        found = 1 + int(max(decoded.train_labels.max(), decoded.test_labels.max()))
        if found > self.classes:
            raise Unusable(f"there are {found} classes in it instead of {self.classes}")
        return decoded

    def _archives(self) -> list[str]:
        return [file.sha256 for file in self.files]

    def _kept(self, folder: Path) -> Decoded | None:
        """What was decoded before, mapped into memory; None if it is not there, not intact, or of other archives."""
        try:
            contents = json.loads((folder / CONTENTS).read_bytes())
            if contents["format"] != FORMAT or contents["archives"] != self._archives():
                return None
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS}
            groups = tuple((str(name), tuple(map(int, classes))) for name, classes in contents["groups"])
            decoded = Decoded(**arrays, groups=groups)
            return decoded if decoded.sha256 == contents["sha256"] else None
        except (OSError, ValueError, KeyError, TypeError, EOFError):
            return None

    def _image_set(self, decoded: Decoded) -> ImageSet:
        return ImageSet(
            self.name,
            BaseImages(decoded.train, shape=self.shape),
            np.asarray(decoded.train_labels),
            BaseImages(decoded.test, shape=self.shape),
            np.asarray(decoded.test_labels),
            self.classes,
            hashlib.sha256("".join(decoded.sha256.values()).encode()).hexdigest(),
            decoded.groups,
        )


_LOADED: dict[tuple[ArchivedImages, Path], ImageSet] = {}


def _keep(decoded: Decoded, folder: Path, archives: list[str]) -> None:
    """Write the arrays; their list, which makes them count, last."""
    for left in unfinished(folder):
        left.unlink(missing_ok=True)
    for name in ARRAYS:
        content = io.BytesIO()
        np.save(content, getattr(decoded, name), allow_pickle=False)
        write_atomically(folder / f"{name}.npy", content.getvalue())
    contents = {
        "format": FORMAT,
        "archives": archives,
        "sha256": decoded.sha256,
        "groups": decoded.groups,
    }
    write_atomically(folder / CONTENTS, json.dumps(contents, indent=1).encode())
