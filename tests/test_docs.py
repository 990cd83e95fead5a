"""Every block of code in README and docs runs: page by page, in order, in a fresh folder.

CONTRIBUTING.md ("Code in the docs") says how a block is written.
"""

import contextlib
import doctest
import importlib.util
import re
import runpy
import shlex
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

import metareplay
from metareplay import Trainer, estimators
from metareplay.cli import main, suite
from metareplay.data import catalogue as data
from metareplay.results import groups
from metareplay.runs import conformance, trackers
from metareplay.suites.suite import Suite

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks/README.md", *sorted(ROOT.glob("docs/*.md"))]
RUN = "0123456789abcdef"
"""In the docs, the run that was made last."""
MARK = re.compile(r"#(?:.*[;:,.])? *(needs|takes) (.*)$", re.MULTILINE)
SECONDS = re.compile(r"(\d+|some|a few) seconds")


class Block(NamedTuple):
    line: int
    language: str
    text: str


def blocks(page):
    found, text = [], page.read_text(encoding="utf-8")
    for block in re.finditer(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE):
        lines = (line.removeprefix(block[1]) for line in block[3].splitlines(keepends=True))
        found.append(Block(text.count("\n", 0, block.start(3)), block[2], "".join(lines)))
    return found


def commands(block):
    """Each with its mark; one on a line of its own holds for all of them."""
    lines = [line for line in block.text.replace("\\\n", " ").splitlines() if line.strip()]
    above = next((line for line in lines if line.startswith("#") and MARK.search(line)), "")
    return [f"{line}  {above}".strip() for line in lines if not line.startswith("#")]


class Stopped(BaseException):
    """A command got as far as it is tried."""


class Reader:
    """Does what a page says, in its order, but for what takes minutes."""

    def __init__(self, patch):
        self.patch = patch
        self.names = {"__name__": "__main__"}

    def skips(self, text):
        """Whether a mark says that this cannot be done here, or takes too long."""
        if not (mark := MARK.search(text)):
            return False
        if mark[1] == "takes":
            return not SECONDS.match(mark[2])
        return not all(re.fullmatch(r"\w+", word) and _installed(word) for word in re.split(r",? and |, ", mark[2]))

    def read(self, page, block):
        text = block.text.replace(RUN, newest()) if block.language == "python" else block.text
        first = re.match(r"# ([\w-]+\.(?:py|toml|csv))\b", text)
        if block.language not in ("python", "bash", "toml", "text"):
            pytest.fail(f"the block is {block.language or 'nothing'}, but must be python, bash, toml or text")
        elif first:
            Path(first[1]).write_text(text, encoding="utf-8")
        elif block.language == "toml":
            Path("block.toml").write_text(text, encoding="utf-8")
            if "benchmarks" in tomllib.loads(text):
                Suite.read("block.toml")
        elif block.language == "python":
            code = compile("\n" * block.line + text, page, "exec")
            if not self.skips("\n".join(text.splitlines()[:2])):
                exec(code, self.names)
        elif block.language == "bash":
            for command in commands(block):
                self.type(command.replace(RUN, newest()))

    def type(self, command):
        program, *words = shlex.split(command, comments=True)
        skip = self.skips(command)
        if program == "metareplay" and not re.search("GPU", command):
            with self.arguments_alone() if skip else contextlib.nullcontext():
                assert self.status(words) == 0, command
        elif program == "make":
            targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(re.findall(r"^[a-z]+$", "\n".join(words), re.MULTILINE)) <= set(targets), command
        elif program == "pip":
            extras = re.findall(r"\[(.*?)\]", command)
            there = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            assert set(",".join(extras).split(",")) <= {"", *there}, command
            assert all((ROOT / file).exists() for file in words if file.endswith(".txt")), command
        elif program in ("python", "python3") and not skip:
            self.patch.setattr(sys, "argv", words[1:] if words[0] == "-m" else words)
            with contextlib.suppress(SystemExit):
                runpy.run_module(words[1], run_name="__main__") if words[0] == "-m" else runpy.run_path(
                    words[0], run_name="__main__"
                )
        elif program in ("python", "python3"):
            name = words[1].replace(".", "/") if words[0] == "-m" else words[0]
            places = [ROOT / folder / f"{name}{end}" for folder in ("", "src") for end in ("", ".py")]
            assert any(place.exists() for place in places) or _installed(name), command
        elif program != "metareplay" and not skip:
            pytest.fail(f"a test cannot try {program!r}: say what it needs, as in `{command}  # needs a cluster`")

    @staticmethod
    def status(words):
        try:
            return main(words)
        except SystemExit as left:  # --help
            return int(left.code or 0)
        except Stopped:
            return 0

    @contextlib.contextmanager
    def arguments_alone(self):
        """Let commands check all that they are given, and stop before they fetch data or learn."""

        def stop(*given, **named):
            raise Stopped

        def get(name, *given, **named):
            return here(name, *given, **named) if name == "digits" else stop()

        here = data.get
        with self.patch.context() as patch:
            patch.setattr(data, "get", get)
            patch.setattr(Trainer, "train", stop)
            patch.setattr(suite, "SuiteDisplay", stop)
            patch.setattr(groups, "load", stop)
            patch.setattr(conformance, "check_one", stop)
            patch.setattr(trackers, "find", stop)
            yield


def _installed(name):
    found = importlib.util.find_spec({"pytorch": "torch"}.get(name.lower(), name))
    return found is not None and found.origin is not None  # a folder of runs on the path is no package


def newest():
    runs = [file.parent for file in Path().glob("runs/*/record.json")]
    return max(runs, key=lambda run: (run / "record.json").stat().st_mtime_ns).name if runs else RUN


def marks(page):
    """A page is slow where a block of it takes seconds."""
    takes = (SECONDS.match(mark[2]) for mark in MARK.finditer(page.read_text(encoding="utf-8")))
    return [pytest.mark.slow] if any(takes) else []


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=marks(page), id=page.stem) for page in PAGES if blocks(page)]
)
def test_every_block_of_a_page_runs(page, here, monkeypatch):
    monkeypatch.syspath_prepend(here)
    reader = Reader(monkeypatch)
    for block in blocks(page):
        try:
            reader.read(page, block)
        except (Exception, pytest.fail.Exception) as error:
            error.add_note(f"in the block at {page.relative_to(ROOT)}:{block.line}")
            raise


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_stand_in_blocks_that_are_tried(page):
    outside = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"^    (?:metareplay|python3?|pip|make) [a-z./].*", outside, re.MULTILINE) == []


@pytest.mark.parametrize("notebook", sorted((ROOT / "docs/notebooks").glob("*.py")), ids=lambda path: path.stem)
def test_every_notebook_runs(notebook, here):
    runpy.run_path(str(notebook))


NAMES = re.findall("^::: (.*)", (ROOT / "docs/api.md").read_text(encoding="utf-8"), re.MULTILINE)
WITH_EXAMPLES = sorted(path for path in (ROOT / "src").rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))


def test_every_public_name_and_page_is_found_and_every_module_has_examples():
    methods = {method.__name__ for method in metareplay.METHODS.values()}
    named = {name.rpartition(".")[2] for name in NAMES}
    assert (set(metareplay.__all__) | set(estimators.__all__)) - methods - {"METHODS"} <= named
    modules = {".".join(path.relative_to(ROOT / "src").with_suffix("").parts) for path in WITH_EXAMPLES}
    assert {name.rpartition(".")[0] for name in NAMES} - {"metareplay"} <= modules
    pages = (path.name for path in [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs/notebooks").glob("*.py")])
    named = re.findall(r": (?:notebooks/)?([\w-]+)\.md$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(page.rpartition(".")[0] for page in pages)


@pytest.mark.parametrize("module", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_examples_of_docstrings_run(module, monkeypatch, here):
    """With the lines that the reference begins with, and with what a name's own module has where it is not public."""
    reader = Reader(monkeypatch)
    reader.read(ROOT / "docs/api.md", blocks(ROOT / "docs/api.md")[0])
    name = ".".join(module.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
    if name.endswith("river"):
        pytest.importorskip("river")
    there, runner = import_module(name), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in doctest.DocTestFinder(exclude_empty=False).find(there):
        public = test.name in NAMES or test.name.rpartition(".")[0] in NAMES
        assert test.examples or test.name not in NAMES, f"{test.name} has no example"
        test.globs = dict(reader.names) if public else vars(there) | reader.names
        if not any(reader.skips(example.source) for example in test.examples):
            runner.run(test)
    assert not runner.failures
    if not runner.tries:
        pytest.skip("what its examples need is not installed")


def without_code(page, code=r"```.*?```|`[^`]*`"):
    return re.sub(code, "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.stem)
def test_every_link_of_a_page_leads_somewhere(page):
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", without_code(page)):
        target = page.parent / link if link else page
        made = target.parent.name == "notebooks" and target.with_suffix(".py").exists()
        assert made or target.exists(), f"{page.name}: {link}"
        headings = re.findall(r"^#+ (.*)", without_code(target, "```.*?```"), re.MULTILINE) if anchor else []
        places = {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower())) for heading in headings}
        assert anchor in {"", *places}, f"{page.name}: {link}#{anchor}"
