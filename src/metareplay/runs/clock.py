"""A clock for what a run costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numba.core.event import TimingListener


class Clock:
    """Seconds, standing still while Numba compiles: a machine's first run is then not taken for a slow one."""

    def __init__(self) -> None:
        self._compiling: TimingListener | None = None

    def __call__(self) -> float:
        return time.perf_counter() - self.compile_seconds

    @property
    def compile_seconds(self) -> float:
        """Seconds spent compiling; loading what was compiled before is quick, and not counted."""
        return float(self._compiling.duration) if self._compiling and self._compiling.done else 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Heed what is compiled from here to the end of the block."""
        from numba.core import event

        self._compiling = self._compiling or event.TimingListener()
        with event.install_listener("numba:compile", self._compiling):
            yield
