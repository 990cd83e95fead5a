"""The shared losses, each held against PyTorch's autograd in float64."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from metareplay.methods import losses

RNG = np.random.default_rng(0)
N, CLASSES = 7, 5
Z = RNG.normal(0, 3, (N, CLASSES)).astype(np.float32)
TARGET = RNG.normal(0, 3, (N, CLASSES)).astype(np.float32)
LABELS = RNG.integers(CLASSES, size=N)
SOME = RNG.random((N, CLASSES)) < 0.6
SOME[np.arange(N), LABELS] = True


def autograd(loss):
    """The gradient by the scores of a loss written in PyTorch."""
    z = torch.tensor(Z, dtype=torch.float64, requires_grad=True)
    loss(z).backward()
    return z.grad.numpy()


def among(z, allowed):
    return z if allowed is None else z.masked_fill(torch.as_tensor(~allowed), -torch.inf)


def distilled(z, temperature, allowed):
    target = torch.softmax(among(torch.tensor(TARGET, dtype=torch.float64), allowed) / temperature, 1)
    logs = torch.log_softmax(among(z, allowed) / temperature, 1)
    return -(temperature**2) * torch.where(target > 0, target * logs, 0).sum(1).mean()


@pytest.mark.parametrize("allowed", [None, SOME], ids=["all classes", "some classes"])
def test_gradients_by_the_scores_are_those_of_autograd(allowed):
    labels = torch.as_tensor(LABELS)
    cases = [
        (
            losses.cross_entropy(Z, LABELS, allowed),
            lambda z: torch.nn.functional.cross_entropy(among(z, allowed), labels),
        ),
        (losses.distillation(Z, TARGET, 1.0, allowed), lambda z: distilled(z, 1.0, allowed)),
        (losses.distillation(Z, TARGET, 2.5, allowed), lambda z: distilled(z, 2.5, allowed)),
        (losses.mse_to(Z, TARGET), lambda z: ((z - torch.as_tensor(TARGET)) ** 2).mean()),
    ]
    for ours, theirs in cases:
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, autograd(theirs), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("allowed", [None, SOME], ids=["all classes", "some classes"])
def test_values_are_those_of_pytorch(allowed):
    z = among(torch.tensor(Z, dtype=torch.float64), allowed)
    np.testing.assert_allclose(losses.softmax(Z, allowed), torch.softmax(z, 1), rtol=1e-5, atol=1e-9)
    expected = torch.nn.functional.cross_entropy(z, torch.as_tensor(LABELS), reduction="none")
    np.testing.assert_allclose(losses.cross_entropy_values(Z, LABELS, allowed), expected, rtol=1e-5, atol=1e-6)


def test_large_scores_neither_overflow_nor_touch_what_they_are_given():
    z, allowed = np.float32([[1e30, -1e30, 0.0]]), np.array([[False, True, True]])
    before = z.copy()
    assert losses.softmax(z).tolist() == [[1, 0, 0]]
    assert losses.softmax(z, allowed).tolist() == [[0, 0, 1]]
    assert np.isfinite(losses.cross_entropy(z, np.array([2]), allowed)).all()
    assert np.array_equal(z, before)
