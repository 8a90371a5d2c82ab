# SPDX-License-Identifier: Apache-2.0
"""`--dataset.video_backend=pyav` is ours, gives stock's items, reaches every worker, can be taken back."""

import logging
import os
import pickle
import sys
from pathlib import Path

import lerobot
import numpy as np
import pytest
import torch
import warm_start
from lerobot.datasets import dataset_reader, streaming_dataset, video_utils
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.utils import import_utils
from lerobot_camera_pyav import backend
from make_videos import Kind, write
from video_dataset import CAMERAS, LENGTHS, write_dataset

from lerobot_ext.data import ram_reader

backend.uninstall()  # importing the package put it in place
STOCK = video_utils.decode_video_frames_pyav


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "av1", "libsvtav1")


@pytest.fixture(scope="module")
def hevc_root(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "hevc", "hevc")


@pytest.fixture
def installed():
    assert backend.install()
    backend.install_for_streaming()
    yield
    backend.uninstall()


def open_dataset(root: Path, name: str = "pyav", **options) -> LeRobotDataset:
    return LeRobotDataset("user/small", root=root, video_backend=name, **options)


def assert_equal_items(expected: dict, got: dict) -> None:
    assert list(got) == list(expected)
    for key, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert (got[key].dtype, got[key].shape) == (value.dtype, value.shape), key
            assert torch.equal(got[key], value), key
        else:
            assert got[key] == value, key


@pytest.mark.parametrize("columns", [False, True], ids=["stock-reader", "ram-reader"])
@pytest.mark.parametrize("options", [{}, {"return_uint8": True}], ids=["float", "uint8"])
@pytest.mark.parametrize("codec", ["root", "hevc_root"])
def test_every_item_equals_stocks(request, codec, options, columns):
    root = request.getfixturevalue(codec)
    deltas = {"observation.images.top": [-0.2, 0.0, 0.3], "action": [0.0, 0.1]}
    stock = open_dataset(root, delta_timestamps=deltas, **options)
    expected = [stock[index] for index in range(len(stock))]
    backend.install()
    if columns:
        ram_reader.install()
    try:
        ours = open_dataset(root, delta_timestamps=deltas, **options)
    finally:
        ram_reader.uninstall()
    assert video_utils.decode_video_frames_pyav is not STOCK
    for index in np.random.default_rng(0).permutation(len(ours)).tolist():
        assert_equal_items(expected[index], ours[index])


def test_stock_stays_reachable_by_its_own_name(root, installed, monkeypatch):
    monkeypatch.setattr(backend, "decode", lambda *_, **__: pytest.fail("ours was asked"))
    assert open_dataset(root, "pyav_stock")[3][CAMERAS[0]].shape == (3, 64, 96)
    assert open_dataset(root, "pyav_stock", return_uint8=True)[3][CAMERAS[0]].dtype == torch.uint8


def test_a_size_in_the_name_gives_smaller_pictures(root, installed):
    assert open_dataset(root, "pyav:32x48")[3][CAMERAS[0]].shape == (3, 32, 48)
    for name in ("pyav:32", "pyav:0x48", "pyav:", "pyav:32X48"):
        with pytest.raises(ValueError, match="write it as pyav:240x320"):
            open_dataset(root, name)


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_decode_by_ours_whatever_they_are_started_with(root, installed, start):
    whole, small = open_dataset(root), open_dataset(root, "pyav:32x48")
    expected = [whole[index] for index in range(len(whole))]  # files are open when workers are forked
    smaller = [small[index] for index in range(len(small))]  # only ours knows this name
    loader = torch.utils.data.DataLoader(
        torch.utils.data.ConcatDataset([whole, small]),
        batch_size=None,
        num_workers=2,
        multiprocessing_context=start,
    )
    for wanted, got in zip([*expected, *smaller], loader, strict=True):
        assert_equal_items(wanted, got)


@pytest.mark.slow
def test_a_dataset_brings_ours_to_a_process_that_knows_nothing_of_it(root, installed, tmp_path):
    file = tmp_path / "dataset.pickle"
    file.write_bytes(pickle.dumps(open_dataset(root)))
    code = (
        "import pickle, sys; dataset = pickle.load(open(sys.argv[1], 'rb'));"
        "from lerobot.datasets import video_utils as v;"
        "print(v.decode_video_frames_pyav.__module__, dataset[3]['index'].item())"
    )
    ran = warm_start.run_program(code, str(file), timeout=200)
    assert ran.stdout.split() == ["lerobot_camera_pyav.backend", "3"], ran.stderr
    assert "could not register" not in ran.stderr


@pytest.mark.slow
def test_a_script_that_imports_ours_before_lerobot_has_everything():
    code = (
        "from lerobot_camera_pyav import backend;"
        "from lerobot.datasets import streaming_dataset as s, video_utils as v;"
        "print(v.decode_video_frames_pyav.__module__, s.decode_video_frames_torchcodec.__module__)"
    )
    ran = warm_start.run_program(code, timeout=200)
    assert ran.stdout.split() == ["lerobot_camera_pyav.backend"] * 2, ran.stderr
    assert "could not register" not in ran.stderr


def test_a_damaged_file_is_named_with_its_episode_and_frame(root, installed, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    dataset = open_dataset(copy)
    path = copy / dataset.meta.get_video_file_path(1, CAMERAS[1])
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    assert start > data.index(b"moov"), "LeRobot's writer puts the tables first"
    middle = start + (len(data) - start) // 4
    data[middle:] = b"\xff" * (len(data) - middle)
    path.write_bytes(data)
    with pytest.raises(video_utils.FrameTimestampError) as raised:
        dataset[LENGTHS[0] + 4]
    said = str(raised.value)
    assert f"episode 1, {CAMERAS[1]}, frame 4 of the episode" in said
    assert str(path) in said
    assert f"frame {LENGTHS[0] + 4} of {sum(LENGTHS)} (1.300 s)" in said
    pickled = pickle.loads(pickle.dumps(type(raised.value)(said)))  # a worker sends it so
    assert str(pickled) == said


@pytest.mark.parametrize("name", ["pyav", "pyav_stock", "torchcodec"])
def test_depth_maps_equal_stocks_by_every_name(tmp_path, installed, name):
    path = write(tmp_path / "depth.mp4", Kind("libx265", 2, pixels="gray12le", n=8))
    expected = STOCK(path, [0.1, 0.0], 1e-4, is_depth=True)
    got = video_utils.decode_video_frames(path, [0.1, 0.0], 1e-4, name, is_depth=True)
    assert got.dtype == expected.dtype
    assert torch.equal(got, expected)


def test_a_missing_file_is_reported_as_by_stock(root, installed, tmp_path):
    for name in ("pyav", "pyav_stock"):
        with pytest.raises(FileNotFoundError):
            video_utils.decode_video_frames(tmp_path / "no.mp4", [0.0], 1e-4, name)


def test_who_imported_ours_can_use_it_after_it_was_taken_away(root):
    backend.install()
    imported = video_utils.decode_video_frames
    path = next(Path(root).rglob("*.mp4"))
    before = imported(path, [0.0], 1e-4, "pyav")
    backend.uninstall()
    assert imported is not video_utils.decode_video_frames
    assert torch.equal(imported(path, [0.0], 1e-4, "pyav"), before)
    assert torch.equal(imported(path, [0.0], 1e-4, "pyav_stock"), before)


def test_installing_twice_and_uninstalling_leaves_stock(root):
    before = {
        "pyav": video_utils.decode_video_frames_pyav,
        "any": video_utils.decode_video_frames,
        "reader": dataset_reader.decode_video_frames,
        "threads": dataset_reader.ThreadPoolExecutor,
        "init": dataset_reader.DatasetReader.__init__,
        "query": dataset_reader.DatasetReader._query_videos,
        "streaming": streaming_dataset.decode_video_frames_torchcodec,
        "streaming init": streaming_dataset.StreamingLeRobotDataset.__init__,
    }
    assert backend.install()
    backend.install_for_streaming()
    assert backend.install()
    backend.install_for_streaming()
    assert video_utils.decode_video_frames_pyav is not before["pyav"]
    backend.uninstall()
    after = {
        "pyav": video_utils.decode_video_frames_pyav,
        "any": video_utils.decode_video_frames,
        "reader": dataset_reader.decode_video_frames,
        "threads": dataset_reader.ThreadPoolExecutor,
        "init": dataset_reader.DatasetReader.__init__,
        "query": dataset_reader.DatasetReader._query_videos,
        "streaming": streaming_dataset.decode_video_frames_torchcodec,
        "streaming init": streaming_dataset.StreamingLeRobotDataset.__init__,
    }
    assert after == before


def test_this_lerobot_is_the_one_we_know():
    """Fails when LeRobot changes what we replace: look at every name in `backend` before changing this."""
    assert {name: backend._parameters(getattr(video_utils, name)) for name in backend._SIGNATURES} == (
        backend._SIGNATURES
    )
    reader = dataset_reader.DatasetReader
    assert backend._parameters(reader._query_videos) == ["self", "query_timestamps", "ep_idx"]
    source = Path(dataset_reader.__file__).read_text()
    assert "self._video_backend = video_backend" in source
    assert "frames = decode_video_frames(" in source
    assert "with ThreadPoolExecutor(max_workers=len(items)) as pool:" in source
    assert "return dict(f.result() for f in futures)" in source
    source = Path(streaming_dataset.__file__).read_text()
    assert "frames = decode_video_frames_torchcodec(" in source
    assert "'torchcodec' is installed but cannot be loaded" in Path(import_utils.__file__).read_text()


@pytest.mark.parametrize("change", ["version", "signature", "other plugin"])
def test_an_unknown_lerobot_is_left_alone_with_one_line(monkeypatch, caplog, change):
    if change == "version":
        monkeypatch.setattr(lerobot, "__version__", "0.7.0")
    elif change == "signature":
        monkeypatch.setattr(video_utils, "decode_video_frames_pyav", lambda path, when: None)
    else:
        monkeypatch.setattr(dataset_reader, "decode_video_frames", lambda *_: None)
    before = dataset_reader.decode_video_frames
    with caplog.at_level(logging.WARNING):
        assert not backend.install()
    assert dataset_reader.decode_video_frames is before
    assert len(caplog.records) == 1
    assert "its own decoder stays" in caplog.text or "that decoder stays" in caplog.text


def test_the_switch_leaves_stock_and_refuses_other_words(monkeypatch):
    monkeypatch.setenv(backend.SWITCH, "off")
    assert not backend.install()
    assert video_utils.decode_video_frames_pyav is STOCK
    monkeypatch.setenv(backend.SWITCH, "maybe")
    with pytest.raises(ValueError, match="LEROBOT_EXT_VIDEO is 'maybe'"):
        backend.install()


def test_the_number_of_open_files_is_lerobots_variable(monkeypatch):
    for text, limit in (("", 64), ("7", 7), ("none", sys.maxsize), ("-1", sys.maxsize)):
        monkeypatch.setenv(backend.LIMIT, text)
        assert backend.open_limit() == limit
    for text in ("0", "many", "-2"):
        monkeypatch.setenv(backend.LIMIT, text)
        with pytest.raises(ValueError, match="set it to a number of files"):
            backend.open_limit()


def test_forty_lines_about_torchcodec_become_one(installed, monkeypatch, caplog):
    monkeypatch.setattr(backend, "_told_about_torchcodec", [])
    monkeypatch.setattr(backend, "torchcodec_problem", lambda: "libavutil.so.60 is not installed")

    def refuse(name: str) -> None:
        raise RuntimeError("Could not load libtorchcodec.\n" * 40)

    monkeypatch.setattr(import_utils.importlib, "import_module", refuse)
    with caplog.at_level(logging.WARNING):
        assert import_utils.get_safe_default_video_backend() == "pyav"
        assert import_utils.get_safe_default_video_backend() == "pyav"
    [record] = [record for record in caplog.records if "torchcodec" in record.getMessage()]
    assert record.getMessage() == (
        "torchcodec cannot be loaded (libavutil.so.60 is not installed): videos are decoded by "
        "lerobot_camera_pyav."
    )


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_streaming_dataset_is_decoded_where_torchcodec_cannot_be_loaded(root, monkeypatch, workers):
    import_utils.get_safe_default_video_backend()
    backend.torchcodec_problem.cache_clear()
    if not backend.torchcodec_problem():
        pytest.skip("torchcodec can be loaded here")
    dataset = open_dataset(root)
    expected = {int(item["index"]): item[CAMERAS[0]] for item in (dataset[i] for i in range(len(dataset)))}
    backend.install()
    backend.install_for_streaming()
    stream = streaming_dataset.StreamingLeRobotDataset("user/small", root=root, buffer_size=4)
    loader = torch.utils.data.DataLoader(
        stream, batch_size=None, num_workers=workers, multiprocessing_context="spawn" if workers else None
    )
    seen = {int(item["index"]): item[CAMERAS[0]] for item in loader}
    assert seen.keys() == expected.keys()
    assert all(torch.equal(seen[index], expected[index]) for index in expected)


def test_open_files_stay_few_and_a_child_does_not_touch_its_parents(root, installed, monkeypatch):
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    path = root / LeRobotDataset("user/small", root=root).meta.get_video_file_path(0, CAMERAS[0])
    copies = [path.with_name(f"copy{number}.mp4") for number in range(8)]
    for copy in copies:
        copy.write_bytes(path.read_bytes())
    monkeypatch.setattr(backend._videos().get(), "limit", 3)
    before = len(os.listdir("/proc/self/fd"))
    for copy in copies * 3:
        video_utils.decode_video_frames(copy, [0.0], 1e-4, "pyav")
    assert len(os.listdir("/proc/self/fd")) <= before + 3
    mine = backend._videos().get()
    reading, writing = os.pipe()
    mine._lock.acquire()  # as if another thread were opening a file at the moment of the fork
    child = os.fork()
    if not child:
        ok = backend._videos().get() is not mine
        video_utils.decode_video_frames(copies[0], [0.0], 1e-4, "pyav")
        os.write(writing, b"y" if ok else b"n")
        os._exit(0)
    mine._lock.release()
    assert os.read(reading, 1) == b"y"
    os.waitpid(child, 0)
    for copy in copies:
        copy.unlink()


def test_a_file_that_is_written_anew_is_opened_anew(root, installed, tmp_path):
    meta = LeRobotDataset("user/small", root=root).meta
    first, second = (root / meta.get_video_file_path(0, key) for key in CAMERAS)
    path = tmp_path / "video.mp4"
    for source in (first, second):
        path.write_bytes(source.read_bytes())
        got = video_utils.decode_video_frames(path, [0.3], 1e-4, "pyav")
        assert torch.equal(got, STOCK(source, [0.3], 1e-4))
