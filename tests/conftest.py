"""What all tests share."""

import contextlib
import fcntl
import importlib.util
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from metareplay import BaseImages, Images
from mirrors import Mirror

SHARED_MNIST = Path(__file__).parents[2] / "shared" / "data" / "mnist"
SHARED_OMNIGLOT = Path(__file__).parents[2] / "shared" / "data" / "omniglot"

# Compiling the first time takes seconds, which is no fault of an example. In CI the same examples are tried every time.
hypothesis.settings.register_profile(
    "metareplay", deadline=None, max_examples=50, derandomize=bool(os.environ.get("CI"))
)
hypothesis.settings.load_profile("metareplay")


@pytest.fixture(scope="session", autouse=True)
def _no_real_data_folder(tmp_path_factory):
    """Keep every test, and every command that one starts, away from the user's own data folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAREPLAY_DATA", str(tmp_path_factory.mktemp("no-data")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _compiled_together(tmp_path_factory):
    """Of processes that test together each compiles some of what runs need, and loads the others' from the disk."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    from metareplay.learners.fused import FusedPerceptron
    from metareplay.methods.nonnegative_least_squares import nonnegative_least_squares
    from metareplay.networks import Perceptron

    rng = np.random.default_rng(0)
    learner, rows = FusedPerceptron(Perceptron((8, 64, 3)), 4, 2, rng), np.arange(2)
    x, y = rng.random((4, 8), np.float32), np.arange(4) % 3
    uses: list[Callable[[], object]] = [
        lambda: learner.reptile(rows[None], 0.1, 0.5),
        lambda: learner.predict_and_learn(x, y, 0, 0.1),
        lambda: [learner.gradients([np.zeros(200, int)]) for _ in range(3)],  # what is asked again is sorted
        lambda: learner.look_ahead(rows, rows, learner.parameters()),
        lambda: learner.copy(0, 3),
        lambda: learner.sgd(rows, 0.1, loss=lambda z, _: z),
        lambda: learner.scores(Images(BaseImages((255 * x).astype(np.uint8)), y, np.arange(8, dtype=np.int32)), 0),
        lambda: learner.noise(rng),
        lambda: learner.forward(rows),
        lambda: learner.sgd(rows, 0.1),
        lambda: learner.dots(rows, [rows]),
        lambda: learner.sgd_each(rows, 0.1),
        lambda: learner.predict_and_learn(x, y, 0, 0.1, 0.1),
        lambda: nonnegative_least_squares(np.eye(2), np.ones(2), 1e-7),
        learner.weight_sizes,
    ]
    order = list(enumerate(uses))[:: 1 if os.environ["PYTEST_XDIST_WORKER"] == "gw0" else -1]

    def alone(name: object, use: Callable[[], object], how: int = 0) -> None:
        file = tmp_path_factory.getbasetemp().parent / f"compiling {name}"
        with file.open("w") as lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | how)
            use()

    alone("put", lambda: learner.put(np.arange(4), x, y, 0))
    for how in (fcntl.LOCK_NB, 0):  # what nobody else has begun; then everything
        for number, use in order:
            alone(number, use, how)


@pytest.fixture(autouse=True)
def _one_torch_thread():
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder of this test's own, in which it works."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def plain(here, monkeypatch):
    """Such a folder, and a terminal of 80 columns whose user has no wish as to colours."""
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def refused(capsys):
    """What ``metareplay`` says to arguments that it refuses: one line, status 2, and nothing else."""
    from metareplay.cli import main

    def told(*arguments):
        assert main(list(map(str, arguments))) == 2
        shown = capsys.readouterr()
        assert shown.err.startswith("metareplay: ")
        assert (shown.err.count("\n"), shown.out) == (1, "")
        return shown.err

    return told


@pytest.fixture
def data_folder(tmp_path, monkeypatch):
    """An empty folder of this test's own, in place of the user's data folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("METAREPLAY_DATA", str(folder))
    return folder


@pytest.fixture(scope="session")
def shared_mnist():
    """The folder of the four gzipped MNIST files that a development machine may have beside the repository."""
    if not SHARED_MNIST.is_dir():
        pytest.skip(f"real MNIST is not on this machine (looked in {SHARED_MNIST})")
    return SHARED_MNIST


@pytest.fixture(scope="session")
def _mnist_once(shared_mnist, tmp_path_factory):
    from metareplay.data.catalogue import MNIST

    folder = tmp_path_factory.mktemp("data")
    MNIST.get(folder / "mnist", shared_mnist, progress=False)
    return folder


@pytest.fixture
def real_mnist(_mnist_once, monkeypatch):
    """Real MNIST, in a data folder that all tests share."""
    monkeypatch.setenv("METAREPLAY_DATA", str(_mnist_once))


@pytest.fixture(scope="session")
def shared_omniglot():
    """The folder of Omniglot's two small archives that a development machine may have beside the repository."""
    if not SHARED_OMNIGLOT.is_dir():
        pytest.skip(f"Omniglot's small archives are not on this machine (looked in {SHARED_OMNIGLOT})")
    return SHARED_OMNIGLOT


@pytest.fixture
def serve(monkeypatch):
    """Start servers, each with its own files: ``serve({name: content})``."""
    monkeypatch.setenv("no_proxy", "*")
    mirrors: list[Mirror] = []

    def start(*args: object, **options: object) -> Mirror:
        mirrors.append(Mirror(*args, **options))
        return mirrors[-1]

    yield start
    for mirror in mirrors:
        mirror.close()


@pytest.fixture
def nobody(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as bound:  # bound but not listening: connections are refused, and nobody else can take it
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/folder"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, Ray, which mostly waits, before all: processes that test together end together."""
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in ("ray", "slow")])


def pytest_configure() -> None:
    """Ctrl-C reaches what tests start even where it does not reach the tests: in the background of a shell."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests whose device or package is not here."""
    if item.get_closest_marker("cuda"):
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
    if item.get_closest_marker("ray") and importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
