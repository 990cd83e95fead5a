"""Small files in the official formats of MNIST, CIFAR and Omniglot, with made-up images."""

import hashlib
import io
import struct
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from gzip import GzipFile

import numpy as np
from PIL import Image

from metareplay.data.decode import idx_files
from metareplay.data.download import DataFile, Published


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.astype(np.uint8).tobytes()


def tiny_files() -> dict[str, bytes]:
    """Thirty made-up images of 6 × 5 pixels for training, 12 for testing."""
    rng = np.random.default_rng(0)
    files = {}
    for part, n in (("train", 30), ("test", 12)):
        files[f"{part}-images"] = idx(rng.integers(0, 256, (n, 6, 5)))
        files[f"{part}-labels"] = idx(np.arange(n) % 10)
    return files


def tiny(*mirrors: str) -> Published:
    files = (
        DataFile(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in tiny_files().items()
    )
    return Published("tiny", "made up", tuple(files), mirrors, idx_files, (6, 5), 10, (30, 12))


def tar_gz(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with GzipFile(fileobj=content, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return content.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, body in files.items():
            packed.writestr(zipfile.ZipInfo(name), body)
    return content.getvalue()


def published(like: Published, archives: Sequence[bytes], classes: int, *mirrors: str) -> Published:
    """A data set like an official one, whose published archives are these."""
    files = tuple(
        DataFile(file.name, len(content), hashlib.sha256(content).hexdigest())
        for file, content in zip(like.files, archives, strict=False)
    )
    return replace(like, files=files, classes=classes, mirrors=mirrors)


def records(labels: list[int], pixels: np.ndarray, coarse: bool = False) -> bytes:
    """CIFAR's records: a label, or two of which the second counts, and the pixels."""
    column = np.array(labels, np.uint8)[:, None]
    return np.hstack([*([column // 5] if coarse else []), column, pixels.astype(np.uint8)]).tobytes()


def tinted(n: int, classes: int, rng: np.random.Generator) -> tuple[list[int], np.ndarray]:
    """So many labels and images: a class is a tint, so that it can be learned."""
    labels = (np.arange(n) % classes).tolist()
    tints = np.random.default_rng(classes).integers(0, 200, (classes, 3))
    return labels, tints[labels].repeat(1024, axis=1) + rng.integers(0, 56, (n, 3072))


def cifar10_files(each: int = 20, classes: int = 10, seed: int = 0) -> dict[str, bytes]:
    rng = np.random.default_rng(seed)
    names = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
    files = {f"cifar-10-batches-bin/{name}.bin": records(*tinted(each, classes, rng)) for name in names}
    return files | {"cifar-10-batches-bin/readme.html": b"<meta>"}


def cifar100_files(train: int = 200, test: int = 100, seed: int = 0) -> dict[str, bytes]:
    rng = np.random.default_rng(seed)
    parts = {"train": train, "test": test}
    return {f"cifar-100-binary/{name}.bin": records(*tinted(n, 100, rng), coarse=True) for name, n in parts.items()}


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
