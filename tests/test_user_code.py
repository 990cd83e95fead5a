"""A user's FILE.py:NAME, with the modules beside it: what is loaded is what is hashed."""

import os
import sys

import pytest

from commands import python
from metareplay import BadInput, user_code


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "mine.py"


def load(file):
    value = user_code.load(f"{file}:rate", "a rate")()
    return value


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


def test_two_files_have_each_their_own_helper_of_one_name(tmp_path):
    one = write(tmp_path / "one", WAYS["in a function"])
    two = write(tmp_path / "two", WAYS["in a function"] | {"factor.py": "def factor(): return 2.0\n"})
    first, second = (user_code.load(f"{file}:rate", "a rate") for file in (one, two))
    assert [first(), second(), first()] == [1.0, 2.0, 1.0]
    assert "factor" not in sys.modules


def test_a_helper_may_import_the_file_that_imports_it(tmp_path):
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


def test_metareplays_own_classes_have_no_sources_of_the_users():
    from metareplay import Online

    assert user_code.sources(Online) == {}
