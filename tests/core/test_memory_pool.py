# SPDX-License-Identifier: Apache-2.0
"""Pictures from the pool equal the backend's, whoever asks, and take no more room than was allowed."""

import logging
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from doctor_faults.datasets import build_odd
from lerobot.datasets import dataset_reader
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.datasets.sampler import EpisodeAwareSampler
from pool_dataset import CAMERAS, LENGTHS, write_dataset
from torchvision.transforms.v2 import Resize

from lerobot_ext.data import batches, camera_window, hook, ram_reader
from lerobot_ext.data.pool import opening, sampler
from lerobot_ext.data.pool.arena import MISSING, READY, Arena, Geometry
from lerobot_ext.data.pool.budget import POOL
from lerobot_ext.data.pool.opening import open_pool
from lerobot_ext.data.pool.schedule import BUFFERS
from lerobot_ext.data.shared_region import SharedRegion

N = sum(LENGTHS)
STEP = 2 * (3 * 48 * 64 + 1)  # pictures and marks of one frame
SOME = f"{(BUFFERS * 8 * STEP + 8192) / 2**20}MiB"  # four parts of eight frames
WINDOWS = {CAMERAS[0]: [-0.1, 0.0], "action": [0.0, 0.1, 0.2]}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("pool") / "ten")


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """No pool of an earlier test, and LeRobot as it is afterwards."""
    monkeypatch.setattr(opening, "_held", [])
    yield
    ram_reader.uninstall()
    camera_window.uninstall()
    batches.uninstall()
    sampler.uninstall()


def open_dataset(root: Path, **options) -> LeRobotDataset:
    return LeRobotDataset("user/ten", root=root, **{"video_backend": "pyav", "return_uint8": True, **options})


@pytest.fixture
def pooled(root, monkeypatch):
    """Opens the dataset with a budget."""

    def open_with(budget: str, at: Path = root, **options) -> LeRobotDataset:
        monkeypatch.setenv(POOL, budget)
        hook.install_where_datasets_are_read()
        return open_dataset(at, **options)

    return open_with


def assert_same(expected: dict, got: dict) -> None:
    assert list(got) == list(expected)
    for key, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert (got[key].dtype, got[key].shape) == (value.dtype, value.shape), key
            assert torch.equal(got[key], value), key
        else:
            assert got[key] == value, key


def sampler_of(dataset: LeRobotDataset, **options) -> EpisodeAwareSampler:
    """As `lerobot-train` makes it."""
    return EpisodeAwareSampler(
        dataset.meta.episodes["dataset_from_index"],
        dataset.meta.episodes["dataset_to_index"],
        episode_indices_to_use=dataset.episodes,
        absolute_to_relative_idx=dataset.absolute_to_relative_idx,
        **{"shuffle": True, "seed": 3, **options},
    )


def no_decoding(monkeypatch) -> None:
    def refuse(*words, **named):
        raise AssertionError("this frame should have been in memory")

    monkeypatch.setattr(dataset_reader, "decode_video_frames", refuse)


# --- the same items ---


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_uint8": False},
        {"delta_timestamps": WINDOWS},
        {"episodes": [7, 2, 5], "delta_timestamps": WINDOWS},
        {"image_transforms": lambda image: image.flip(-1)},
    ],
    ids=["uint8", "float", "windows", "some episodes", "transforms"],
)
def test_items_equal_stocks_cold_and_warm(root, pooled, options, monkeypatch):
    stock = open_dataset(root, **options)
    ours = pooled("8GiB", **options)
    expected = [stock[index] for index in range(len(stock))]
    for index, item in enumerate(expected):
        assert_same(item, ours[index])
    ours.reader._pool.fill()
    assert ours.reader._pool.filled()
    no_decoding(monkeypatch)
    for index, item in enumerate(expected):
        assert_same(item, ours[index])
    assert_same(expected[-1], ours[-1])


def test_an_item_may_be_written_to(root, pooled):
    ours = pooled("8GiB")
    before = ours[3][CAMERAS[0]].clone()
    ours[3][CAMERAS[0]].zero_()
    assert torch.equal(ours[3][CAMERAS[0]], before)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_fill_one_memory_and_all_read_it(root, pooled, method, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    stock = open_dataset(root)
    ours = pooled("8GiB")
    options = {"batch_size": 8, "num_workers": 2 if method == "fork" else 1}
    batches = list(torch.utils.data.DataLoader(ours, multiprocessing_context=method, **options))
    for number, batch in enumerate(batches):
        for place, index in enumerate(batch["index"].tolist()):
            assert index == number * 8 + place
            for key in CAMERAS:
                assert torch.equal(batch[key][place], stock[index][key])
    # What the workers decoded is here: this process has decoded nothing but one picture of each camera.
    assert ours.reader._pool.filled()
    no_decoding(monkeypatch)
    assert torch.equal(ours[0][CAMERAS[0]], batches[0][CAMERAS[0]][0])


def test_whole_episodes_are_decoded_meanwhile(root, pooled):
    ours = pooled("8GiB")
    ours[0]
    waited = threading.Event()
    for _ in range(600):
        if ours.reader._pool.filled():
            break
        waited.wait(0.1)
    assert ours.reader._pool.filled()
    ours.reader._pool.close()


# --- some episodes at a time ---


def test_the_sampler_draws_every_frame_once_and_from_memory(root, pooled, monkeypatch):
    stock = open_dataset(root)
    ours = pooled(SOME)
    pool = ours.reader._pool
    assert not pool.holds_all
    assert pool.arena.region.size <= BUFFERS * 8 * STEP + 8192
    decoded = []
    plain = pool.source.decode
    monkeypatch.setattr(pool, "_fill_meanwhile", lambda missing: None)  # `fill` does it here, predictably
    monkeypatch.setattr(
        pool.source, "decode", lambda e, c, steps: decoded.extend(steps) or plain(e, c, steps)
    )
    draws = sampler_of(ours)
    orders = []
    for _ in range(2):
        order = []
        for index in draws:
            pool.fill()  # as the thread does meanwhile
            order.append(index)
            assert_same(stock[index], ours[index])
        assert sorted(order) == list(range(N))
        orders.append(order)
    assert orders[0] != orders[1]
    # Each frame of each camera once an epoch, and the first part of the epoch after that.
    assert 2 * 2 * N <= len(decoded) <= 2 * 2 * (N + 8)
    pool.close()


def test_the_order_is_the_same_in_every_rank_and_resumes(root, pooled):
    ours = pooled(SOME)
    whole = sampler_of(ours)
    first, second = list(whole), list(whole)
    resumed = sampler_of(ours)
    resumed.load_state_dict({"epoch": 1, "start_index": 20})
    assert list(resumed) == second[20:]
    assert list(sampler_of(ours)) == first
    assert list(sampler_of(ours, seed=4)) != first


def test_frames_that_the_sampler_leaves_out_are_not_drawn(root, pooled):
    ours = pooled(SOME, episodes=[0, 1, 2, 3, 4, 6, 7, 8])
    draws = sampler_of(ours, drop_n_last_frames=2)
    indices = [int(ours[index]["index"]) for index in draws]
    plain = [int(ours[index]["index"]) for index in sampler_of(ours, drop_n_last_frames=2, shuffle=False)]
    assert sorted(indices) == plain
    assert indices != plain
    ours.reader._pool.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_and_a_pool_that_holds_some(root, pooled, method, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    stock = open_dataset(root)
    ours = pooled(SOME)
    loader = torch.utils.data.DataLoader(
        ours,
        batch_size=4,
        num_workers=2 if method == "fork" else 1,
        sampler=sampler_of(ours),
        multiprocessing_context=method,
        persistent_workers=True,
    )
    for _ in range(2):
        seen = []
        for batch in loader:
            for place, index in enumerate(batch["index"].tolist()):
                seen.append(index)
                for key in CAMERAS:
                    assert torch.equal(batch[key][place], stock[index][key]), index
        assert sorted(seen) == list(range(N))


def test_without_our_sampler_every_frame_is_still_right(root, pooled):
    stock, ours = open_dataset(root), pooled(SOME)
    for index in np.random.default_rng(0).permutation(N).tolist():
        assert_same(stock[index], ours[index])


def test_a_policy_that_samples_for_itself(root, pooled):
    monkey = pooled("off")
    ram_reader.install()
    dataset = open_dataset(root)
    assert monkey.reader._pool is None
    pool = open_pool(dataset, SOME)
    for epoch in range(2):
        pool.begin_epoch(epoch, seed=1)
        used = set()
        while True:
            episodes = pool.active()
            assert sum(LENGTHS[episode] for episode in episodes) <= 3 * 8
            pool.fill()
            for episode in episodes:
                top = pool.frames(episode, CAMERAS[0], range(LENGTHS[episode]))
                assert top.shape == (LENGTHS[episode], 3, 48, 64)
                start = sum(LENGTHS[:episode])
                assert torch.equal(top[2], dataset[start + 2][CAMERAS[0]])
            used.update(episodes)
            if not pool.advance():
                break
        assert used == set(range(len(LENGTHS)))


# --- size ---


def test_pictures_at_another_size_are_torchvisions(root, pooled):
    stock, ours = open_dataset(root), pooled("8GiB:24x40", return_uint8=False)
    for index in (0, 9, N - 1):
        small = Resize((24, 40), antialias=True)(stock[index][CAMERAS[1]])
        assert torch.equal(ours[index][CAMERAS[1]], small.to(torch.float32) / 255)
    assert ours.reader._pool.arena.geometry.step_bytes == 2 * 3 * 24 * 40


# --- room ---


def test_a_budget_below_four_episodes_is_refused_with_what_it_takes(pooled):
    with pytest.raises(ValueError, match=r"takes at least .* 4 times its longest episode \(7 frames\)"):
        pooled(f"{BUFFERS * 6 * STEP / 2**20}MiB")


def test_more_than_the_machine_has_is_refused(pooled, monkeypatch):
    monkeypatch.setattr(opening, "memory_left", lambda: 2**19)
    with pytest.raises(ValueError, match=r"this machine has 0\.50 MiB left"):
        pooled("8GiB")


def test_the_memory_is_what_the_log_says(root, pooled, caplog):
    with caplog.at_level(logging.INFO):
        ours = pooled("8GiB")
    [line] = [record.getMessage() for record in caplog.records if POOL in record.getMessage()]
    assert "all 10 episodes" in line
    assert "2 cameras at 48x64" in line
    pool = ours.reader._pool
    pool.fill()
    taken = os.fstat(pool.arena.region.descriptor).st_blocks * 512
    assert N * 2 * 3 * 48 * 64 < taken <= pool.arena.region.size + 4096
    assert pool.arena.region.size <= N * STEP + 8192


def test_a_held_out_part_shares_the_budget_with_the_rest(root, pooled, caplog):
    """As `lerobot-train --dataset.eval_split` opens them: all, to cut it, then both parts."""
    whole = pooled(f"{(N * STEP + 16384) / 2**20}MiB")
    train = open_dataset(root, episodes=list(range(8)))
    held_out = open_dataset(root, episodes=[8, 9])
    assert train.reader._pool.holds_all
    assert held_out.reader._pool.holds_all
    assert whole.reader._pool.arena is None
    assert_same(open_dataset(root, video_backend="pyav")[0], whole[0])  # decodes, and stays right
    assert train[0]["episode_index"] == 0
    again = open_dataset(root, episodes=[1, 2, 3, 4])
    assert again.reader._pool is None
    assert "other datasets leave" in caplog.text


# --- on a disk ---


def test_a_disk_cache_serves_the_next_run_without_decoding(root, pooled, tmp_path, monkeypatch):
    first = pooled(f"disk:1GiB@{tmp_path}")
    first.reader._pool.fill()
    expected = first[5]
    first.reader._pool.close()
    del first
    opening._held.clear()
    [file] = tmp_path.glob("*.frames")
    second = pooled(f"disk:1GiB@{tmp_path}")
    assert second.reader._pool.filled()
    no_decoding(monkeypatch)
    assert_same(expected, second[5])
    assert list(tmp_path.glob("*.frames")) == [file]


def test_after_a_power_loss_only_what_reached_the_disk_is_trusted(tmp_path):
    geometry = Geometry(("a",), ((1, 2, 2),), ("uint8",), 1, 6)
    path = tmp_path / "cache"
    arena = Arena(SharedRegion.open_file(path, geometry.n_bytes), geometry)
    pictures = torch.arange(24, dtype=torch.uint8).reshape(6, 1, 2, 2)
    arena.write(0, 0, 0, range(6), pictures)
    arena.save(0, 0, 0, 3)
    arena.head[1] += 1  # another start of the machine
    again = Arena(SharedRegion.open_file(path, geometry.n_bytes), geometry)
    out = torch.zeros(6, 1, 2, 2, dtype=torch.uint8)
    assert again.read(0, 0, 0, np.arange(6), out).tolist() == [3, 4, 5]
    assert torch.equal(out[:3], pictures[:3])


def test_a_changed_dataset_is_decoded_anew_and_the_old_file_makes_room(root, pooled, tmp_path):
    copy = shutil.copytree(root, tmp_path / "copy")
    cache = tmp_path / "cache"
    budget = f"disk:{(N * STEP + 16384) / 2**20}MiB@{cache}"
    first = pooled(budget, at=copy)
    first.reader._pool.fill()
    [old] = cache.glob("*.frames")
    video = next((copy / "videos").rglob("*.mp4"))
    os.utime(video)
    # As long as a run uses the old file, it stays, and the second one has no room.
    assert pooled(budget, at=copy).reader._pool is None
    first.reader._pool.close()
    del first
    opening._held.clear()
    second = pooled(budget, at=copy)
    [new] = cache.glob("*.frames")
    assert new.name != old.name
    assert not second.reader._pool.filled()


def test_a_pool_of_some_episodes_on_a_disk_leaves_no_file(pooled, tmp_path):
    ours = pooled(f"disk:{SOME}@{tmp_path}")
    assert not ours.reader._pool.holds_all
    list(sampler_of(ours))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_and_the_dataset_read_without(root, pooled, tmp_path, monkeypatch, caplog):
    full = type("Status", (), {"f_bavail": 1, "f_frsize": 4096, "f_namemax": 255})
    monkeypatch.setattr("lerobot_ext.data.shared_region.os.statvfs", lambda folder: full)
    ours = pooled(f"disk:1GiB@{tmp_path}")
    assert ours.reader._pool is None
    assert "are needed and" in caplog.text
    assert_same(open_dataset(root)[0], ours[0])


# --- ranks ---


def test_the_ranks_of_a_launch_have_one_pool(root, pooled, tmp_path, monkeypatch):
    """Each rank opens the dataset for itself; here both are this process."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_PORT", str(os.getpid()))
    first = pooled("8GiB")
    first.reader._pool.fill()
    monkeypatch.setattr(opening, "memory_left", lambda: 0)  # as if the first had taken it all
    second = open_dataset(root)
    one, other = (dataset.reader._pool.arena.region.descriptor for dataset in (first, second))
    assert os.fstat(one).st_ino == os.fstat(other).st_ino
    assert second.reader._pool.filled()
    monkeypatch.undo()
    small = pooled("8GiB:24x32")
    assert not small.reader._pool.filled()


def test_all_ranks_may_begin_an_epoch_and_none_starts_it_again(pooled):
    pool = pooled(SOME).reader._pool
    pool.begin_epoch(4, 1)
    while pool.advance():
        pass
    last = pool.active()
    pool.arena.state[4] += 1  # as if another process had begun it
    pool.begin_epoch(4, 1)
    assert pool.active() == last
    pool.begin_epoch(5, 1)
    assert pool.active() != last


# --- trouble ---


def test_a_damaged_video_fails_as_it_does_without_a_pool(root, pooled, tmp_path, caplog):
    copy = shutil.copytree(root, tmp_path / "copy")
    video = next((copy / "videos" / CAMERAS[1]).rglob("*.mp4"))
    whole = video.read_bytes()
    stock = open_dataset(copy)
    ours = pooled("8GiB", at=copy)
    place = whole.index(b"mdat") + len(whole) // 3
    video.write_bytes(whole[:place] + bytes(len(whole) - place))
    last = N - 1
    with pytest.raises(Exception) as expected:  # noqa: PT011 - whatever stock raises
        stock[last]
    with pytest.raises(type(expected.value)):
        ours[last]
    ours.reader._pool.close()


def _killed(arena: Arena, place: int) -> None:
    with arena.claimed(place), arena._held(0, exclusive=True):
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_locks_of_a_killed_worker_are_free():
    geometry = Geometry(("a",), ((1, 2, 2),), ("uint8",), BUFFERS, 6)
    arena = Arena(SharedRegion.create(geometry.n_bytes), geometry)
    child = multiprocessing.get_context("fork").Process(target=_killed, args=(arena, 5))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    with arena.claimed(5) as mine:
        assert mine
    arena.give(0, 1)
    assert arena.tags[0] == 1


def test_a_buffer_that_was_given_away_takes_nothing_of_the_part_before():
    geometry = Geometry(("a",), ((1, 2, 2),), ("uint8",), BUFFERS, 6)
    arena = Arena(SharedRegion.create(geometry.n_bytes), geometry)
    ones = torch.ones(2, 1, 2, 2, dtype=torch.uint8)
    arena.give(1, 6)
    arena.write(1, 6, 0, [0, 1], ones)
    arena.give(1, 10)
    arena.give(1, 6)  # somebody who is late
    arena.write(1, 6, 0, [2], ones[:1])
    assert arena.tags[1] == 10
    assert (arena.marks[1] == MISSING).all()
    assert len(arena.read(1, 6, 0, np.arange(2), ones)) == 2
    arena.write(1, 10, 0, [4], ones[:1])
    assert arena.marks[1, 4, 0] == READY


def test_the_variable_needs_the_columns(monkeypatch):
    monkeypatch.setenv(POOL, "8GiB")
    monkeypatch.setenv(hook.SWITCH, "off")
    with pytest.raises(ValueError, match="LEROBOT_EXT_POOL needs the columns in RAM"):
        hook.install_where_datasets_are_read()


def test_a_bad_budget_stops_before_anything_is_read(root, monkeypatch):
    monkeypatch.setenv(POOL, "plenty")
    ram_reader.install()
    with pytest.raises(ValueError, match="LEROBOT_EXT_POOL is 'plenty'"):
        open_dataset(root)


# --- depth ---


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A depth camera next to a colour one of another size, and every other sort of feature."""
    root = tmp_path_factory.mktemp("odd") / "odd"
    build_odd(root)
    return root


@pytest.mark.parametrize("unit", ["m", "mm"])
def test_depth_maps_equal_stocks(odd, pooled, unit):
    stock = LeRobotDataset("me/odd", root=odd, video_backend="pyav", depth_output_unit=unit)
    ours = pooled("8GiB", at=odd, depth_output_unit=unit, return_uint8=False)
    assert set(ours.reader._pool.arena.geometry.kinds) == {"uint8", "uint16"}
    for _ in range(2):
        for index in (0, 9, 23):
            assert_same(stock[index], ours[index])
        ours.reader._pool.fill()


def test_a_smaller_depth_map_has_only_depths_that_were_measured(odd, pooled):
    stock = LeRobotDataset("me/odd", root=odd, video_backend="pyav")
    ours = pooled("8GiB:16x24", at=odd)
    key = "observation.images.depth"
    small, whole = ours[3][key], stock[3][key]
    assert small.shape == (1, 16, 24)
    assert torch.equal(small[0], whole[0, 2::4][:, [int((c + 0.5) * 64 / 24) for c in range(24)]])
