# SPDX-License-Identifier: Apache-2.0
"""The columns-in-RAM reader gives exactly stock's items, and steps aside where it cannot."""

import logging
import pickle
from pathlib import Path

import lerobot
import numpy as np
import pytest
import torch
from lerobot.datasets import dataset_reader, lerobot_dataset
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.datasets.multi_dataset import MultiLeRobotDataset

from lerobot_ext.data import hook, ram_reader
from lerobot_ext.data.ram_reader import RamDatasetReader
from lerobot_ext.data.shared_region import NoRoomError, SharedRegion

FPS = 10
LENGTHS = (7, 5, 9)
TASKS = ("lift the cube", "reach", "lift the cube")
NAMES = {"axes": ["a", "b", "c"]}
STATE_FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (3,), "names": NAMES},
    "observation.environment_state": {"dtype": "float64", "shape": (2,), "names": None},
    "observation.counts": {"dtype": "int32", "shape": (2,), "names": None},
    "observation.grid": {"dtype": "float32", "shape": (2, 3), "names": None},
    "action": {"dtype": "float32", "shape": (3,), "names": NAMES},
    "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    "next.done": {"dtype": "bool", "shape": (1,), "names": None},
    "subtask": {"dtype": "string", "shape": (1,), "names": None},
}
DELTAS = {
    "observation.state": [-0.2, -0.1, 0.0],
    "action": [i / FPS for i in range(6)],
    "observation.grid": [0.0, 0.3],
    "next.reward": [0.0, 0.1],
    "subtask_free": None,
}
DELTAS.pop("subtask_free")


def write_dataset(root: Path, camera: str | None) -> Path:
    """A small dataset through LeRobot's own writer; `camera` is `image`, `video` or None."""
    features = dict(STATE_FEATURES)
    if camera:
        shape = {"dtype": camera, "shape": (64, 96, 3), "names": ["height", "width", "channels"]}
        features |= {"observation.images.top": shape, "observation.images.wrist": shape}
    dataset = LeRobotDataset.create("user/small", FPS, features, root=root, use_videos=camera == "video")
    rng = np.random.default_rng(0)
    for length, task in zip(LENGTHS, TASKS, strict=True):
        for step in range(length):
            frame = {
                "observation.state": rng.normal(size=3).astype(np.float32),
                "observation.environment_state": rng.normal(size=2),
                "observation.counts": rng.integers(-9, 9, size=2).astype(np.int32),
                "observation.grid": rng.normal(size=(2, 3)).astype(np.float32),
                "action": rng.normal(size=3).astype(np.float32),
                "next.reward": rng.normal(size=1).astype(np.float32),
                "next.done": np.array([step == length - 1]),
                "subtask": f"part {step // 3}",
                "task": task,
            }
            if camera:
                for key in ("observation.images.top", "observation.images.wrist"):
                    frame[key] = np.full((64, 96, 3), rng.integers(0, 255), dtype=np.uint8)
            dataset.add_frame(frame)
        dataset.save_episode()
    dataset.finalize()
    return root


@pytest.fixture(scope="module", params=[None, "image", "video"], ids=["state", "image", "video"])
def root(request, tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "small", request.param)


@pytest.fixture(scope="module")
def state_root(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "state", None)


@pytest.fixture
def installed():
    assert ram_reader.install()
    yield
    ram_reader.uninstall()


def open_pair(root: Path, **options) -> tuple[LeRobotDataset, LeRobotDataset]:
    """The same dataset through stock's reader and through ours."""
    options = {"video_backend": "pyav", **options}
    ram_reader.uninstall()
    stock = LeRobotDataset("user/small", root=root, **options)
    assert type(stock.reader) is dataset_reader.DatasetReader
    assert ram_reader.install()
    try:
        ours = LeRobotDataset("user/small", root=root, **options)
    finally:
        ram_reader.uninstall()
    assert type(ours.reader) is RamDatasetReader
    return stock, ours


def assert_equal_items(stock: dict, ours: dict) -> None:
    assert list(ours) == list(stock)
    for key, expected in stock.items():
        got = ours[key]
        assert type(got) is type(expected), key
        if isinstance(expected, torch.Tensor):
            assert (got.dtype, got.shape) == (expected.dtype, expected.shape), key
            assert torch.equal(got, expected), key
        else:
            assert got == expected, key


@pytest.mark.parametrize("episodes", [None, [1], [2, 0]], ids=["all", "one", "two"])
@pytest.mark.parametrize("windows", [False, True], ids=["frame", "windows"])
def test_every_item_equals_stocks(root, episodes, windows):
    deltas = DELTAS if windows else None
    if windows and "observation.images.top" in LeRobotDataset("user/small", root=root).features:
        deltas = {**DELTAS, "observation.images.top": [-0.1, 0.0]}
    stock, ours = open_pair(root, episodes=episodes, delta_timestamps=deltas)
    assert ours.reader._columns is not None
    assert len(ours) == len(stock)
    padded = 0
    for index in range(len(stock)):
        item = ours[index]
        assert_equal_items(stock[index], item)
        padded += int(item["action_is_pad"].any()) if windows else 0
    assert not windows or padded, "no window reached over an episode's end"


def test_transforms_and_uint8_are_applied_as_in_stock(root):
    stock, ours = open_pair(root, image_transforms=lambda image: image.flip(-1), return_uint8=True)
    assert_equal_items(stock[3], ours[3])
    for dataset in (stock, ours):
        dataset.clear_image_transforms()
    assert_equal_items(stock[3], ours[3])


@pytest.mark.parametrize("index", [-1, np.int64(2), np.uint8(3)])
def test_any_kind_of_index_stock_takes(state_root, index):
    stock, ours = open_pair(state_root)
    assert_equal_items(stock[index], ours[index])


@pytest.mark.parametrize("index", [sum(LENGTHS), -sum(LENGTHS) - 1])
def test_an_index_out_of_range_raises_like_stock(state_root, index):
    for dataset in open_pair(state_root):
        with pytest.raises(IndexError, match="out of bounds for size 21"):
            dataset[index]


def test_an_item_may_be_written_to_without_changing_the_dataset(state_root):
    _, ours = open_pair(state_root, delta_timestamps={"action": [0.0, 0.1]})
    before = {key: value.clone() for key, value in ours[4].items() if isinstance(value, torch.Tensor)}
    for value in ours[4].values():
        if isinstance(value, torch.Tensor):
            value.zero_()
    for key, value in before.items():
        assert torch.equal(ours[4][key], value), key


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_give_the_same_batches(state_root, method, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    stock, ours = open_pair(state_root, delta_timestamps={"action": [0.0, 0.1, 0.2]})
    options = {"batch_size": 4, "num_workers": 1, "multiprocessing_context": method}
    for expected, got in zip(
        torch.utils.data.DataLoader(stock, batch_size=4),
        torch.utils.data.DataLoader(ours, **options),
        strict=True,
    ):
        assert_equal_items(expected, got)


def test_a_pickle_carries_no_copy_of_the_columns_and_still_reads(state_root):
    stock, ours = open_pair(state_root)
    copy = pickle.loads(pickle.dumps(ours))
    assert copy.reader._columns is None
    assert_equal_items(stock[5], copy[5])
    assert copy.reader._columns is not None


def test_a_full_shared_memory_sends_no_columns(state_root, monkeypatch, caplog):
    def no_room(size):
        raise NoRoomError("the disk is full")

    monkeypatch.setattr(SharedRegion, "create", no_room)
    ram_reader._say_once.cache_clear()
    stock, ours = open_pair(state_root)
    assert "own copy" in caplog.text
    assert "the disk is full" in caplog.text
    assert_equal_items(stock[5], ours[5])
    monkeypatch.setattr(ram_reader.multiprocessing.context, "get_spawning_popen", lambda: object())
    assert ours.reader.__getstate__()["_columns"] is not None
    monkeypatch.setattr(ram_reader.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100}))
    assert ours.reader.__getstate__()["_columns"] is None


def test_a_dataset_over_the_limit_is_read_by_stock_with_one_line(state_root, monkeypatch, caplog):
    monkeypatch.setenv(ram_reader.LIMIT, "0.0000001")
    stock, ours = open_pair(state_root)
    assert ours.reader._columns is None
    assert_equal_items(stock[5], ours[5])
    assert_equal_items(stock[6], ours[6])
    [record] = [record for record in caplog.records if "slower reader" in record.getMessage()]
    assert ram_reader.LIMIT in record.getMessage()


@pytest.mark.parametrize("text", ["four", "-1", "nan"])
def test_a_bad_limit_is_named(monkeypatch, text):
    monkeypatch.setenv(ram_reader.LIMIT, text)
    with pytest.raises(ValueError, match=f"{ram_reader.LIMIT} is '{text}'"):
        ram_reader.limit_bytes()


def test_frames_out_of_order_are_left_to_stock(state_root):
    _, ours = open_pair(state_root)
    columns = ours.reader._columns
    for row, other in ((0, 1), (6, 7)):
        shuffled = columns.tensors["index"].clone()
        shuffled[[row, other]] = shuffled[[other, row]]
        broken = ram_reader.Columns(
            {**columns.tensors, "index": shuffled},
            columns.names,
            columns.episode_start,
            columns.episode_end,
            None,
        )
        with pytest.raises(ram_reader.NotDenseError, match="one piece"):
            ram_reader.first_rows(broken, filtered=True)
        with pytest.raises(ram_reader.NotDenseError, match="count up"):
            ram_reader.first_rows(broken, filtered=False)


def test_a_recording_that_is_finalized_reads_through_ram(tmp_path, installed):
    root = write_dataset(tmp_path / "recorded", None)
    resumed = LeRobotDataset("user/small", root=root)
    assert type(resumed.reader) is RamDatasetReader
    assert resumed[0]["task"] == TASKS[0]


# LeRobot's side of the bargain: these fail when a new LeRobot moves what the reader stands on.


def test_lerobot_still_binds_its_reader_where_we_replace_it():
    assert lerobot_dataset.DatasetReader is dataset_reader.DatasetReader


def test_lerobots_reader_still_has_the_parts_we_answer():
    ours = {"get_item", "_build_index_mapping", "_get_query_indices", "_query_hf_dataset"}
    for name in ours | {"_get_query_timestamps", "try_load", "load_and_activate"}:
        assert callable(getattr(dataset_reader.DatasetReader, name)), name
    assert MultiLeRobotDataset  # reads through LeRobotDataset, so it needs nothing of its own


def test_install_refuses_a_lerobot_it_is_not_tested_with(monkeypatch, caplog):
    for version in ("0.7.0", "0.6.0", "0.7.0.dev1", "1.0"):
        monkeypatch.setattr(lerobot, "__version__", version)
        assert not ram_reader.install()
        assert version in caplog.records[-1].getMessage()
    assert lerobot_dataset.DatasetReader is dataset_reader.DatasetReader


def test_install_leaves_somebody_elses_reader_alone(monkeypatch, caplog):
    foreign = type("Foreign", (dataset_reader.DatasetReader,), {"__module__": "foreign_plugin"})
    monkeypatch.setattr(lerobot_dataset, "DatasetReader", foreign)
    assert not ram_reader.install()
    assert "foreign_plugin.Foreign" in caplog.text
    ram_reader.uninstall()
    assert lerobot_dataset.DatasetReader is foreign


def test_install_is_idempotent(installed):
    assert ram_reader.install()
    assert lerobot_dataset.DatasetReader is RamDatasetReader


@pytest.mark.parametrize(("switch", "expected"), [("off", False), ("on", True), ("", True), (" OFF ", False)])
def test_the_switch(monkeypatch, switch, expected):
    monkeypatch.setenv(hook.SWITCH, switch)
    hook.install_where_datasets_are_read()
    assert (lerobot_dataset.DatasetReader is RamDatasetReader) is expected
    ram_reader.uninstall()


def test_a_bad_switch_is_named(monkeypatch):
    monkeypatch.setenv(hook.SWITCH, "maybe")
    with pytest.raises(ValueError, match="LEROBOT_EXT_COLUMNS is 'maybe'"):
        hook.install_where_datasets_are_read()


def test_nothing_is_installed_where_no_dataset_class_is_loaded(monkeypatch, caplog):
    with caplog.at_level(logging.DEBUG):
        monkeypatch.delitem(hook.sys.modules, hook._DATASET_MODULE)
        hook.install_where_datasets_are_read()
    assert lerobot_dataset.DatasetReader is dataset_reader.DatasetReader
