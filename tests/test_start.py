"""What is imported when the package is, and by the commands that compute nothing."""

import subprocess
import sys

import pytest

import metareplay

SLOW = {"numba", "scipy", "sklearn", "torch"}


def imported(code):
    """The modules that a fresh interpreter has imported after some code."""
    code += "\nimport sys; print('imported', *sys.modules)"
    end = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    return set(end[-1].split())


def test_importing_the_package_imports_none_of_what_it_stands_on():
    assert not imported("import metareplay") & (SLOW | {"numpy"})


@pytest.mark.parametrize(
    "command",
    ["methods", "results", "benchmarks", "run digits-rotations nosuch", "run digits-rotations meralg1 --lr x"],
)
def test_commands_that_compute_nothing_import_nothing_that_is_slow(command):
    assert not imported(f"from metareplay.cli import main\nmain({command.split()})") & SLOW


def test_the_help_needs_no_numpy():
    assert "numpy" not in imported("from metareplay.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass")


def test_what_one_process_has_compiled_no_other_compiles_again():
    run = """
stream = metareplay.benchmark("digits-rotations", tasks=2, samples_per_task=9)
for name in ("l2init", "upgd", "gem"):
    metareplay.run(stream, metareplay.METHODS[name]())
"""
    exec(run, {"metareplay": metareplay})
    code = f"""
import gc, metareplay
from numba.core.dispatcher import Dispatcher
{run}
print("compiled", *(o.__qualname__ for o in gc.get_objects() if isinstance(o, Dispatcher) and o.stats.cache_misses))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "compiled\n"


def test_every_name_of_the_package_is_there():
    for name in metareplay.__all__:
        assert getattr(metareplay, name).__name__ == name if name != "METHODS" else metareplay.METHODS
    assert set(metareplay.__all__) <= set(dir(metareplay))


def test_another_name_is_refused_as_in_any_module():
    name = "nosuch"
    with pytest.raises(AttributeError, match="module 'metareplay' has no attribute 'nosuch'"):
        getattr(metareplay, name)
