"""Base data sets: what they hold, and how they are fetched: from a real server on this machine, never a real mirror."""

import gzip
import hashlib
import multiprocessing
import os
import socket
import stat
import tracemalloc

import numpy as np
import pytest

from made_up_archives import tiny, tiny_files
from metareplay.data import catalogue as sources
from metareplay.data import download as fetch
from metareplay.data.catalogue import MNIST
from metareplay.errors import BadInput, RunFailed
from mirrors import left_in, put


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def gzipped():
    return {name + ".gz": gzip.compress(content) for name, content in tiny_files().items()}


def assert_is_tiny(images):
    files = tiny_files()
    assert images.train.base.pixels.tobytes() == files["train-images"][16:]
    assert images.test.base.pixels.tobytes() == files["test-images"][16:]
    assert images.train.labels.tolist() == [i % 10 for i in range(30)]
    assert images.test.labels.tolist() == [i % 10 for i in range(12)]
    assert images.train.base.pixels.dtype == np.uint8
    assert images.train.base.shape == (6, 5)


def test_digits_are_split_in_1297_and_500_as_ever_with_each_class_in_proportion_and_none_left_out():
    digits = sources.get("digits")
    assert (len(digits.train), len(digits.test)) == (1297, 500)
    train, test = np.bincount(digits.train.labels), np.bincount(digits.test.labels)
    assert np.abs(test - (train + test) * 500 / 1797).max() < 1
    assert digits.train.base.pixels.max() == 16
    assert digits.train.inputs(np.arange(1297)).max() == 1.0
    digits = sources.get("digits")
    assert hashlib.sha256(digits.test.base.pixels.tobytes() + digits.test.labels.tobytes()).hexdigest() == DIGITS_TEST
    assert digits is sources.get("digits")
    from sklearn.datasets import load_digits

    digits = sources.get("digits")
    mine = np.vstack([digits.train.base.pixels, digits.test.base.pixels])
    assert sorted(map(bytes, mine)) == sorted(map(bytes, load_digits().data.astype(np.uint8)))


DIGITS_TEST = "b6179388841bc0d533c5f5cf2304060d4f054f48071a8f6d9a5e900ea878112c"


def test_real_mnist_is_what_was_published(shared_mnist, data_folder):
    mnist = sources.get("mnist", source=shared_mnist, progress=False)
    assert (len(mnist.train), len(mnist.test), mnist.train.width) == (60000, 10000, 784)
    assert np.bincount(mnist.train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert mnist.test.labels[:4].tolist() == [7, 2, 1, 0]
    assert left_in(data_folder / "mnist") == {file.name for file in MNIST.files}
    assert MNIST.present(data_folder / "mnist")


def test_only_digits_are_there_from_the_start(data_folder):
    assert {"fashion-mnist", "cifar10", "cifar100", "omniglot", "omniglot-small"} < sources.SOURCES.keys()
    there = [name for name, source in sources.SOURCES.items() if source.present(data_folder / name)]
    assert there == ["digits"]
    assert (sources.SOURCES["digits"].size, MNIST.size) == (0, 60000 * 785 + 10000 * 785 + 48)


def test_unknown_data_set_and_needless_source_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"'minst'; did you mean mnist\? there are digits, mnist, "):
        sources.get("minst")
    with pytest.raises(BadInput, match=r"leave from_ out"):
        sources.get("digits", source=tmp_path)


@pytest.mark.parametrize("files", [tiny_files(), gzipped()], ids=["plain", "gzipped"])
def test_a_mirror_may_serve_plain_or_gzipped_files(tmp_path, serve, files):
    source = tiny(serve(files).url + "/")
    assert not source.present(tmp_path / "cache")
    assert_is_tiny(source.get(tmp_path / "cache"))
    assert source.present(tmp_path / "cache")
    assert left_in(tmp_path / "cache") == set(tiny_files())


def test_what_is_cached_is_not_fetched_again(tmp_path, serve, nobody):
    mirror = serve(gzipped())
    tiny(mirror.url).get(tmp_path)
    assert len(mirror.asked) == 4
    assert_is_tiny(tiny(nobody).get(tmp_path))
    first = tiny(nobody).get(tmp_path)
    assert first is tiny(nobody).get(tmp_path)


@pytest.mark.parametrize("files", [tiny_files(), gzipped()], ids=["plain", "gzipped"])
@pytest.mark.parametrize("form", ["folder", "address"])
def test_a_source_replaces_the_mirrors(tmp_path, serve, nobody, files, form):
    place = put(tmp_path / "theirs", files) if form == "folder" else serve(files).url
    assert_is_tiny(tiny(nobody).get(tmp_path / "cache", place))
    assert left_in(tmp_path / "cache") == set(tiny_files())


def test_a_folder_of_gzipped_files_serves_as_a_cache_that_nobody_writes_to(tmp_path, nobody):
    put(tmp_path, gzipped())
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert_is_tiny(tiny(nobody).get(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == set(gzipped())


def altered():
    return {name + ".gz": gzip.compress(content[:-1] + b"\xff") for name, content in tiny_files().items()}


def each(content):
    return dict.fromkeys(gzipped(), content)


BAD = {  # the files that a mirror has, how it gives them, and what is wrong with them
    "broken off": (gzipped(), {"cut": 0.6}, r"broke off after \d+ of \d+ bytes"),
    "broken off, unpacked": (tiny_files(), {"cut": 0.6}, r"broke off after \d+ of \d+ bytes"),
    "cut before it was served": ({name: c[:-10] for name, c in gzipped().items()}, {}, "ended before"),
    "altered": (altered(), {}, r"SHA-256 is \w{12}… instead of"),
    "no gzip": (each(b"<html>Please log in</html>"), {}, "has only 26: it is truncated or another file"),
    "bomb": (each(gzip.compress(bytes(50_000_000))), {}, "has more: it is truncated or another file"),
    "endless": (each(gzip.compress(b"") * 10_000), {}, "did not end within"),  # gzip files may be joined; all are empty
    "empty": ({}, {}, "neither train-images nor train-images.gz"),
    "failing": ({}, {"status": 503}, "HTTP 503"),
}
BAD_MIRRORS = [
    pytest.param(lambda serve, f=f, h=h: serve(f, **h), words, id=name) for name, (f, h, words) in BAD.items()
]


@pytest.mark.parametrize(("bad", "reason"), BAD_MIRRORS)
def test_a_bad_mirror_is_passed_over_and_where_none_helps_one_line_says_why(tmp_path, serve, nobody, bad, reason):
    first, second = bad(serve), serve(gzipped())
    assert_is_tiny(tiny(first.url, second.url).get(tmp_path / "passed over"))
    assert set(first.asked) <= {"train-images", "train-images.gz"}  # asked no more once it failed
    assert left_in(tmp_path / "passed over") == set(tiny_files())
    with pytest.raises(RunFailed, match=reason) as raised:
        tiny(first.url, nobody).get(tmp_path / "failed")
    message = str(raised.value)
    assert "\n" not in message
    assert f"{first.url}: " in message
    assert f"{nobody}: Connection refused" in message
    assert "metareplay data get tiny --from FOLDER" in message
    assert left_in(tmp_path / "failed") == set()
    with pytest.raises(BadInput, match=reason) as raised:
        tiny(second.url).get(tmp_path / "named", first.url)  # a working mirror is not asked instead
    assert str(raised.value).startswith(f"from_ {first.url} does not give tiny: train-images: ")
    assert left_in(tmp_path / "named") == set()


def test_a_mirror_that_is_dead_or_falls_silent_is_passed_over(tmp_path, serve, nobody, monkeypatch):
    assert_is_tiny(tiny(nobody, serve(gzipped()).url).get(tmp_path))
    monkeypatch.setattr(fetch, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert_is_tiny(tiny(address, serve(gzipped()).url).get(tmp_path / "first"))
        with pytest.raises(RunFailed, match="timed out"):
            tiny(address).get(tmp_path / "second")


def test_a_bomb_takes_little_memory(tmp_path, serve):
    mirror = serve(BAD["bomb"][0])
    tracemalloc.start()
    with pytest.raises(BadInput):
        tiny().get(tmp_path, mirror.url)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000  # of 50 million bytes


def test_a_source_that_is_no_folder_no_address_or_truncated_is_bad_input(tmp_path):
    for source in (tmp_path / "missing", "ftp://example.org/mnist"):
        with pytest.raises(BadInput, match="is neither a folder nor an address"):
            tiny().get(tmp_path / "cache", source)
    assert not (tmp_path / "cache").exists()
    for address in ("http://[::1", "http://", "http://127.0.0.1:port"):
        with pytest.raises(BadInput, match="does not give tiny"):
            tiny().get(tmp_path / "cache", address)
    files = tiny_files()
    theirs = put(tmp_path / "theirs", files | {"test-images": files["test-images"][:100]})
    with pytest.raises(BadInput, match=r"test-images: it should unpack to 376 bytes but has only 100"):
        tiny().get(tmp_path / "cache", theirs)


def test_a_damaged_file_in_the_cache_is_replaced_or_named_where_no_mirror_helps(tmp_path, nobody, serve):
    put(tmp_path, tiny_files() | {"train-images": b"damaged"})
    with pytest.raises(BadInput) as raised:
        tiny(nobody).get(tmp_path)
    assert f"{tmp_path / 'train-images'}: it should unpack to 916 bytes but has only 7" in str(raised.value)
    assert (tmp_path / "train-images").read_bytes() == b"damaged"
    put(tmp_path, tiny_files() | {"train-images": b"damaged", ".writing-0123-abc": b"left by a killed process"})
    mirror = serve(gzipped())
    assert not tiny().present(tmp_path)
    assert_is_tiny(tiny(mirror.url).get(tmp_path))
    assert mirror.asked == ["train-images.gz"]
    assert left_in(tmp_path) == set(tiny_files())


def test_a_link_in_a_shared_cache_is_replaced_and_never_written_through(tmp_path):
    theirs, cache = put(tmp_path / "theirs", tiny_files()), tmp_path / "cache"
    (tmp_path / "precious").write_bytes(b"precious")
    cache.mkdir()
    for name in ("train-images", ".test-labels.part"):
        (cache / name).symlink_to(tmp_path / "precious")
    assert_is_tiny(tiny().get(cache, theirs))
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_a_verified_file_is_hashed_again_only_when_its_size_or_time_changed(tmp_path, monkeypatch):
    for name in put(tmp_path, tiny_files()).iterdir():
        os.utime(name, (1e9, 1e9))
    source, hashed, sha256 = tiny(), list[int](), hashlib.sha256
    assert_is_tiny(source.get(tmp_path))
    monkeypatch.setattr(fetch, "_LOADED", {})
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "sha256", lambda content: hashed.append(len(content)) or sha256(content))
        assert_is_tiny(source.get(tmp_path))
    assert hashed == [4 * 64]  # the four files' known hashes
    (tmp_path / "train-images").write_bytes(tiny_files()["train-images"][:-1] + b"?")
    monkeypatch.setattr(fetch, "_LOADED", {})
    with pytest.raises(BadInput, match="SHA-256 is"):
        tiny().get(tmp_path)


def test_no_network_at_all(tmp_path):
    """Names that never resolve, as no name does where there is no network."""
    with pytest.raises(RunFailed, match=r"first\.invalid/x: .*; http://second\.invalid/x: .*check the network"):
        tiny("http://first.invalid/x", "http://second.invalid/x").get(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path, serve):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(RunFailed, match=r"Permission denied; set METAREPLAY_DATA to a folder that can be written"):
        tiny(serve(gzipped()).url).get(tmp_path / "cache")


def test_a_full_disk_says_what_to_do_and_leaves_nothing(tmp_path, serve, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFailed, match="No space left on device"):
        tiny(serve(gzipped()).url).get(tmp_path)
    assert left_in(tmp_path) == set()


def _get_tiny(url, folder):
    return len(tiny(url).get(folder, progress=False).train)


def test_processes_that_start_together_fetch_once(tmp_path, serve):
    mirror = serve(gzipped())
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.starmap(_get_tiny, [(mirror.url, tmp_path)] * 3, chunksize=1) == [30, 30, 30]
    assert sorted(mirror.asked) == sorted(gzipped())
    assert left_in(tmp_path) == set(tiny_files())
