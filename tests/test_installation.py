"""How to install is said truly, and the version is one."""

import re
import tomllib
from pathlib import Path

import pytest

import metareplay
from metareplay.cli import main
from metareplay.errors import INSTALL

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
