"""Pickles from elsewhere, read without running anything that is in them.

A pickle is a program: it may name any function of any module and call it. What numbers, texts, lists, dictionaries and
arrays need is a small part of that language. Here it is read in two passes: the first goes through the program without
carrying it out and refuses whatever that part does not have; the second carries it out with functions of ours in the
place of NumPy's, which can do nothing but make arrays out of bytes that are in the file.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.data.download import Unusable

PLAIN = """
    PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT
    BINSTRING SHORT_BINSTRING BINUNICODE EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 BINPUT LONG_BINPUT BINGET LONG_BINGET GLOBAL REDUCE BUILD
""".split()  # noqa: SIM905 – a list would take 30 lines
"""The instructions that such a pickle has in protocol 2, in which Python 2 wrote the official files."""


def loads(content: bytes) -> Any:
    """The object in a pickle of plain values and arrays of uint8. What Python 2 wrote as text is bytes.

    Raises
    ------
    Unusable
        If it is damaged, or asks for anything else; nothing of it has then been run.
    """
    try:
        _check(content)
        return _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except Unusable:
        raise
    except Exception as error:  # a malformed program may fail in any way
        raise Unusable(f"it is no pickle, or a damaged one ({type(error).__name__})") from error


def _check(content: bytes) -> None:
    """Go through all instructions, carrying out none."""
    for number, (instruction, argument, _) in enumerate(pickletools.genops(content)):
        if instruction.name not in PLAIN:
            raise Unusable(f"it is a pickle that does more than hold values and arrays ({instruction.name})")
        if instruction.name == "GLOBAL":
            _stand_in(*str(argument).split(" ", 1))
        if instruction.name == "LONG_BINPUT" and int(argument or 0) > number:
            raise Unusable("it is a pickle that asks for more memory than it has values")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _stand_in(module, name)


class _StandIn:
    """What a pickle gets instead of a function of NumPy's; it cannot be changed, nor anything reached through it."""

    __slots__ = ()

    def __call__(self, *arguments: Any) -> Any:
        raise Unusable("it is a pickle that calls what it should only name")

    def __setstate__(self, state: Any) -> None:
        raise Unusable("it is a pickle that changes what it should only use")


class _Kind(_StandIn):
    """``numpy.ndarray``: only ever named."""

    __slots__ = ()


class _Reconstruct(_StandIn):
    """``numpy.core.multiarray._reconstruct``: an array that has no values yet."""

    __slots__ = ()

    def __call__(self, *arguments: Any) -> _Array:
        return _Array()


class _MakeType(_StandIn):
    """``numpy.dtype``."""

    __slots__ = ()

    def __call__(self, *arguments: Any) -> _Type:
        if not arguments or arguments[0] not in (b"u1", "u1", b"|u1", "|u1"):
            raise Unusable("it is a pickle with an array of something else than bytes")
        return _Type()


class _Encode(_StandIn):
    """``_codecs.encode``: how Python 3 writes bytes in protocol 2."""

    __slots__ = ()

    def __call__(self, *arguments: Any) -> bytes:
        text, encoding = arguments
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise Unusable("it is a pickle with text in an encoding that arrays do not have")
        return text.encode("latin1")


class _Type:
    """The type uint8; what else is said of it (byte order, alignment) makes no difference to single bytes."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _Array:
    """An array while it is read; ``values`` once it has been."""

    __slots__ = ("values",)

    values: NDArray[np.uint8]

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, content = state
        if not isinstance(kind, _Type) or not isinstance(content, bytes) or type(shape) is not tuple:
            raise Unusable("it is a pickle with an array of something else than bytes")
        if not all(type(length) is int and length >= 0 for length in shape) or math.prod(shape) != len(content):
            raise Unusable(f"it is a pickle with an array of {len(content)} bytes that claims the shape {shape}")
        self.values = np.frombuffer(content, np.uint8).reshape(shape, order="F" if by_columns else "C")


_STAND_INS: dict[tuple[str, str], _StandIn] = {
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy", "ndarray"): _Kind(),
    ("numpy", "dtype"): _MakeType(),
    ("_codecs", "encode"): _Encode(),
}


def _stand_in(module: str, name: str = "") -> _StandIn:
    try:
        return _STAND_INS[module, name]
    except KeyError:
        raise Unusable(f"it is a pickle that would run {module}.{name}, which no array needs") from None


def array(value: Any) -> NDArray[np.uint8]:
    """The array that was read at this place.

    Raises
    ------
    Unusable
        If it is none.
    """
    if not isinstance(value, _Array) or not hasattr(value, "values"):
        raise Unusable("it is a pickle without an array where one should be")
    return value.values
