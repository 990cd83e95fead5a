"""Damaged files by the hundred: what every reader of files is tried on.

A reader may refuse a mutant with one of its own errors, or read it; it may not crash, hang, or raise anything else.
``make fuzz N=100000`` tries as many as one likes.
"""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

COUNT = int(os.environ.get("FUZZ", "200"))
EXTREMES = (b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\xff" * 8, b"-1", b"1e999", b"nan", b"9" * 30)


def mutants(originals: Sequence[bytes], count: int = COUNT, seed: int = 0) -> Iterator[bytes]:
    """Mutations of some files, the same for the same seed: one to four of the changes that damage and malice make."""
    rng = random.Random(seed)
    for _ in range(count):
        content = bytearray(rng.choice(originals))
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            rng.choice(CHANGES)(content, rng, originals)
        yield bytes(content)


def survivors(read: Callable[[bytes], Any], originals: Sequence[bytes], refusals: tuple[type[Exception], ...]) -> int:
    """Read every mutant; how many were read. What is not among the refusals comes through, with the mutant's number."""
    good = 0
    for number, content in enumerate(mutants(originals)):
        try:
            read(content)
        except refusals as error:
            said = str(error)
        except Exception as error:
            error.add_note(f"mutant {number} of {COUNT}")
            raise
        else:
            said, good = "", good + 1
        assert "\n" not in said, f"mutant {number}: {said}"
    return good


def _flip(content: bytearray, rng: random.Random, originals: Sequence[bytes]) -> None:
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _overwrite(content: bytearray, rng: random.Random, originals: Sequence[bytes]) -> None:
    place, extreme = rng.randrange(len(content) + 1), rng.choice(EXTREMES)
    content[place : place + len(extreme)] = extreme


def _insert(content: bytearray, rng: random.Random, originals: Sequence[bytes]) -> None:
    place = rng.randrange(len(content) + 1)
    content[place:place] = rng.choice((rng.choice(EXTREMES), rng.randbytes(rng.choice((1, 8, 300)))))


def _cut(content: bytearray, rng: random.Random, originals: Sequence[bytes]) -> None:
    del content[rng.randrange(len(content) + 1) :]


def _delete(content: bytearray, rng: random.Random, originals: Sequence[bytes]) -> None:
    place = rng.randrange(len(content) + 1)
    del content[place : place + rng.choice((1, 2, 16, 500))]


def _repeat(content: bytearray, rng: random.Random, originals: Sequence[bytes]) -> None:
    place = rng.randrange(len(content) + 1)
    content[place:place] = content[place : place + rng.choice((1, 16, 500))]


def _splice(content: bytearray, rng: random.Random, originals: Sequence[bytes]) -> None:
    """Put a piece of another file, or of another place, over this one."""
    other = rng.choice(originals)
    begin, place, size = rng.randrange(len(other) + 1), rng.randrange(len(content) + 1), rng.choice((4, 64, 1000))
    content[place : place + size] = other[begin : begin + size]


def _digits(content: bytearray, rng: random.Random, originals: Sequence[bytes]) -> None:
    """Make another number of one that is written in digits, as headers and JSON have them."""
    places = [place for place, byte in enumerate(content) if 48 <= byte <= 57]
    if places:
        place = rng.choice(places)
        content[place : place + 1] = rng.choice((b"0", b"9", b"99999999999", b"-1", b"7"))


CHANGES = (_flip, _flip, _overwrite, _insert, _cut, _delete, _repeat, _splice, _digits, _digits)
