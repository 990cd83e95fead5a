"""How long a run takes, and for what."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Clock:
    """The seconds that a run takes for learning, for predicting, and while Numba compiles, which is in no other."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("train_seconds", "eval_seconds", "compile_seconds"), 0.0)
        self._compiling: Any = None  # a listener of Numba's
        self._begin = 0.0

    def now(self) -> float:
        """Seconds since some moment, standing still while Numba compiles."""
        return time.perf_counter() - self._compiled()

    def start(self) -> None:
        """Begin something that takes time."""
        self._begin = self.now()

    def spent(self, purpose: str) -> None:
        """Count the time since the last call of this or of ``start``."""
        begin, self._begin = self._begin, self.now()
        self.seconds[purpose] += self._begin - begin

    def state(self) -> dict[str, Any]:
        """All seconds so far; loading what was compiled before is quick, and counts as learning."""
        return self.seconds | {"compile_seconds": self.seconds["compile_seconds"] + self._compiled()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state()``; ValueError if it has no times."""
        for name in self.seconds:
            if not isinstance(state[name], float) or not 0 <= state[name] < math.inf:
                raise ValueError(f"{state[name]!r} is no time")
            self.seconds[name] = state[name]

    def _compiled(self) -> float:
        return float(self._compiling.duration) if self._compiling and self._compiling.done else 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Heed what is compiled from here to the end of the block."""
        from numba.core import event

        self._compiling = self._compiling or event.TimingListener()
        with event.install_listener("numba:compile", self._compiling):
            yield
