"""Damaged files of base data: idx, and decoders of archives."""

import gzip
import struct

import numpy as np

from fuzz.mutate import survivors
from made_up_archives import cifar10_files, tar_gz, zipped
from metareplay.data import decode
from metareplay.errors import Refused

IMAGES = struct.pack(">HBBIII", 0, 8, 3, 4, 3, 2) + bytes(range(24))


def array(content):
    return np.frombuffer(content, np.uint8)


def test_idx_files():
    def read(content):
        values = decode.idx(array(content))
        assert 0 < values.size < len(content)

    survivors(read, [IMAGES, struct.pack(">HBBI", 0, 8, 1, 5) + b"\0\1\2\3\4"], (Refused,))


def test_archives():
    survivors(lambda content: decode.cifar_10([array(content)]), [tar_gz(cifar10_files(1))], (Refused,))
    balanced = dict.fromkeys(decode.BALANCED, gzip.compress(IMAGES))
    survivors(lambda content: decode.emnist_balanced([array(content)]), [zipped(balanced)], (Refused,))
    survivors(
        lambda content: decode.omniglot([array(content)]), [zipped({"a/b/character01/01_01.png": b""})], (Refused,)
    )
