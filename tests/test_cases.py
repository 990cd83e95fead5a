"""Small programs that once went wrong, run as they are where they lie beside the repository: each ends well now."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.slow
@pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases are not on this machine (looked in {CASES})")
@pytest.mark.parametrize("case", RIGHT)
def test_a_case_ends_well(case: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(CASES / case)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(RIGHT[case], done.stdout, re.MULTILINE), done.stdout
    assert "Traceback" not in done.stdout + done.stderr
