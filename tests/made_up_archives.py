"""Small archives in the official formats of CIFAR and Omniglot, with made-up images."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from gzip import GzipFile
from typing import Any

import numpy as np
from PIL import Image

from metareplay.data import cifar, omniglot
from metareplay.data.archived import ArchivedImages
from metareplay.data.download import DataFile


def python2_pickle(value: Any) -> bytes:
    """What Python 2's cPickle wrote with protocol 2: text and the bytes of arrays are its ``str``."""
    return b"\x80\x02" + _pickled(value) + b"."


def _pickled(value: Any) -> bytes:
    if isinstance(value, str):
        return _pickled(value.encode())
    if isinstance(value, bytes):
        short = len(value) < 256
        return (b"U" + struct.pack("<B", len(value)) if short else b"T" + struct.pack("<i", len(value))) + value
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_pickled, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_pickled(key) + _pickled(own) for key, own in value.items()) + b"u"
    shape = b"(" + b"".join(map(_pickled, value.shape)) + b"t"
    kind = (
        b"cnumpy\ndtype\n" + _pickled("u1") + b"K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return empty + b"(K\x01" + shape + kind + b"\x89" + _pickled(value.tobytes()) + b"tb"


def tar_gz(files: dict[str, bytes], change: Callable[[tarfile.TarInfo], None] = lambda member: None) -> bytes:
    content = io.BytesIO()
    with GzipFile(fileobj=content, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            change(member)
            tar.addfile(member, io.BytesIO(body))
    return content.getvalue()


def zipped(files: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] = lambda member: None) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, body in files.items():
            member = zipfile.ZipInfo(name)
            member.compress_type = zipfile.ZIP_DEFLATED
            change(member)
            packed.writestr(member, body)
    return content.getvalue()


def published(like: ArchivedImages, archives: Sequence[bytes], classes: int, *mirrors: str) -> ArchivedImages:
    """A data set like an official one, whose published archives are these."""
    files = tuple(
        DataFile(file.name, len(content), hashlib.sha256(content).hexdigest(), archive=True)
        for file, content in zip(like.files, archives, strict=False)
    )
    return replace(like, files=files, classes=classes, mirrors=mirrors)


def cifar10_files(each: int = 20, classes: int = 10, seed: int = 0) -> dict[str, bytes]:
    """CIFAR-10's six files of images, with ``each`` of them in each; a class is a tint, so that it can be learned."""
    rng = np.random.default_rng(seed)
    tints = rng.integers(0, 200, (classes, 3))
    files = {}
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        labels = (np.arange(each) % classes).tolist()
        pixels = tints[labels].repeat(1024, axis=1) + rng.integers(0, 56, (each, 3072))
        part = {"batch_label": name, "labels": labels, "data": pixels.astype(np.uint8), "filenames": ["x.png"] * each}
        files[f"cifar-10-batches-py/{name}"] = python2_pickle(part)
    return files | {"cifar-10-batches-py/readme.html": b"<meta>"}


def cifar100_files(train: int = 200, test: int = 100, seed: int = 0) -> dict[str, bytes]:
    rng = np.random.default_rng(seed)
    tints = rng.integers(0, 200, (100, 3))
    files = {}
    for name, n in (("train", train), ("test", test)):
        labels = (np.arange(n) % 100).tolist()
        pixels = tints[labels].repeat(1024, axis=1) + rng.integers(0, 56, (n, 3072))
        part = {"fine_labels": labels, "coarse_labels": labels, "data": pixels.astype(np.uint8)}
        files[f"cifar-100-python/{name}"] = python2_pickle(part)
    return files


def cifar10(files: dict[str, bytes], *mirrors: str) -> tuple[ArchivedImages, bytes]:
    archive = tar_gz(files)
    return published(cifar.CIFAR10, [archive], 10, *mirrors), archive


def drawing(ink: np.ndarray) -> bytes:
    """A drawing as Omniglot has them: 1 bit for each pixel, ink black."""
    content = io.BytesIO()
    Image.fromarray(np.where(ink, 0, 255).astype(np.uint8)).convert("1").save(content, "PNG")
    return content.getvalue()


def omniglot_files(top: str, alphabets: dict[str, int], drawings: int = 20, seed: int = 0) -> dict[str, bytes]:
    """Drawings of so many characters of some alphabets: a block of ink at a place of its own for each character."""
    rng = np.random.default_rng(seed)
    files = {}
    for place, (alphabet, characters) in enumerate(alphabets.items()):
        for character in range(1, characters + 1):
            for number in range(1, drawings + 1):
                ink = rng.random((105, 105)) < 0.02
                ink[10 * character : 10 * character + 15, 50 * place + 20 * seed :][:, :25] = True
                name = f"{top}/{alphabet}/character{character:02}/{character:04}_{number:02}.png"
                files[name] = drawing(ink)
    return files


def small_omniglot(first: bytes, second: bytes, classes: int, *mirrors: str) -> ArchivedImages:
    return published(omniglot.OMNIGLOT_SMALL, [first, second], classes, *mirrors)
