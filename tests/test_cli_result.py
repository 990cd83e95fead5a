"""What a run shows at its end."""

from __future__ import annotations

import numpy as np
import pytest

from metareplay import Record
from metareplay.cli import result
from metareplay.runs import record as records


def record(evaluated_visit: list[int], order: str = "tasks") -> Record:
    return Record(
        configuration={"benchmark": "little", "method": "online", "seed": 0, "order": order},
        environment={},
        started="2024-01-01T00:00:00+00:00",
        visits=np.array([0, 1]),
        evaluated_at=np.arange(len(evaluated_visit)),
        evaluated_visit=np.array(evaluated_visit),
        correct=np.array([[1, 1], [8, 1], [5, 3], [6, 9]])[-len(evaluated_visit) :],
        test_sizes=np.array([10, 10]),
        predicted_right=np.ones(10, bool),
        **dict.fromkeys(records.NUMBERS, 1),  # type: ignore[arg-type]
    )


def shown(some: Record, capsys: pytest.CaptureFixture[str]) -> list[str]:
    result.show(some)
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_differences_have_a_sign_and_accuracies_none(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(record([-1, 0, 1, 1]), capsys)
    assert any(line.startswith("RA 75.0 %") for line in lines)
    assert any(line.startswith("BTI -10.0 %") for line in lines)
    assert any(line.startswith("forgetting +20.0 %") for line in lines)


def test_dips_are_shown_of_runs_that_were_looked_at_within_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert any(line.startswith("stability gap +30.0 %") for line in shown(record([-1, 0, 1, 1]), capsys))
    seldom = shown(record([-1, 0, 1]), capsys)
    assert not any(word in line for line in seldom for word in ("stability gap", "worst dip", "min-ACC", "undefined"))


def test_what_is_undefined_is_said_once_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(record([-1, 1], order="iid"), capsys)
    assert "LA, BTI, FT, forgetting: undefined, because all tasks came mixed, none after another" in lines
    assert sum("undefined" in line for line in lines) == 1
