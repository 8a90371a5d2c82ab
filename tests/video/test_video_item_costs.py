# SPDX-License-Identifier: Apache-2.0
"""An item's other costs: the quick table answers as LeRobot's, cameras share the cores."""

import threading
from types import SimpleNamespace

import pytest
import torch
from lerobot.datasets import dataset_reader
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot_camera_pyav import backend, item_costs
from lerobot_camera_pyav.item_costs import CameraThreads, with_quick_episodes
from video_dataset import CAMERAS, LENGTHS, write_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> LeRobotDataset:
    root = write_dataset(tmp_path_factory.mktemp("data") / "h264", "h264")
    return LeRobotDataset("user/small", root=root)


def test_the_quick_table_has_lerobots_values_and_types(dataset):
    quick = with_quick_episodes(dataset.meta)
    assert len(quick.episodes) == len(LENGTHS)
    for episode in range(len(LENGTHS)):
        row = dataset.meta.episodes[episode]
        expected = {key: value for key, value in row.items() if key.startswith("videos/")}
        got = quick.episodes[episode]
        assert got == expected
        assert {key: type(value) for key, value in got.items()} == {k: type(v) for k, v in expected.items()}
        for key in CAMERAS:
            assert quick.get_video_file_path(episode, key) == dataset.meta.get_video_file_path(episode, key)
    with pytest.raises(IndexError):
        quick.get_video_file_path(len(LENGTHS), CAMERAS[0])


def test_the_quick_table_follows_the_metadata(dataset):
    meta = LeRobotDataset("user/small", root=dataset.root).meta
    before = with_quick_episodes(meta).episodes
    assert with_quick_episodes(meta).episodes is before
    meta.episodes = meta.episodes.select([1, 2])
    assert with_quick_episodes(meta).episodes[0] == before[1]
    assert type(with_quick_episodes(meta)) is type(meta)
    meta.episodes = None
    assert with_quick_episodes(meta) is meta, "LeRobot loads it"


@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_cameras_run_on_as_many_threads_as_there_are_cores(monkeypatch, at_once):
    monkeypatch.setattr(item_costs, "cameras_at_once", lambda: at_once)
    together = threading.Barrier(min(at_once, 4), timeout=20)
    seen = set()

    def camera(number: int) -> int:
        seen.add(threading.get_ident())
        together.wait()  # no one passes before as many as there should be are at it
        return number * number

    with CameraThreads(4) as pool:
        answers = [pool.submit(camera, number) for number in range(4)]
        assert [answer.result() for answer in answers] == [0, 1, 4, 9]
    assert len(seen) == min(at_once, 4)
    assert threading.get_ident() in seen


@pytest.mark.parametrize("at_once", [1, 3])
def test_an_error_reaches_the_caller_and_the_other_cameras_are_done(monkeypatch, at_once):
    monkeypatch.setattr(item_costs, "cameras_at_once", lambda: at_once)
    done = []

    def camera(number: int) -> None:
        if number == 1:
            raise ValueError("camera 1")
        done.append(number)

    def run() -> None:
        with CameraThreads(3) as pool:
            answers = [pool.submit(camera, number) for number in range(3)]
            for answer in answers:
                answer.result()

    with pytest.raises(ValueError, match="camera 1"):
        run()
    assert sorted(done) == [0, 2]


def test_workers_share_the_cores(monkeypatch):
    monkeypatch.setattr(item_costs.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert item_costs.cameras_at_once() == 8
    for workers, cameras in ((2, 4), (3, 2), (8, 1), (20, 1)):
        info = SimpleNamespace(num_workers=workers)
        monkeypatch.setattr(torch.utils.data, "get_worker_info", lambda info=info: info)
        assert item_costs.cameras_at_once() == cameras


def test_only_ours_is_given_other_threads(dataset, monkeypatch):
    backend.install()
    made = []

    class Spy(CameraThreads):
        def __init__(self, max_workers: int) -> None:
            made.append(max_workers)
            super().__init__(max_workers)

    monkeypatch.setattr(backend, "CameraThreads", Spy)
    for name, expected in (("pyav_stock", []), ("pyav", [2]), ("pyav:32x48", [2])):
        made.clear()
        LeRobotDataset("user/small", root=dataset.root, video_backend=name)[3]
        assert made == expected, name
    with dataset_reader.ThreadPoolExecutor(max_workers=2) as pool:
        assert pool.submit(len, "abc").result() == 3
    assert type(pool).__name__ == "ThreadPoolExecutor"
