"""Pickles from elsewhere: arrays and plain values are read; whatever would do more is refused before any of it runs."""

from __future__ import annotations

import contextlib
import os
import pickle
import pickletools
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_up_archives import python2_pickle
from metareplay.data import plain_pickle
from metareplay.data.download import Unusable


@pytest.mark.parametrize("order", ["C", "F"])
def test_what_python_3_pickles_is_read(order: Any) -> None:
    pixels = np.asarray(np.arange(200, dtype=np.uint8).reshape(20, 10), order=order)
    pickled = pickle.dumps({"labels": [1, 2, 300], "data": pixels, "name": "x", "more": (None, 1.5, True)}, 2)
    found = plain_pickle.loads(pickled)
    np.testing.assert_array_equal(plain_pickle.array(found["data"]), pixels)
    assert found["labels"] == [1, 2, 300]
    assert found["more"] == (None, 1.5, True)


def test_what_python_2_pickled_is_read_with_its_text_as_bytes() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(2, 128)
    found = plain_pickle.loads(python2_pickle({"labels": [3, 99], "data": pixels, "batch_label": "training batch 1"}))
    np.testing.assert_array_equal(plain_pickle.array(found[b"data"]), pixels)
    assert found[b"labels"] == [3, 99]
    assert found[b"batch_label"] == b"training batch 1"


def test_the_python_2_form_is_what_pickle_itself_reads() -> None:
    pixels = np.arange(300, dtype=np.uint8).reshape(3, 100)
    found = pickle.loads(python2_pickle({"labels": [1, 2, 3], "data": pixels}), encoding="bytes")
    np.testing.assert_array_equal(found[b"data"], pixels)


class Calls:
    """An object that its pickle makes by calling a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


def get(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def run(program: bytes) -> Any:
    return plain_pickle.loads(b"\x80\x02" + program + b".")


ARRAY = get("numpy.core.multiarray", "_reconstruct") + get("numpy", "ndarray") + b"K\x00\x85U\x01b\x87R"
KIND = get("numpy", "dtype") + b"U\x02u1\x85R"


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_run_a_command_is_refused_and_does_not(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "was-here"
    for attack in (
        Calls(os.system, f"touch {mark}"),
        Calls(eval, f"open({str(mark)!r}, 'w')"),
        Calls(exec, f"open({str(mark)!r}, 'w')"),
        Calls(open, str(mark), "w"),
        Calls(getattr, "x", "upper"),
        Calls(__import__, "antigravity"),
        Calls(np.load, str(mark)),
        Calls(np.memmap, str(mark), "u1", "w+", 0, (5,)),
        Calls(np.fromfile, str(mark)),
        Calls(pickle.loads, pickle.dumps(Calls(os.system, f"touch {mark}"))),
    ):
        pickled = pickle.dumps({"data": attack}, protocol)
        with pytest.raises(Unusable) as refused:
            plain_pickle.loads(pickled)
        assert "\n" not in str(refused.value)
        assert not mark.exists()


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        pytest.param(get("os", "system") + b"U\x04true\x85R", "would run os.system", id="a function"),
        pytest.param(b"(U\x04trueios\nsystem\n", r"\(INST\)", id="an instance"),
        pytest.param(b"(" + get("numpy", "dtype") + b"U\x04trueo", r"\(OBJ\)", id="an object"),
        pytest.param(get("numpy", "ndarray") + b")\x81", r"\(NEWOBJ\)", id="a new object"),
        pytest.param(b"\x82\x01", r"\(EXT1\)", id="the registry of extensions"),
        pytest.param(b"Pname\n", r"\(PERSID\)", id="a name outside"),
        pytest.param(b"U\x04name\x51", r"\(BINPERSID\)", id="another name outside"),
        pytest.param(b"X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93", "STACK_GLOBAL", id="a name made on the way"),
        pytest.param(get("numpy", "dtype.__init__.__globals__"), "would run", id="a path of attributes"),
        pytest.param(get("numpy", "frombuffer"), "would run numpy.frombuffer", id="another function of NumPy's"),
        pytest.param(get("numpy.core.multiarray", "__dict__"), "would run", id="a module's dictionary"),
        pytest.param(get("numpy.core", "multiarray _reconstruct"), "would run", id="a blank in a name"),
        pytest.param(get("builtins", "getattr"), "would run builtins.getattr", id="getattr"),
        pytest.param(get("numpy", "ndarray") + b"K\x05\x85R", "only name", id="an array made by its class"),
        pytest.param(get("numpy", "dtype") + b"U\x01O\x85R", "something else than bytes", id="an array of objects"),
        pytest.param(get("numpy", "dtype") + b"U\x02f8\x85R", "something else than bytes", id="an array of floats"),
        pytest.param(get("_codecs", "encode") + b"X\x01\x00\x00\x00xU\x04zlib\x86R", "encoding", id="an encoding"),
        pytest.param(ARRAY + b"}U\x01xK\x01sb", "damaged", id="a state that is none"),
        pytest.param(ARRAY + b"(K\x01J\xff\xff\xff\x7f\x85" + KIND + b"\x89U\x01xtb", "claims the shape", id="size"),
        pytest.param(
            ARRAY + b"(K\x01J\xff\xff\xff\xff\x85" + KIND + b"\x89U\x01xtb", "claims the shape", id="negative"
        ),
        pytest.param(ARRAY + b"(K\x01K\x01\x85U\x02u1\x89U\x01xtb", "something else than bytes", id="a type by name"),
        pytest.param(get("numpy", "dtype") + b"}U\x08__call__Nsb", "changes what", id="a function changed"),
        pytest.param(get("numpy", "dtype") + b"N}U\x08__call__Ns\x86b", "changes what", id="slots changed"),
        pytest.param(b"Nr\xff\xff\xff\x7f", "more memory", id="a memo without end"),
        pytest.param(b"Np2147483647\n", r"\(PUT\)", id="a memo without end, in text"),
        pytest.param(b"\x8e" + struct.pack("<Q", 1 << 40), "damaged|BINBYTES8", id="bytes that are not there"),
        pytest.param(b"T\xff\xff\xff\x7fx", "damaged", id="text that is not there"),
        pytest.param(b"\x8a\xff" + b"\x01" * 10, "damaged", id="a number that is not there"),
        pytest.param(b"", "damaged", id="nothing"),
        pytest.param(b"h\x05", "damaged", id="a memory of nothing"),
        pytest.param(b"RRRR", "damaged", id="calls of nothing"),
    ],
)
def test_no_other_way_through_is_left(program: bytes, reason: str) -> None:
    tracemalloc.start()
    with pytest.raises(Unusable, match=reason) as refused:
        run(program)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in str(refused.value)
    assert peak < 1_000_000


def test_nothing_of_the_reader_can_be_reached_and_changed() -> None:
    """After all those attempts it still reads what it should."""
    for name in ("dtype", "ndarray"):
        with pytest.raises(Unusable):
            run(get("numpy", name) + b"}U\x0e__reduce_ex__Nsb")
    test_what_python_2_pickled_is_read_with_its_text_as_bytes()


def test_only_the_instructions_that_plain_values_need_are_known() -> None:
    known = {instruction.name for instruction in pickletools.opcodes}
    assert set(plain_pickle.PLAIN) < known
    assert not set(plain_pickle.PLAIN) & {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "STACK_GLOBAL"}


def test_an_empty_array_is_no_array() -> None:
    with pytest.raises(Unusable, match="without an array"):
        plain_pickle.array(run(ARRAY))
    with pytest.raises(Unusable, match="without an array"):
        plain_pickle.array([1, 2, 3])


def test_every_cut_and_every_changed_byte_is_refused_or_read() -> None:
    """Whatever is in a file, there is a value or one clear refusal, and nothing else."""
    pickled = python2_pickle({"labels": [1, 2], "data": np.zeros((2, 4), np.uint8)})
    rng = np.random.default_rng(0)
    for place in range(len(pickled)):
        changed = bytearray(pickled)
        changed[place] = rng.integers(256)
        for content in (pickled[:place], bytes(changed)):
            with contextlib.suppress(Unusable):
                plain_pickle.loads(content)
