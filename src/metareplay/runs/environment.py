"""What a run ran on: versions and machine, kept in its record."""

from __future__ import annotations

import platform
from importlib import metadata


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
