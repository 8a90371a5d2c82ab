# SPDX-License-Identifier: Apache-2.0
"""Memory of pictures is lent again when nobody holds the picture, not before, and no more than allowed."""

import gc
import os
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot_camera_pyav import backend

from lerobot_ext.data.buffers import Buffers

MIB = 2**20


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_comes_back_with_the_last_view_of_it():
    buffers = Buffers(8 * MIB)
    array = buffers.empty((1, 3, 256, 512), np.float32)
    assert (array.shape, array.dtype) == ((1, 3, 256, 512), np.float32)
    place, view = address(array), torch.from_numpy(array).squeeze(0)[1:]
    del array
    assert buffers.idle_bytes() == 0
    other = buffers.empty((1, 3, 256, 512), np.float32)
    assert address(other) != place, "a view of the first still exists"
    del view
    assert buffers.idle_bytes() == 3 * 256 * 512 * 4
    again = buffers.empty((3 * 256 * 512,), np.float32)
    assert address(again) == place
    assert buffers.idle_bytes() == 0
    assert other.base is not None


def test_no_more_is_kept_than_allowed_and_small_arrays_never():
    buffers = Buffers(3 * MIB)
    lent = [buffers.empty((MIB,), np.uint8) for _ in range(6)]
    lent.clear()
    assert buffers.idle_bytes() == 3 * MIB
    buffers.clear()
    assert buffers.idle_bytes() == 0
    del lent
    small, huge = buffers.empty((10, 10), np.uint8), buffers.empty((4 * MIB,), np.uint8)
    del small, huge
    assert buffers.idle_bytes() == 0
    nothing = Buffers(0).empty((2 * MIB,), np.uint8)
    assert nothing.flags.writeable
    with pytest.raises(ValueError, match=r"`limit` \(-1\)"):
        Buffers(-1)


def test_a_size_that_is_not_asked_for_any_more_makes_room_for_another():
    buffers = Buffers(4 * MIB)
    lent = [buffers.empty((MIB,), np.uint8) for _ in range(4)]
    lent.clear()
    for _ in range(6):
        lent = [buffers.empty((2 * MIB,), np.uint8) for _ in range(2)]
        lent.clear()
    assert {size for size, kept in buffers._idle.items() if kept} == {2 * MIB}
    assert buffers.idle_bytes() == 4 * MIB


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([300_000, 700_001, MIB])), max_size=60))
def test_no_two_arrays_that_exist_share_memory(steps):
    buffers, held = Buffers(2 * MIB), {}
    for slot, size in steps:
        held.pop(slot, None)
        held[slot] = buffers.empty((size,), np.uint8)
        held[slot][:] = slot
        assert all((array == owner).all() for owner, array in held.items())
        assert buffers.idle_bytes() <= 2 * MIB


def test_threads_never_get_the_same_memory():
    buffers, wrong = Buffers(8 * MIB), []

    def work(name: int) -> None:
        for _ in range(200):
            array = buffers.empty((300_000 + name % 2,), np.uint8)
            array[:] = name
            if not (array == name).all():
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    gc.collect()
    assert 0 < buffers.idle_bytes() <= 8 * 300_001, "each thread holds two at a time"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_starts_with_memory_of_its_own():
    buffers = Buffers(4 * MIB)
    buffers.empty((MIB,), np.uint8)
    assert buffers.idle_bytes() == MIB
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.write(writing, b"%d" % buffers.idle_bytes())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 20) == b"0"


def test_the_kept_memory_is_a_variable(monkeypatch):
    for text, kept in (("", 256 * MIB), ("0", 0), ("7", 7 * MIB)):
        monkeypatch.setenv(backend.KEEP, text)
        assert backend.kept_bytes() == kept
    for text in ("-1", "1.5", "much"):
        monkeypatch.setenv(backend.KEEP, text)
        with pytest.raises(ValueError, match="set it to a number of MiB"):
            backend.kept_bytes()
