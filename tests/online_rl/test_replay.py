# SPDX-License-Identifier: Apache-2.0
"""What the replay gives is what LeRobot's own dataset gives of the same episodes."""

import shutil

import numpy as np
import pytest
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_ext.offline_rl.labels import Episodes, episodes_from_columns, read_episodes
from lerobot_ext.online_rl.episode import Episode
from lerobot_ext.online_rl.replay import Replay, Windows
from lerobot_ext.online_rl.replay_dataset import ReplayDataset

FPS = 10
WINDOWS = Windows((0, 3), (0, 1, 2), (0, 1, 2))


def episode(length, seed, *, success=False, picture=False):
    rng = np.random.default_rng(seed)
    last = np.arange(length) == length - 1
    columns = {
        "observation.state": rng.normal(size=(length, 2)).astype(np.float32),
        "action": rng.normal(size=(length, 3)).astype(np.float32),
        "next.reward": (last & success).astype(np.float32),
        "next.done": last,
        "next.truncated": last & (not success),
        "next.success": last & success,
    }
    if picture:
        columns["observation.images.top"] = rng.integers(0, 256, (length, 16, 24, 3), dtype=np.uint8)
    return Episode(columns, [f"do {seed % 2}"] * length)


def prior(frames=0):
    if not frames:
        none = np.zeros(0, np.int64)
        return Episodes(none, none, rewards=[], success=none.astype(bool), done=none.astype(bool))
    return episodes_from_columns(
        {
            "index": np.arange(frames),
            "episode_index": np.zeros(frames, np.int64),
            "next.reward": np.zeros(frames),
            "next.done": np.arange(frames) == frames - 1,
            "next.success": np.zeros(frames, bool),
        }
    )


@pytest.mark.parametrize("picture", [False, True])
def test_batches_equal_those_of_the_dataset_on_disk(tmp_path, picture):
    episodes = [
        episode(5, 0, picture=picture),
        episode(2, 1, success=True, picture=picture),
        episode(4, 2, picture=picture),
    ]
    disk = ReplayDataset(tmp_path / "replay", "online/replay", FPS)
    replay = Replay(WINDOWS, prior(), FPS)
    for each in episodes:
        disk.save(each)
        replay.add(each)
    disk.close()
    stamps = {name: [k / FPS for k in offsets] for name, offsets in {
        "observation.state": (0, 3), "action": (0, 1, 2), "next.reward": (0, 1, 2),
        **({"observation.images.top": (0, 3)} if picture else {}),
    }.items()}  # fmt: skip
    dataset = LeRobotDataset(
        "online/replay", root=tmp_path / "replay", delta_timestamps=stamps, video_backend="pyav"
    )
    wanted = next(iter(torch.utils.data.DataLoader(dataset, batch_size=len(dataset))))
    found = replay.batch(np.arange(len(dataset)))
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        if key == "task":
            assert found[key] == value
        elif value.dtype == torch.uint8:
            assert torch.equal((found[key] * 255).round().to(torch.uint8), value)
        else:
            assert torch.equal(found[key].to(value.dtype), value), key
    again = disk.load()
    assert len(again) == 3
    for one, two in zip(again, episodes, strict=True):
        assert one.tasks == two.tasks
        assert all(np.array_equal(one.columns[name], values) for name, values in two.columns.items())
        assert all(one.columns[name].dtype == values.dtype for name, values in two.columns.items())


def test_numbers_go_on_behind_the_prior_data_and_the_table_of_episodes_knows_all():
    replay = Replay(WINDOWS, prior(7), FPS, {"do 1": 0})
    for each in (episode(3, 0), episode(4, 1, success=True)):
        replay.add(each)
    batch = replay.batch(np.array([0, 2, 3]))
    assert batch["index"].tolist() == [7, 9, 10]
    assert batch["episode_index"].tolist() == [1, 1, 2]
    assert batch["task_index"].tolist() == [1, 1, 0]
    known = replay.episodes()
    assert known.start.tolist() == [0, 7, 10]
    assert known.end.tolist() == [7, 10, 14]
    assert known.terminal("success").tolist() == [False, False, True]
    assert known.terminal("done_flag").tolist() == [True, False, True]  # the prior data tell of no cut
    assert [len(rewards) for rewards in known.rewards] == [7, 3, 4]


def test_the_oldest_episodes_leave_memory_and_keep_their_place_in_the_table():
    replay = Replay(WINDOWS, prior(), FPS, capacity=9)
    episodes = [episode(4, seed) for seed in range(5)]
    for each in episodes:
        replay.add(each)
    assert len(replay) == 8
    batch = replay.batch(np.arange(8))
    assert batch["episode_index"].tolist() == [3] * 4 + [4] * 4
    assert batch["index"].tolist() == list(range(12, 20))
    assert torch.equal(
        batch["observation.state"][0, 0], torch.from_numpy(episodes[3].columns["observation.state"][0])
    )
    assert len(replay.episodes()) == 5


def test_a_dataset_that_a_kill_has_left_open_is_whole_again_up_to_its_last_episode(tmp_path):
    root = tmp_path / "replay"
    disk = ReplayDataset(root, "online/replay", FPS)
    saved = [episode(3, 0), episode(4, 1)]
    for each in saved:
        disk.save(each)
    left = tmp_path / "left"  # what the disk holds while the writer still has its files open
    shutil.copytree(root, left)
    (left / "meta/journal/session.json").unlink()  # its process is this one
    disk.close()
    recovered = ReplayDataset(left, "online/replay", FPS)
    recovered.recover()
    assert [len(each) for each in recovered.load()] == [3, 4]
    recovered.save(episode(5, 2))
    recovered.close()
    assert [len(each) for each in recovered.load()] == [3, 4, 5]
    dataset = LeRobotDataset("online/replay", root=left, video_backend="pyav")
    assert read_episodes(dataset.meta).end.tolist() == [3, 7, 12]
