"""Damaged suite files: each is read, or refused in words."""

from importlib.resources import files

from fuzz.mutate import survivors
from metareplay.errors import BadInput
from metareplay.suites.suite import Suite

WHOLE = """\ufeffname = "a study"
seeds = [0, 2]
benchmarks = ["digits-permutations", { name = "digits-rotations", tasks = [2, 3] }]
run = { hiddens = 10, order = ["tasks", "iid"] }
[methods]
online = {}
"eralg4" = { memories = [20, 30], lr = 0.1 }
[[exclude]]
method = 'eralg4' # and
memories = 30
[[include]]
benchmark = "digits-split"
method = ["ewc", "gem"]
"""


def test_a_damaged_suite_file_is_read_or_refused_in_words(tmp_path):
    file = tmp_path / "study.toml"

    def read(content):
        file.write_bytes(content)
        try:
            Suite.read(file)
        except BadInput as error:  # several mistakes are several lines, of which each is one
            raise BadInput(str(error).replace("\n  line", " line").replace("\n  it", " it")) from None

    originals = [WHOLE.encode(), (files("metareplay.suites") / "digits.toml").read_bytes()]
    assert survivors(read, originals, (BadInput,)) > 0
