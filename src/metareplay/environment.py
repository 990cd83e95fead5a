"""What a run ran on: versions and machine, kept in its record."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

import llvmlite.binding


def environment() -> dict[str, str]:
    """Versions of what computes, and the kind of machine."""
    computing = ["metareplay", "numpy", "numba", *(["torch"] if "torch" in sys.modules else [])]
    versions = {name: metadata.version(name) for name in computing}
    return {
        **versions,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": llvmlite.binding.get_host_cpu_name(),
        "host": platform.node(),
    }
