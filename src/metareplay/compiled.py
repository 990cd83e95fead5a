"""Compiling with Numba, the same way everywhere."""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call, to run without Python's lock, and keep the machine code on disk.

    What compiled code calls belongs into the same file: the cache does not notice a change in another one.
    """
    try:
        return njit(cache=True, nogil=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # neither beside the file nor in the user's cache folder: a read-only installation
        return njit(nogil=True)(function)  # type: ignore[no-any-return]
