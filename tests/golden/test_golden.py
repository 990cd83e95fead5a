"""Numbers and output are what they were when ``make.py`` wrote them down.

On the kind of processor that they were written down on, all must be the same, bit for bit. On another one the last bits
of floating-point numbers differ, and training makes more of that: there, what is counted need only be close, and of the
texts only the words are compared. How often is evaluated, and the steps taken, are the same everywhere.
"""

import json
from pathlib import Path

import make
import numpy as np
import pytest

WRITTEN = json.loads(make.INDEX.read_text())
SAME_PROCESSOR = make.processor() == WRITTEN["processor"]
TOLERANCE = 0.05  # of the test examples of a task, or of the examples learned; on another kind of processor


@pytest.fixture(scope="module", autouse=True)
def _elsewhere(tmp_path_factory):
    with make.elsewhere(tmp_path_factory.mktemp("golden")):
        yield


@pytest.fixture(scope="module")
def mnist():
    source = make.mnist()
    if source is None:
        pytest.skip("real MNIST is not on this machine")
    make.said("data", "get", "mnist", "--from", str(source))


@pytest.fixture(scope="module")
def runs():
    make.runs()


@pytest.fixture(scope="module")
def written():
    with np.load(make.NUMBERS) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("method", make.METHODS)
@pytest.mark.parametrize("benchmark", list(make.TASKS))
def test_the_numbers(benchmark, method, written, tmp_path, request):
    if benchmark.startswith("mnist"):
        request.getfixturevalue("mnist")
    case = f"{benchmark} {method}"
    before = WRITTEN["cases"][case]
    chosen = make.hyperparameters(benchmark, method, tmp_path)
    assert chosen | before["hyperparameters"] == chosen  # settings that came later have defaults that change nothing
    now = make.record(benchmark, method, before["hyperparameters"])
    assert now.steps == before["steps"]
    np.testing.assert_array_equal(now.evaluated_at, written[f"{case} evaluated_at"])
    correct = written[f"{case} correct"]
    right = np.unpackbits(written[f"{case} predicted_right"], count=make.SAMPLES * make.TASKS[benchmark]).astype(bool)
    assert now.correct.shape == correct.shape
    assert now.predicted_right.shape == right.shape
    if SAME_PROCESSOR:
        np.testing.assert_array_equal(now.correct, correct)
        np.testing.assert_array_equal(now.predicted_right, right)
    else:
        assert np.abs(now.correct - correct).max() <= TOLERANCE * now.test_sizes.max()
        assert (now.predicted_right != right).mean() <= TOLERANCE


def same_text(now, name):
    before = (make.HERE / name).read_text()
    if SAME_PROCESSOR:
        assert now == before
    else:
        assert make.shape(now) == make.shape(before)


@pytest.mark.usefixtures("runs")
def test_what_the_commands_print():
    for name in make.TEXTS:  # in this order: one shows what another has run
        same_text(make.text(name), name)


@pytest.mark.parametrize("name", list(make.ORIGINALS))
def test_what_the_originals_command_prints(name):
    pytest.importorskip("torch")
    make.own_task_list(Path("data/own.pt"))
    same_text(make.original(name), name)
