"""Files, settings and a user's code: written whole, declared once, and hashed as they are loaded."""

import errno
import fcntl
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from commands import python
from metareplay import METHODS, BadInput, RunFailed, files, setting, user_code
from metareplay.settings import Hyperparameter, Range, hyperparameters, nearest
from metareplay.streams.catalogue import BENCHMARKS


def mode(path):
    return path.stat().st_mode & 0o777


WRITERS = {"small": lambda path: files.write_atomically(path, b"new"), "large": lambda path: large(path)}


def large(path):
    with files.placed(path, 3) as (file, _):
        file.write(b"new")


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_mode_that_the_umask_leaves_and_an_old_one_keeps_its_own(tmp_path, write, umask):
    (tmp_path / "private").touch(0o600)
    (tmp_path / "shared").touch()
    (tmp_path / "shared").chmod(0o664)
    before = os.umask(umask)
    try:
        for name in ("new", "private", "shared"):
            WRITERS[write](tmp_path / name)
    finally:
        os.umask(before)
    assert [mode(tmp_path / name) for name in ("new", "private", "shared")] == [0o666 & ~umask, 0o600, 0o664]
    assert sorted(os.listdir(tmp_path)) == ["new", "private", "shared"]
    assert all(path.read_bytes() == b"new" for path in tmp_path.iterdir())


def test_a_link_is_followed_or_replaced_as_asked(tmp_path):
    (tmp_path / "far").write_bytes(b"old")
    (tmp_path / "link").symlink_to("far")
    files.write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far").read_bytes() == b"new"
    files.write_atomically(tmp_path / "link", b"newer", follow=False)
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "far").read_bytes() == b"new"


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    files.write_atomically(tmp_path / "pipe", b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    reader, writer = os.pipe()
    files.write_atomically(Path(f"/dev/fd/{writer}"), b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    os.close(writer)


def test_only_regular_files_are_read_and_a_very_long_name_can_be_written(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "device", "folder"):
        with pytest.raises(OSError, match="not a regular file"):
            files.read_regular(tmp_path / name)
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert files.read_regular(tmp_path / "link") == b"content"
    files.write_atomically(tmp_path / ("ü" * 127), b"new")
    assert files.read_regular(tmp_path / ("ü" * 127)) == b"new"


@pytest.fixture(
    params=[None, errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP], ids=["flock", "ENOSYS", "ENOLCK", "ENOTSUP"]
)
def flock(request, monkeypatch):
    """File systems with and without flock."""

    def missing(*arguments):
        raise OSError(request.param, os.strerror(request.param))

    if request.param:
        monkeypatch.setattr(fcntl, "flock", missing)
    return request.param


def test_a_lock_is_held_by_one_and_free_afterwards(tmp_path, flock):
    lock = tmp_path / ".lock"
    assert files.holder(lock) is None
    for _ in range(3):
        with files.locked(lock, patience=0):
            me = f"process {os.getpid()} on {os.uname().nodename}"
            assert files.holder(lock) == me
            with (
                pytest.raises(files.Held, match=f"the run is held by {me}: wait") as held,
                files.locked(lock, 0, "the run"),
            ):
                pass
            assert isinstance(held.value, RunFailed)
            assert held.value.holder == me
        assert files.holder(lock) is None
    assert len(os.listdir(tmp_path)) <= 2  # no litter


def test_what_a_killed_process_held_is_taken_over_and_a_waiter_is_told_who_holds_it(
    tmp_path, flock, monkeypatch, capsys
):
    lock = tmp_path / ".lock"
    lock.touch()  # as every lock of ordinary file systems leaves it
    text = (
        "import fcntl, os, sys\nfrom pathlib import Path\nfrom metareplay import files\n"
        "def missing(*_): raise OSError(int(sys.argv[2]), 'none')\n"
        "if sys.argv[2] != 'None': fcntl.flock = missing\n"
        "with files.locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", text, str(lock), str(flock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        clock = iter(range(0, 1000))
        monkeypatch.setattr(files.time, "monotonic", lambda: float(next(clock)))
        monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
        with pytest.raises(files.Held), files.locked(lock, 10, "the data"):
            pass
        waiting = f"metareplay: waiting for the data, which is held by process {other.pid} on {os.uname().nodename}\n"
        assert capsys.readouterr().err == waiting
        other.kill()
        other.wait()
    with files.locked(lock, patience=0):
        assert files.holder(lock) is not None


def test_a_holder_on_another_machine_counts_as_living(tmp_path, monkeypatch):
    def missing(*arguments):
        raise OSError(errno.ENOSYS, "none")

    monkeypatch.setattr(fcntl, "flock", missing)
    (tmp_path / ".lock").touch()
    (tmp_path / ".lock.7").symlink_to("1@elsewhere@123")
    with pytest.raises(files.Held, match="process 1 on elsewhere"), files.locked(tmp_path / ".lock", 0):
        pass
    (tmp_path / ".lock.8").symlink_to(f"{os.getpid()}@{os.uname().nodename}@1")  # its number belongs to a later one
    with files.locked(tmp_path / ".lock", 0):
        pass


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / ".lock").symlink_to("precious")
    with pytest.raises(OSError, match="symbolic links"), files.locked(tmp_path / ".lock"):
        pass
    assert (tmp_path / "precious").read_bytes() == b"precious"


@dataclass
class Rule:
    kind: str = setting("sgd", ("sgd", "adamw"), help="the rule")
    decay: float | None = setting(None, "[0, 1)", help="the decay")
    steps: int = setting(3, "[1, inf)", help="the steps")


def rule(kind: str = setting("sgd", ("sgd", "adamw"), help="the rule"), other: int = 3) -> None: ...


def named(name: str) -> Hyperparameter:
    return next(parameter for parameter in hyperparameters(Rule) if parameter.name == name)


def test_a_function_declares_settings_as_a_dataclass_does():
    assert hyperparameters(rule) == hyperparameters(Rule)[:1]
    assert [parameter.range for parameter in hyperparameters(Rule)] == ["sgd, adamw", "[0, 1) or none", "[1, inf)"]


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [("kind", "adamw", "adamw"), ("decay", None, None), ("decay", "none", None), ("decay", 0, 0.0), ("steps", 7, 7)],
)
def test_what_fits_is_taken_as_its_type(name, given, read):
    assert named(name).check(given) == read
    assert type(named(name).check(given)) is type(read)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("kind", "ADAMW", r"kind is 'ADAMW', but must be one of sgd, adamw; did you mean adamw\?"),
        ("kind", 3, "kind is 3, but must be str"),
        ("decay", 1.0, r"must lie in \[0, 1\)"),
        pytest.param("decay", 10**5000, r"decay is inf", id="huge"),
        pytest.param("steps", -(10**5000), r"is a number of about 5000 digits, but must lie in \[1, inf\)", id="whole"),
        ("steps", "x" * 5000, r"^.{0,250}$"),
    ],
)
def test_what_does_not_fit_is_said_in_a_short_line(name, given, message):
    with pytest.raises(BadInput, match=message):
        named(name).check(given)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("MERALG1", "meralg1"),
        ("meralg", "meralg1"),
        ("rotations", "mnist-rotations"),
        ("mnist_permutations", "mnist-permutations"),
        ("zzzz", None),
        ("", None),
    ],
)
def test_the_name_that_was_probably_meant(word, meant):
    for name in (*METHODS, *BENCHMARKS):
        assert nearest(name.upper(), (*METHODS, *BENCHMARKS)) == f"; did you mean {name}?"
    assert nearest(word, ["meralg1", "online", "mnist-rotations", "mnist-permutations"]) == (
        f"; did you mean {meant}?" if meant else ""
    )


def test_where_a_search_looks_is_where_a_setting_may_be():
    for name, method in METHODS.items():
        for declared in hyperparameters(method):
            search = declared.search
            ends = search[:2] if isinstance(search, Range) else search
            assert [declared.check(end) for end in ends] == list(ends), f"{name}: {declared.name}"
            if isinstance(search, Range):
                assert search.low < search.high
                assert search.scale == "linear" or (search.scale == "log" and search.low > 0)
        found = {declared.name: declared.search for declared in hyperparameters(method)}
        assert found.get("lr", True), f"{name}: `metareplay tune` needs to know where to look for lr"


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "mine.py"


def load(file):
    return user_code.load(f"{file}:rate", "a rate")()


HELPED = {
    "mine.py": "from factor import factor\ndef rate(): return factor()\n",
    "factor.py": "def factor(): return 1.0\n",
}
WAYS = {
    "at the top": HELPED,
    "in a function": HELPED | {"mine.py": "def rate():\n    import factor\n    return factor.factor()\n"},
    "by another module": HELPED
    | {"mine.py": "import steps\ndef rate(): return steps.rate()\n", "steps.py": HELPED["mine.py"]},
    "in a package": {
        "mine.py": "import pack.factor as f\ndef rate(): return f.factor()\n",
        "pack/__init__.py": "",
        "pack/factor.py": HELPED["factor.py"],
    },
    "by a name of its own package": {
        "mine.py": "from pack import rate\n",
        "pack/__init__.py": "from .inner import rate\n",
        "pack/inner.py": "from . import factor as f\ndef rate(): return f.factor()\n",
        "pack/factor.py": HELPED["factor.py"],
    },
    "in a folder without __init__": {
        "mine.py": "from parts.factor import factor\ndef rate(): return factor()\n",
        "parts/factor.py": HELPED["factor.py"],
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_a_changed_helper_is_loaded_anew_and_changes_the_hash_even_within_a_second_and_with_as_many_bytes(
    tmp_path, way
):
    file = write(tmp_path, WAYS[way])
    first, before = user_code.load(f"{file}:rate", "a rate"), os.listdir(tmp_path)
    told = user_code.sources(first)
    helper = next(name for name in WAYS[way] if name.endswith("factor.py"))
    assert set(told) >= {"mine.py", helper} or way == "by a name of its own package"
    assert helper in user_code.sources(f"{file}:rate")
    (tmp_path / helper).write_text("def factor(): return 9.0\n")
    assert user_code.sources(first) == told  # what is loaded does not change any more
    assert first() == 1.0  # nor does what it does, also if it imports when it is called
    assert load(file) == 9.0
    assert user_code.sources(f"{file}:rate") != told
    assert os.listdir(tmp_path) == before  # no __pycache__ in a user's folder


def test_two_files_have_each_their_own_helper_of_one_name_and_one_may_import_the_file_that_imports_it(tmp_path):
    one = write(tmp_path / "one", WAYS["in a function"])
    two = write(tmp_path / "two", WAYS["in a function"] | {"factor.py": "def factor(): return 2.0\n"})
    first, second = (user_code.load(f"{file}:rate", "a rate") for file in (one, two))
    assert [first(), second(), first()] == [1.0, 2.0, 1.0]
    assert "factor" not in sys.modules
    file = write(tmp_path, {"mine.py": "import helper\nX = 4.0\ndef rate(): return helper.x()\n"})
    write(tmp_path, {"helper.py": "def x():\n    import mine\n    return mine.X\n"})
    assert load(file) == 4.0


def test_a_file_named_as_a_module_of_the_standard_library_or_an_installed_package_harms_nobody(tmp_path):
    file = write(tmp_path, {"mine.py": "import random, numpy\ndef rate(): return random.Random(0).random()\n"})
    write(tmp_path, {"random.py": "raise ValueError\n", "numpy/notes.txt": ""})
    assert 0 < load(file) < 1
    assert user_code.sources(f"{file}:rate").keys() == {"mine.py"}  # and installed packages are not hashed


def test_modules_from_elsewhere_count_as_well_and_all_together_load_in_another_folder(tmp_path):
    file = write(tmp_path / "here", HELPED)
    (tmp_path / "there").mkdir()
    (tmp_path / "here" / "factor.py").rename(tmp_path / "there" / "factor.py")
    text = (
        "import sys; from pathlib import Path; from metareplay import user_code\n"
        "for name, content in user_code.contents(Path(sys.argv[1])).items():\n"
        "    (Path(sys.argv[2]) / name).write_bytes(content)"
    )
    python(text, file, tmp_path, env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "there"), *sys.path])})
    assert load(tmp_path / "mine.py") == 1.0
    assert user_code.sources(f"{tmp_path}/mine.py:rate").keys() == {"mine.py", "factor.py"}


def test_a_helper_that_fails_is_one_line(tmp_path):
    file = write(tmp_path, HELPED | {"factor.py": "def factor(: pass\n"})
    with pytest.raises(BadInput, match=r"cannot be loaded: line 1: SyntaxError: .*factor\.py"):
        load(file)
    (tmp_path / "factor.py").unlink()
    with pytest.raises(BadInput, match=r"line 1: ModuleNotFoundError: No module named 'factor'"):
        load(file)
    (tmp_path / "factor.py").write_text("def factor(): return 3.0\n")
    assert load(file) == 3.0


def test_what_is_typed_in_counts_with_its_text_and_with_what_it_uses():
    def hashed(rate, helper):
        space = {"__name__": "__main__"}
        exec(
            f"LR = {rate}\ndef helper(): return {helper}\nclass Mine:\n  def observe(self): return LR * helper()", space
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.modules["__main__"], "__file__", None, raising=False)
            return user_code.sources(space["Mine"])

    assert hashed("1", "2") == hashed("1", "2")
    assert len({tuple(hashed(*given).values()) for given in (("1", "2"), ("3", "2"), ("1", "4"))}) == 3
