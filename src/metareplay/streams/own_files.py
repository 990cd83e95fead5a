"""A user's own data as they lie there: images in a folder for each class, CSV files, ``.npz`` files of arrays."""

import csv
import io
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from metareplay.data.download import progress_bar
from metareplay.data.images import ImageSet
from metareplay.errors import BadInput, failing, plain
from metareplay.files import open_regular, shown
from metareplay.streams.stream import PARTS, Stream

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
"""Pillow reads others too, some of them by running a program."""
GREY, COLOUR = {"1", "L", "LA"}, {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
"""Pillow's modes of 8 bits a colour."""
WHOLE = re.compile(r"[-+]?[0-9]{1,15}(\.0*)?")  # a label that is a whole number, however it is written
SIDES = ("train", "test")
Examples = tuple[NDArray[Any], list[str]]  # inputs, and the name of each one's class


def read(path: str | Path, progress: bool = True) -> Stream:
    """The stream in a folder of images, of CSV files or of ``.npz`` files, or in one CSV file.

    A task is a file, or a folder with one folder for each class; a folder of classes alone is one task. Tasks come in
    the order of their names, as classes do, which are numbered over all tasks: the same name is the same class.
    Folders ``train`` and ``test``, above the tasks or in each, say what to test on; else that is a fifth of each task,
    each class in proportion, drawn with a seed that is always the same. An ``.npz`` file has the arrays ``PARTS``, of
    which ``Stream.from_arrays`` says what they may be. Nothing is ever run. BadInput names the file that is of no use.
    """
    path = Path(path)
    try:
        inside = list(path.glob("*.npz")) or (file for file in path.rglob("*") if file.is_file())
        files = [path] if path.is_file() else sorted(inside)
        versions = tuple((file, s.st_size, s.st_ino, s.st_mtime_ns) for file in files for s in [file.stat()])
        return _read(path.resolve(), versions, progress)
    except OSError as error:
        raise BadInput(f"{error.filename or path} cannot be read: {error.strerror or error}") from error
    except MemoryError:
        raise BadInput(f"{path} has more data than there is memory for") from None


@lru_cache(maxsize=1)
def _read(path: Path, versions: tuple[tuple[Any, ...], ...], progress: bool) -> Stream:
    """Runs of one suite, in one process, share what was read, until a file has another version."""
    found, size, seen = tasks(path), sum(version[1] for version in versions), 0
    parts = [part for task in found.values() for part in task]
    if parts[0].suffix == ".npz":
        return Stream.from_arrays(path.name, [_arrays(file) for file in parts], descriptions=list(found))
    with progress_bar(path.name, progress, size) as report:

        def done(file: Path) -> None:
            nonlocal seen
            seen += file.stat().st_size
            report(seen, size)

        sides = list(_tables(parts, done) if parts[0].suffix == ".csv" else _images(parts, done))
    names = sorted({name for _, labels in sides for name in labels}, key=in_order)
    number = {name: n for n, name in enumerate(names)}
    ready, made = iter([(x, np.array([number[label] for label in labels])) for x, labels in sides]), []
    for name, task in found.items():
        (x, y), *test = (next(ready) for _ in task)
        out = _held_out(y)
        if not test and not 0 < out.sum() < len(y):
            raise BadInput(f"{path / name} has too few examples to test on a fifth: have folders {' and '.join(SIDES)}")
        made.append((x, y, *test[0]) if test else (x[~out], y[~out], x[out], y[out]))
    return Stream.from_arrays(path.name, made, classes=len(names), descriptions=[name or path.name for name in found])


def images(path: str, progress: bool) -> ImageSet:
    """A folder of classes alone as a data set, to make a stream from."""
    stream = read(path, progress)
    return ImageSet(stream.name, stream.tasks[0].train, stream.tasks[0].test, stream.classes, stream.data_sha256)


def tasks(path: Path) -> dict[str, list[Path]]:
    """Where each task is, by name, that of classes alone being ""; two places where they say what to test on."""
    if archives := list(path.glob("*.npz")):
        return {file.stem: [file] for file in sorted(archives, key=lambda file: in_order(file.stem))}
    if sides := _sides(path):
        train, test = map(_below, sides)
        if odd := train.keys() ^ test.keys():
            raise BadInput(f"{path} has the task {min(odd)!r} in only one of {' and '.join(SIDES)}, but needs both")
        return {name: [train[name], test[name]] for name in train}
    below = _below(path)
    if len(below) > 1 and (odd := {name for name in below if name.lower() in SIDES}):
        told = f"folders {' and '.join(SIDES)}, with the same tasks in both, say what to test on"
        raise BadInput(f"{path} has {min(odd)}, but as a task of its own, to be learned as all others: {told}")
    return {name: _sides(task) or [task] for name, task in below.items()}


def _sides(path: Path) -> list[Path]:
    """The folders train and test in a folder, in whatever case; none unless both are there."""
    named = {each.name.lower(): each for each in _visible(path) if each.is_dir()}
    return [named[side] for side in SIDES] if named.keys() >= set(SIDES) else []


def _below(path: Path) -> dict[str, Path]:
    if tables := [file for file in _visible(path) if file.suffix == ".csv"]:
        return {file.stem: file for file in tables}
    folders = [folder for folder in _visible(path) if folder.is_dir()]
    if not folders:
        raise BadInput(f"{path} has no .npz files, no .csv files and no folders of images: see docs/own-data.md")
    return {each.name: each for each in folders} if any(map(Path.is_dir, _visible(folders[0]))) else {"": path}


def _visible(path: Path) -> list[Path]:
    """What is in a folder, in the order of names; a file itself."""
    with failing(BadInput, f"{path} cannot be read"):
        there = [each for each in path.iterdir() if each.name[0] != "."] if path.is_dir() else [path]
    return sorted(there, key=lambda each: in_order(each.name))


def _held_out(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    n, order, out = len(labels), np.random.default_rng(0).permutation(len(labels)), labels < 0
    out[order[np.argsort(labels[order], kind="stable")]] = np.arange(n) * round(n / 5) % n < round(n / 5)
    return out


def _images(folders: Sequence[Path], done: Callable[[Path], None]) -> Iterator[Examples]:
    """The images in the folders of each: ``(n, rows, columns)``, or ``(n, 3, rows, columns)`` if any has colours."""
    classes = [[each for each in _visible(folder) if each.is_dir()] for folder in folders]
    listed = [[(file, own.name) for own in each for file in _visible(own)] for each in classes]
    first, colour = None, False
    for file in (file for files in listed for file, _ in files):  # all headers, before anything is unpacked
        with _image(file) as image:
            first, colour = first or (file, image.size), colour or image.mode in COLOUR
            if image.mode not in GREY | COLOUR:
                raise BadInput(f"{file} is of Pillow's mode {image.mode}, but must have 8 bits for each colour")
            if image.size != first[1]:
                (own, others) = ("×".join(map(str, size)) for size in (image.size, first[1]))
                raise BadInput(f"{file} has {own} pixels, but {first[0]} has {others}: make all of one size")
    for folder, files in zip(folders, listed, strict=True):
        pixels = []
        for file, _ in files:
            with _image(file) as image:
                pixels.append(np.asarray(image.convert("RGB" if colour else "L")))
            done(file)
        if not files:
            raise BadInput(f"{folder} has no images: it needs a folder of them for each class")
        yield np.stack(pixels).transpose((0, 3, 1, 2) if colour else (0, 1, 2)), [label for _, label in files]


@contextmanager
def _opened(file: Path, what: str) -> Iterator[BinaryIO]:
    """Open a file that should be ``what``; wherever its bytes may lead a library, BadInput names it."""
    try:
        with open_regular(file) as opened:
            yield opened
    except BadInput:
        raise
    except MemoryError:
        raise BadInput(f"{file} has more data than there is memory for") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise BadInput(f"{file} cannot be read: {error.strerror}") from error
        why = "" if isinstance(error, UnidentifiedImageError) else f" ({' '.join(str(error).split())[:200]})"
        raise BadInput(f"{file} is {what}{why}") from None


@contextmanager
def _image(file: Path) -> Iterator[Image.Image]:
    with _opened(file, f"damaged, or no image of {', '.join(FORMATS)}") as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(opened, formats=FORMATS) as image:
            yield image


def _tables(files: Sequence[Path], done: Callable[[Path], None]) -> Iterator[Examples]:
    """The numbers ``(n, columns but label)`` and the labels of each CSV file."""
    first: list[str] = []
    for file in files:
        with _opened(file, "no CSV file in UTF-8") as opened, io.TextIOWrapper(opened, "utf-8-sig", newline="") as text:
            reader = csv.reader(text)
            columns = [name.strip() for name in next(reader, [])]
            rows = [(reader.line_num, row) for row in reader if row]
        first = first or columns
        if columns.count("label") != 1 or len(columns) < 2:
            given = ", ".join(columns)[:100] or "nothing"
            raise BadInput(f"{file} begins with {given}, but must with the names of its columns, of which one is label")
        if "" in columns:  # a data frame's index, of which nothing is to be learned
            raise BadInput(f"{file} has a column without a name: leave it out; of pandas: frame.to_csv(…, index=False)")
        if columns != first:
            raise BadInput(f"{file} has other columns than {files[0]}, but must have the same in the same order")
        place, labels, numbers = columns.index("label"), [], np.empty((len(rows), len(columns) - 1), np.float32)
        for n, (line, row) in enumerate(rows):
            if len(row) != len(columns):
                raise BadInput(f"{file} has {len(row)} cells in line {line}, but {len(columns)} columns")
            label = row.pop(place).strip()
            labels.append(str(int(float(label))) if WHOLE.fullmatch(label) else label)
            try:
                with np.errstate(over="ignore"):
                    numbers[n] = row
            except ValueError:
                numbers[n] = np.nan
            if not 0 < len(label) <= 200 or label.lower() == "nan" or not np.isfinite(numbers[n]).all():
                raise BadInput(f"{file} has no label, or not only finite numbers beside it, in line {line}")
        if not rows:
            raise BadInput(f"{file} has the names of its columns, but no rows")
        done(file)
        yield numbers, labels


def _arrays(file: Path) -> dict[str, NDArray[Any]]:
    with _opened(file, "damaged, or is no .npz file; numpy.savez(file, x_train=…, …) writes one") as opened:
        size, packed = os.fstat(opened.fileno()).st_size, zipfile.ZipFile(opened).infolist()
        opens = sum(entry.file_size for entry in packed)
        if opens > 200 * size + (64 << 20):  # sparse data pack well, but not so well
            raise BadInput(f"{file} has {shown(size)}, but unpacks to {shown(opens)}: save it with numpy.savez")
        opened.seek(0)
        archive = np.load(opened, allow_pickle=False)
        if missing := [name for name in PARTS if name not in archive.files]:
            has = ", ".join(map(plain, archive.files)) or "nothing"
            raise BadInput(f"{file} has no {' and no '.join(missing)}; it has {has[:200]}")
        try:
            return {name: archive[name] for name in PARTS}
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            raise BadInput(f"{file} holds Python objects, which are not read; save arrays of numbers alone") from None


def in_order(name: str) -> tuple[list[tuple[int, str]], str]:
    """Names as people count: the numbers in them by their value."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)], name
