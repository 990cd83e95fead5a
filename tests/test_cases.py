"""Small programs that once went wrong, run as they are where they lie beside the repository: each ends well now."""

import re
import runpy
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


IN_PROCESS = ("05-numpy-options.py", "08-gap-labels.py", "estimators/04-missing-labels-river.py")
"""Those that are about no process of their own: an interpreter costs more than what they do."""


@pytest.mark.slow
@pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases are not on this machine (looked in {CASES})")
@pytest.mark.parametrize("case", RIGHT)
def test_a_case_ends_well(case, here, capfd):
    if case in IN_PROCESS:
        runpy.run_path(str(CASES / case))
    else:
        assert subprocess.run([sys.executable, str(CASES / case)]).returncode == 0
    shown, errors = capfd.readouterr()
    assert re.search(RIGHT[case], shown, re.MULTILINE), shown + errors
    assert "Traceback" not in shown + errors
