"""What a run costs, and what it ran on."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numba.core.event import TimingListener


class Clock:
    """What a run costs, in seconds; learning and predicting without the time in which Numba compiles."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("train_seconds", "eval_seconds", "compile_seconds"), 0.0)
        self._compiling: TimingListener | None = None
        self._begin = 0.0

    def now(self) -> float:
        """Seconds since some moment, standing still while Numba compiles."""
        return time.perf_counter() - self._compiled()

    def start(self) -> None:
        """Begin something that takes time."""
        self._begin = self.now()

    def spent(self, purpose: str) -> None:
        """Count the time since the last call of this or of ``start``."""
        now = self.now()
        self.seconds[purpose] += now - self._begin
        self._begin = now

    def state(self) -> dict[str, Any]:
        """All seconds so far; loading what was compiled before is quick, and counts as learning."""
        return self.seconds | {"compile_seconds": self.seconds["compile_seconds"] + self._compiled()}

    def _compiled(self) -> float:
        return float(self._compiling.duration) if self._compiling and self._compiling.done else 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Heed what is compiled from here to the end of the block."""
        from numba.core import event

        self._compiling = self._compiling or event.TimingListener()
        with event.install_listener("numba:compile", self._compiling):
            yield


def environment(*computing: str) -> dict[str, str]:
    """Versions of what computes, other packages by name too, and the kind of machine."""
    import llvmlite.binding

    versions = {name: metadata.version(name) for name in ("metareplay", "numpy", "numba", *computing)}
    return {
        **versions,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": llvmlite.binding.get_host_cpu_name(),
        "host": platform.node(),
    }
