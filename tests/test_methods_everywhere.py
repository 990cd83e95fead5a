"""Every method takes single examples and batches in every scenario."""

import numpy as np
import pytest

import metareplay
from metareplay import METHODS, BadInput, Stream
from metareplay.networks import ModuleNetwork

STREAMS = {"domain-incremental": [range(4), range(4)], "task-incremental": [(0, 1), (2, 3)]}
STREAMS["class-incremental"] = STREAMS["task-incremental"]


def stream(scenario):
    rng = np.random.default_rng(0)
    centres, parts = rng.standard_normal((4, 16)), []
    for classes in STREAMS[scenario]:
        y = rng.choice(np.array(classes), 24)
        x = (centres[y] + 0.2 * rng.standard_normal((24, 16))).astype(np.float32)
        parts.append((x, y, x[:12], y[:12]))
    return Stream.from_arrays("little", parts, classes=4, scenarios=[scenario])


@pytest.mark.parametrize("scenario", STREAMS)
@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_in_batches_of_one_and_of_ten(name, scenario):
    for batch_size in (1, 10):
        options = {"scenario": scenario, "batch_size": batch_size, "hidden": (12,), "epochs": 4}
        method = METHODS[name](**({"lr": 0.1} if hasattr(METHODS[name], "lr") else {}))
        record = metareplay.run(stream(scenario), method, **options)
        assert (record.gradients > 0) == (method.steps(9, 9) != 0)
        assert record.configuration["scenario"] == scenario
        if scenario == "class-incremental":
            assert not record.accuracy[0, 1], "a class that was never met cannot be the answer"
        assert record.accuracy[-1].mean() > (0.6 if scenario == "task-incremental" else 0.4), "chance is 0.5, else 0.25"


@pytest.mark.parametrize("name", ["ncm", "slda"])
def test_what_writes_the_last_layer_refuses_a_module(name):
    with pytest.raises(BadInput, match=f"{name} writes the last layer .* network mlp"):
        METHODS[name]().network(ModuleNetwork(lambda shape, classes: None, (1, 6, 6), 4), 2)
