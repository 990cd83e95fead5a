"""What a notebook shows: short texts, pictures where they say more, a bar, and errors in Python's words."""

import inspect
import io
import sys
import types

import numpy as np
import pytest
from PIL import Image

import metareplay
from metareplay import BadInput, Experiment, Online, Stream, Trainer, benchmark, run
from metareplay.errors import with_flags
from metareplay.runs.display import bar
from metareplay.runs.folder import Run
from metareplay.runs.trainer import Progress

STREAM = benchmark("digits-rotations", tasks=3, samples_per_task=30)


@pytest.fixture(scope="module")
def record():
    return run(STREAM, Online(lr=0.1))


def test_every_object_is_a_line(record, tmp_path):
    experiment = Experiment(stream=STREAM, method=Online(lr=0.1), seed=3)
    Run(tmp_path / experiment.key).carry_out(experiment)
    shown = [
        STREAM,
        STREAM.tasks[0],
        STREAM.tasks[0].train,
        experiment,
        record,
        metareplay.MER(),
        metareplay.load(tmp_path / experiment.key),
    ]
    assert [len(repr(one)) < 400 for one in shown] == [True] * len(shown)
    assert repr(STREAM) == (
        "Stream('digits-rotations': 3 tasks of 30 examples, 10 classes, shape (8, 8), domain-incremental)"
    )
    assert "seed=3" in repr(experiment)
    assert "epochs" not in repr(experiment)
    retained = record.metrics["retained_accuracy"]
    assert repr(record) == f"Record(online on digits-rotations, seed 0: retained accuracy {100 * retained:.1f} %)"


def test_a_stream_shows_its_images_and_one_without_images_its_line():
    png = STREAM._repr_png_()
    assert Image.open(io.BytesIO(png)).height > 3 * 32
    x, y = np.zeros((4, 5)), np.arange(4)
    assert Stream.from_arrays("plain", [(x, y, x, y)])._repr_png_() is None


def test_a_record_shows_its_matrix_and_draws_it_unless_it_has_no_evaluations(record, tmp_path):
    html = record._repr_html_()
    assert html.count("<td") == 9
    assert f">{100 * record.accuracy[2, 1]:.0f}</td>" in html
    pytest.importorskip("vl_convert")
    record.plot().save(tmp_path / "plot.svg")
    svg = (tmp_path / "plot.svg").read_text()
    assert svg.startswith("<svg")
    assert "average accuracy" in svg
    assert f">{100 * record.accuracy[2, 1]:.0f}" in svg or "task" in svg
    pytest.importorskip("vl_convert")
    with pytest.raises(BadInput, match="nothing to draw"):
        run(STREAM, Online(), evaluate="never").plot()


def test_run_has_the_options_of_an_experiment_by_name():
    names = list(inspect.signature(run).parameters)
    assert names[:3] == ["stream", "method", "seed"]
    assert {"hidden", "epochs", "eval_every", "progress", "tracker"} <= set(names)
    assert inspect.signature(run).parameters["epochs"].default == 1


def test_a_notebook_sees_a_bar_while_a_run_goes_on_and_none_afterwards_and_where_nobody_looks_there_is_none(
    capsys, monkeypatch
):
    run(STREAM, Online())
    assert capsys.readouterr() == ("", "")
    shown = []
    handle = types.SimpleNamespace(update=shown.append)
    display = types.SimpleNamespace(HTML=str, display=lambda html, display_id: handle)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(display=display))
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    with bar() as report:
        report(Progress(1, 3, 40, 90, 40, 0.5))
    assert shown[0].startswith('<progress value="40" max="90"></progress> task 2 of 3 · 40/90')
    assert shown[-1] == ""


@pytest.mark.parametrize(
    ("make", "told", "flag"),
    [
        (lambda: metareplay.MER(lr=-1), "lr is -1.0, but must lie in (0, inf)", "--lr is"),
        (lambda: run(STREAM, Online(), batch_size=0), "batch_size is 0, but must lie in", "--batch-size is"),
        (lambda: run(STREAM, Online(), samples_per_task=10**6), "samples_per_task is 1000000, but no", "--samples"),
        (lambda: run(STREAM, Online(), from_="nowhere"), "there is no", "there is no"),
        (lambda: run(STREAM, Online(), engine="fast"), "engine is 'fast', but must be one of", "--engine is"),
        (
            lambda: benchmark("digits-rotations", min_angle=5.0, max_angle=1.0),
            "min_angle is 5.0 and max_angle",
            "--min",
        ),
        (lambda: run(STREAM, Online(lr=1e20)), "lower lr (it is 1e+20)", "lower --lr (it is"),
    ],
)
def test_errors_name_arguments_in_python_and_flags_on_the_command_line(make, told, flag):
    with pytest.raises((BadInput, metareplay.RunFailed)) as caught:
        make()
    assert told in str(caught.value)
    assert flag in with_flags(caught.value)


def test_commands_in_a_message_stay_commands():
    text = "weights are missing: run `metareplay run … --again`, or metareplay data get mnist --from FOLDER; see --out"
    assert str(BadInput(text)) == text.replace("--out", "out")
    assert str(BadInput("give more units (--hiddens 20)")) == "give more units (hidden 20)"
    assert Trainer.__doc__
