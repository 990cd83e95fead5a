"""What is imported at the start, how to install is said truly, and the version is one."""

import re
import tomllib
from pathlib import Path

import pytest

import metareplay
from commands import python
from metareplay.cli import main
from metareplay.errors import INSTALL

SLOW = {"numba", "scipy", "sklearn", "torch"}


def imported(code):
    code += "\nimport sys; print('imported', *sys.modules)"
    return set(python(code).stdout.splitlines()[-1].split())


def test_importing_the_package_imports_none_of_what_it_stands_on():
    assert not imported("import metareplay") & (SLOW | {"numpy"})


def test_commands_that_compute_nothing_import_nothing_that_is_slow():
    code = "from metareplay.cli import main\n"
    commands = "methods", "results", "benchmarks", "run digits-rotations nosuch", "run digits-rotations meralg1 --lr x"
    assert not imported(code + "".join(f"main({command.split()})\n" for command in commands)) & SLOW


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
    assert python(code).stdout == "compiled\n"


def test_every_name_of_the_package_is_there_and_another_is_refused_as_in_any_module():
    for name in metareplay.__all__:
        assert getattr(metareplay, name).__name__ == name if name != "METHODS" else metareplay.METHODS
    assert set(metareplay.__all__) <= set(dir(metareplay))
    name = "nosuch"
    with pytest.raises(AttributeError, match="module 'metareplay' has no attribute 'nosuch'"):
        getattr(metareplay, name)


ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TEXTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "src").rglob("*.py")]


def test_every_extra_that_a_message_names_is_there():
    named = {name for text in TEXTS for name in re.findall(r"INSTALL\.format\(['\"](\w+)['\"]\)", text.read_text())}
    assert {"torch", "ray", "river", "report"} <= named <= EXTRAS.keys()


@pytest.mark.parametrize(
    "text", [text for text in TEXTS if "pip install" in text.read_text()], ids=lambda path: path.name
)
def test_nobody_is_told_to_install_a_name_that_is_not_on_the_package_index(text):
    """The page on releases says what will be written one day."""
    if "metareplay[" not in INSTALL and text.name != "releasing.md":
        assert not re.search(r"pip install\s+['\"]?metareplay\b(?!-)", text.read_text())


def test_the_version_is_one(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"metareplay {metareplay.__version__}\n"
    assert f"\nversion: {metareplay.__version__}\n" in (ROOT / "CITATION.cff").read_text()
