"""Small programs that once went wrong, run as they are where they lie beside the repository: each ends well now."""

import contextlib
import io
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from metareplay.cli import main

CASES = Path(__file__).parents[2] / "shared" / "cases"
RIGHT = {
    "01-stale-helper.py": r"^right$",
    "05-numpy-options.py": r"task_order=np.array\(\[1, 0\]\): [\d.]+\nhidden=100: [0-9a-f]{16}\n",
    "06-bom.py": r"CRLF: status 0: .*\nUTF-8 with BOM: status 0: .*\nUTF-16: status 2: metareplay: the suite",
    "08-gap-labels.py": r"labels \[100000, 100001, 100002\]: 3 outputs",
    "09-output-encoding.py": r"run status 0 right\nresults status 0 right\nmethods status 0 right",
    "12-strided-pt.py": r"^right$",
    "estimators/04-missing-labels-river.py": r"outputs of the network: 2 .*\nanswers that are NaN: 0 of 300",
}
"""What each says, the right value in it; some say WRONG in their last line whatever they have found."""


PROCESSES = ("01-stale-helper.py", "09-output-encoding.py")
"""Those that are about processes; the others run in this one, and so do their commands: starting costs the most."""


def at_once(command, run=subprocess.run, **options):
    if command[1:3] != ["-m", "metareplay"]:
        return run(command, **options)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = main(command[3:])
    return subprocess.CompletedProcess(command, status, out.getvalue(), "")


@pytest.mark.slow
@pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases are not on this machine (looked in {CASES})")
@pytest.mark.parametrize("case", RIGHT)
def test_a_case_ends_well(case, here, monkeypatch, capfd):
    if case in PROCESSES:
        assert subprocess.run([sys.executable, str(CASES / case)]).returncode == 0
    else:
        monkeypatch.setattr(subprocess, "run", at_once)
        runpy.run_path(str(CASES / case))
    shown, errors = capfd.readouterr()
    assert re.search(RIGHT[case], shown, re.MULTILINE), shown + errors
    assert "Traceback" not in shown + errors
