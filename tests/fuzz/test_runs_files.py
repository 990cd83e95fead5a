"""Damaged records, checkpoints, weights and notes of runs: each is read as it was, or refused in words."""

import json

import pytest

from fuzz.mutate import survivors
from killed_runs import little, same
from metareplay import BadInput, Record, Trainer
from metareplay.runs.checkpoint import Unusable, pack, unpack
from metareplay.runs.folder import CHECKPOINT, CONFIGURATION, Run, find
from metareplay.runs.model import Model
from metareplay.runs.record import read_summary


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    experiment = little("meralg1")
    run = Run(tmp_path_factory.mktemp("runs") / experiment.key)
    run.carry_out(experiment)
    return run


@pytest.mark.parametrize("pattern", ["record.json", "record-*.npz"])
def test_a_damaged_record_is_refused(whole, pattern):
    (path,) = whole.folder.glob(pattern)
    content, record = path.read_bytes(), Record.load(whole.folder)

    def read(mutant):
        path.write_bytes(mutant)
        whole.status()
        assert same(Record.load(whole.folder), record)
        read_summary(whole.folder)

    survivors(read, [content], (BadInput,))
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_refused_or_continues_the_run(whole):
    trainer = Trainer(little("meralg1"))
    trainer.evaluate(-1)
    content = pack(trainer.state())

    def read(mutant):
        again, state = Trainer(little("meralg1")), unpack(mutant)
        assert pack(state) == content
        again.load_state(state)
        again.train()

    survivors(read, [content], (Unusable,))


def test_a_state_with_other_values_is_refused_or_can_be_trained_on():
    trainer = Trainer(little("ewc"))
    trainer.evaluate(-1)
    state = trainer.state()
    plain = {name: value for name, value in state.items() if isinstance(value, int | float | str)}

    def read(mutant):
        changed = json.loads(mutant)
        again = Trainer(little("ewc"))
        again.load_state(unpack(pack(state | changed)))
        again.train()

    refused = (BadInput, ValueError, RecursionError, AttributeError, TypeError)  # no JSON, or no dictionary
    survivors(read, [json.dumps(plain).encode()], refused)


def test_damaged_weights_are_refused_or_make_a_model(whole):
    record = Record.load(whole.folder)
    (path,) = whole.folder.glob("weights-*.npz")

    def read(mutant):
        Model.of(record, unpack(mutant))

    survivors(read, [path.read_bytes()], (BadInput,))


@pytest.mark.parametrize("name", [CONFIGURATION, CHECKPOINT, "failed.json"])
def test_damaged_notes_leave_a_run_that_can_be_listed(tmp_path, name):
    experiment = little("meralg1")
    run = Run(tmp_path / experiment.key)
    run.folder.mkdir()
    content = json.dumps({"configuration": experiment.configuration(), "message": "why"}).encode()
    (run.folder / CONFIGURATION).write_bytes(content)

    def read(mutant):
        (run.folder / name).write_bytes(mutant)
        assert [found.status().state for found in find(tmp_path)] != ["done"]

    survivors(read, [content if name != CHECKPOINT else pack({"seen": 3})], ())
