# SPDX-License-Identifier: Apache-2.0
"""All workers and ranks read the same columns: nobody has a copy, and nothing stays after a kill."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from memory_maps import WithMappings, as_they_are, mapping_of

from lerobot_ext.data import ram_reader, shared_region
from lerobot_ext.data.shared_region import NoRoomError, SharedRegion, find_or_build
from lerobot_ext.data.shared_tensors import SharedTensors

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def write_dataset(root: Path) -> Path:
    features = {
        key: {"dtype": "float32", "shape": (500,), "names": None} for key in ("observation.state", "action")
    }
    dataset = LeRobotDataset.create("user/wide", 10, features, root=root, use_videos=False)
    for length in (120, 80):
        for step in range(length):
            wide = np.full(500, step, np.float32)
            dataset.add_frame({"observation.state": wide, "action": -wide, "task": "lift"})
        dataset.save_episode()
    dataset.finalize()
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "wide")


@pytest.fixture
def ours(root):
    assert ram_reader.install()
    yield LeRobotDataset("user/wide", root=root, delta_timestamps={"action": [0.0, 0.1]})
    ram_reader.uninstall()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_no_worker_has_a_copy_of_the_columns(ours, method):
    mine = mapping_of(ours.reader._columns.tensors["action"])
    loader = torch.utils.data.DataLoader(
        WithMappings(ours),
        batch_size=50,
        num_workers=1,
        multiprocessing_context=method,
        collate_fn=as_they_are,
    )
    for index in range(len(ours)):
        assert ours[index]["action"].shape == (2, 500)
    samples = [sample for batch in loader for sample in batch]
    assert {sample["pid"] for sample in samples}.isdisjoint({os.getpid()})
    for index, sample in enumerate(samples):
        assert torch.equal(sample["item"]["observation.state"], ours[index]["observation.state"])
        for name, where in sample.get("maps", {}).items():
            assert where["inode"] == mine["inode"], name
            assert "memfd:lerobot_ext" in where["name"], name
            # A page that somebody wrote to would be a copy of its own. (`Private_Dirty` also counts shared
            # pages that only one process has looked at so far.)
            assert where["Anonymous"] == 0, (name, where)
    # This process has by now looked at all that the workers did: each page is there once, and counts for all.
    last = samples[-1]["maps"]["action"]
    assert last["Rss"] > 200
    assert last["Pss"] < last["Rss"]


def test_writing_to_a_mapped_tensor_changes_nobody_elses(root):
    region = SharedTensors.of({"a": torch.arange(6).reshape(2, 3)})
    one, other = region.map()["a"], region.map()["a"]
    one.zero_()
    assert other.tolist() == [[0, 1, 2], [3, 4, 5]]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([torch.float32, torch.int64, torch.bool]), st.integers(0, 7), st.integers(1, 5)
        ),
        max_size=5,
    )
)
def test_tensors_come_back_as_they_were(kinds):
    tensors = {
        f"column {number} \N{GREEK SMALL LETTER ALPHA}": torch.randint(0, 2, (rows, width)).to(kind)
        for number, (kind, rows, width) in enumerate(kinds)
    }
    back = SharedTensors.of(tensors).map()
    assert list(back) == list(tensors)
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)


# --- the ranks of one launch ---

RANK = """
import json, sys
sys.path.insert(0, {helpers!r})
from memory_maps import mapping_of
from lerobot_ext.data import ram_reader
from lerobot.datasets.lerobot_dataset import LeRobotDataset
ram_reader.install()
dataset = LeRobotDataset("user/wide", root={root!r})
where = mapping_of(dataset.reader._columns.tensors["action"])
print(json.dumps([where["inode"], dataset[150]["action"][0].item()]), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def launch(monkeypatch, tmp_path):
    """The environment of a rank, with notes in a folder of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", str(os.getpid()))
    return tmp_path


@pytest.mark.timeout(200)
def test_two_ranks_map_the_same_columns_and_a_kill_leaves_none(root, launch):
    script = RANK.format(helpers=str(Path(__file__).parents[1] / "helpers"), root=str(root))
    ranks = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        (first, value), (second, same) = (json.loads(rank.stdout.readline()) for rank in ranks)
        assert first == second
        assert value == same == -30
    finally:
        for rank in ranks:
            rank.send_signal(signal.SIGKILL)
            rank.wait(timeout=30)
    notes = list(launch.glob("lerobot_ext-*/*.json"))
    assert len(notes) == 1
    # The next start of the same launch finds a note of a dead process, and builds its own.
    built = []
    region = find_or_build(lambda: "another", lambda: built.append(1) or SharedRegion.create(64))
    assert built
    assert not notes[0].exists()
    del region
    assert not list(launch.glob("lerobot_ext-*/*.json"))


def test_one_process_builds_and_the_next_finds(launch):
    region = find_or_build(lambda: "key", lambda: SharedRegion.create(64))
    region.map()[:5] = b"hello"

    def never():
        raise AssertionError("it is there already")

    assert find_or_build(lambda: "key", never).map()[:5] == b"hello"
    other = find_or_build(lambda: "other", lambda: SharedRegion.create(64))
    assert other.map()[:5] == bytes(5)


def test_a_process_alone_leaves_no_note(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    find_or_build(lambda: "key", lambda: SharedRegion.create(64))
    assert not list(tmp_path.iterdir())


# --- room ---


def test_a_region_on_a_full_disk_is_refused_in_one_line(monkeypatch, tmp_path):
    full = type("Status", (), {"f_bavail": 1, "f_frsize": 4096})
    monkeypatch.setattr(shared_region.os, "statvfs", lambda folder: full)
    with pytest.raises(NoRoomError, match=r"2\.00 GiB are needed and 0\.00 are free"):
        SharedRegion.nameless_in(tmp_path, 2**31)
    with pytest.raises(NoRoomError, match="are needed"):
        SharedRegion.open_file(tmp_path / "cache", 2**31)
    assert not list(tmp_path.iterdir())


def test_without_memfd_a_file_without_a_name_serves(monkeypatch, tmp_path):
    monkeypatch.delattr(shared_region.os, "memfd_create")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tensors = {"a": torch.arange(5)}
    assert torch.equal(SharedTensors.of(tensors).map()["a"], tensors["a"])
    assert not list(tmp_path.iterdir())
