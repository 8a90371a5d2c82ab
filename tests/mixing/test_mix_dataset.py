# SPDX-License-Identifier: Apache-2.0
import pickle

import numpy as np
import pytest
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.processor.converters import batch_to_transition, transition_to_batch
from mixes import entry, write_part, write_spec
from torch.utils.data import DataLoader

from lerobot_ext.data import ram_reader
from lerobot_ext.mixing.dataset import DATASET_INDEX, LOSS_WEIGHT, MixedDataset
from lerobot_ext.mixing.sampler import MixSampler
from lerobot_ext.mixing.spec import SpecError
from lerobot_ext.mixing.survey import survey

TOP = "observation.images.top"
WINDOWS = {"action": [0.0, 0.1, 0.2], TOP: [-0.1, 0.0]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Dataset `a` keeps pictures, `b` videos of another name, and a camera more."""
    folder = tmp_path_factory.mktemp("mix")
    write_part(folder / "a", (6, 9), ("reach",), cameras={TOP: "image"})
    cameras = {"observation.images.front": "video", "observation.images.wrist": "video"}
    write_part(folder / "b", (5, 4, 7), ("lift", "reach"), offset=5, cameras=cameras)
    return folder


def open_mix(folder, windows=None, path="mix.yaml", **keys):
    options = {"return_uint8": True, "video_backend": "pyav"}
    mix = survey(spec_of(folder, path, **keys)).checked()
    return MixedDataset(mix, windows, **options)


def spec_of(folder, path="mix.yaml", a=None, b=None, **keys):
    renamed = {"rename": {"*.front": "*.top"}, "drop": ["*.wrist"]}
    return write_spec(
        folder / path, entry(folder / "a", **(a or {})), entry(folder / "b", **renamed, **(b or {})), **keys
    )


@pytest.mark.parametrize("in_memory", [True, False])
def test_items_are_those_of_the_parts_under_the_names_of_the_mix(folder, in_memory):
    if in_memory:
        assert ram_reader.install()
    try:
        mixed = open_mix(folder, WINDOWS, b={"task_prefix": "b: ", "episodes": [0, 2]})
    finally:
        ram_reader.uninstall()
    assert len(mixed) == 15 + 12
    part = LeRobotDataset(
        "user/b",
        root=folder / "b",
        episodes=[0, 2],
        delta_timestamps={"action": WINDOWS["action"], "observation.images.front": WINDOWS[TOP]},
        return_uint8=True,
        video_backend="pyav",
    )
    for row in (0, 4, 5, 11):
        item, own = mixed[15 + row], part[row]
        assert torch.equal(item[TOP], own["observation.images.front"])
        assert torch.equal(item[f"{TOP}_is_pad"], own["observation.images.front_is_pad"])
        assert torch.equal(item["action"], own["action"])
        assert torch.equal(item["action_is_pad"], own["action_is_pad"])
        assert item["timestamp"] == own["timestamp"]
        assert item["task"] == f"b: {own['task']}"
        assert item["index"] == 15 + row
        assert item["episode_index"] == (2 if row < 5 else 3)
        assert item[DATASET_INDEX] == 1
        assert not any("wrist" in key or "front" in key for key in item)
    assert set(mixed[0]) == set(mixed[20])
    assert mixed[0][DATASET_INDEX] == 0


def test_pictures_and_videos_come_as_the_same_bytes(folder):
    mixed = open_mix(folder)
    picture = mixed[7][TOP]
    assert picture.dtype == torch.uint8
    assert torch.equal(picture, torch.full_like(picture, 20 + 1))
    assert mixed[15][TOP].dtype == torch.uint8


def test_the_same_text_is_the_same_task(folder):
    mixed = open_mix(folder)
    assert list(mixed.meta.tasks.index) == ["reach", "lift"]
    tasks = [(mixed[row]["task"], int(mixed[row]["task_index"])) for row in (0, 15, 20)]
    assert tasks == [("reach", 0), ("lift", 1), ("reach", 0)]
    assert mixed.hf_dataset.data.column("task_index").to_pylist() == [0] * 15 + [1] * 5 + [0] * 4 + [1] * 7
    same = open_mix(folder, a={"task": "work"}, b={"task": "work"})
    assert list(same.meta.tasks.index) == ["work"]
    assert list(same.meta.episodes["tasks"]) == [["work"]] * 5


def test_the_metadata_is_what_a_trainer_asks_for(folder):
    meta = open_mix(folder, name="kitchen").meta
    assert (meta.repo_id, meta.fps, meta.robot_type) == ("kitchen", 10, "koch_follower")
    assert (meta.total_frames, meta.total_episodes, meta.total_tasks) == (31, 5, 2)
    assert meta.camera_keys == [TOP]
    assert list(meta.episodes["dataset_from_index"]) == [0, 6, 15, 20, 24]
    assert list(meta.episodes["dataset_to_index"]) == [6, 15, 20, 24, 31]
    assert {"observation.state", "action", TOP} <= meta.stats.keys()
    assert meta.stats[TOP]["mean"].shape == (3, 1, 1)
    assert [fact["repo_id"] for fact in meta.mixture] == ["user/a", "user/b"]
    assert meta.get_video_file_path(3, TOP).is_file()
    assert meta.get_data_file_path(0).is_file()
    with pytest.raises(IndexError, match="the mix has 5"):
        meta.get_data_file_path(5)


def test_statistics_are_weighted_by_draws(folder):
    by_dataset = open_mix(folder, weights="by_dataset").meta.stats["action"]
    values = [
        np.stack([LeRobotDataset(f"user/{n}", root=folder / n, video_backend="pyav").hf_dataset["action"]])[0]
        for n in "ab"
    ]
    assert by_dataset["mean"] == pytest.approx((values[0].mean(0) + values[1].mean(0)) / 2, rel=1e-5)
    by_frames = open_mix(folder).meta.stats["action"]
    assert by_frames["mean"] == pytest.approx(np.concatenate(values).mean(0), rel=1e-5)
    assert by_frames["std"] == pytest.approx(np.concatenate(values).std(0), rel=1e-5)


def test_lerobots_processors_hand_on_what_we_add(folder):
    mixed = open_mix(folder, a={"loss_weight": 2.0})
    batch = next(iter(DataLoader(mixed, batch_size=31)))
    kept = transition_to_batch(batch_to_transition(batch))
    assert kept[DATASET_INDEX].tolist() == [0] * 15 + [1] * 16
    assert kept[LOSS_WEIGHT].tolist() == [2.0] * 15 + [1.0] * 16
    assert {"task_index", "episode_index", "index", "task"} <= kept.keys()


@pytest.mark.parametrize("context", [None, "fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_read_the_same_items(folder, context):
    mixed = open_mix(folder, {"action": [0.0, 0.1]}, weights="by_dataset")
    meta = mixed.meta
    words = (meta.episodes["dataset_from_index"], meta.episodes["dataset_to_index"])
    sampler = MixSampler(mixed.absolute_to_relative_idx, *words, seed=1)
    loader = DataLoader(
        mixed, 4, sampler=sampler, num_workers=2 if context else 0, multiprocessing_context=context
    )
    rows = torch.cat([batch["index"] for batch in loader]).tolist()
    assert rows == sampler.epoch_rows(0).tolist()


@pytest.fixture
def videos(tmp_path, monkeypatch):
    """A spec of two datasets with videos, read with our columns and a pool as `LEROBOT_EXT_POOL` says."""
    write_part(tmp_path / "c", (5, 6) * 4, cameras={TOP: "video"})
    write_part(tmp_path / "d", (4, 7), cameras={TOP: "video", "observation.images.wrist": "video"})

    def open_videos(pool):
        monkeypatch.setenv("LEROBOT_EXT_POOL", pool)
        spec = write_spec(
            tmp_path / "mix.yaml", entry(tmp_path / "c"), entry(tmp_path / "d", drop=["*.wrist"])
        )
        return MixedDataset(survey(spec).checked(), return_uint8=True, video_backend="pyav")

    assert ram_reader.install()
    yield open_videos
    ram_reader.uninstall()


def test_a_memory_pool_serves_mixes_and_holds_no_dropped_camera(videos):
    plain, pooled = videos("off"), videos("64MiB")
    pools = [part.reader._pool for part in pooled.parts]
    assert [pool.source.cameras for pool in pools] == [(TOP,), (TOP,)]
    for row in (0, 8, 43, 44, 54):
        assert torch.equal(pooled[row][TOP], plain[row][TOP])
    assert all(pool.served and pool.holds_all for pool in pools)


def test_a_pool_that_is_too_small_for_a_mix_is_told(videos, caplog):
    pooled = videos("150KiB")
    assert "is of little use to a mix" in caplog.text
    assert pooled[0][TOP].shape == (3, 32, 48)


@pytest.fixture
def in_training(monkeypatch):
    """Shrunk pictures are declared in a `lerobot-train` only; elsewhere datasets keep what they say."""
    from lerobot_ext.data.pool import size

    monkeypatch.setattr(size, "training_script", lambda: size)
    monkeypatch.setattr(size, "_install", lambda script: None)


def test_shrunk_pictures_are_declared_by_the_mix(videos, in_training):
    pooled = videos("64MiB:16x24")
    assert pooled[3][TOP].shape == (3, 16, 24)
    assert tuple(pooled.meta.features[TOP]["shape"]) == (16, 24, 3)


def test_pictures_shrunk_in_one_dataset_alone_are_refused(videos, in_training):
    said = r"differing sizes .*\(16, 24, 3\) in user/c; \(32, 48, 3\) in user/d"
    with pytest.raises(ValueError, match=said):
        videos("60KiB:16x24")


def test_a_mix_survives_a_pickle(folder):
    mixed = open_mix(folder, WINDOWS)
    again = pickle.loads(pickle.dumps(mixed))
    assert torch.equal(again[17][TOP], mixed[17][TOP])
    assert again.meta.mixture == mixed.meta.mixture


def test_slices_and_rows_from_the_end_are_as_in_lerobots_datasets(folder):
    mixed = open_mix(folder)
    assert mixed[-1]["index"] == 30
    assert [int(item["index"]) for item in mixed[14:17]] == [14, 15, 16]
    with pytest.raises(IndexError, match="the mix has 31 frames"):
        mixed[31]


def test_transforms_reach_all_parts(folder):
    mixed = open_mix(folder)
    mixed.set_image_transforms(lambda picture: picture * 0)
    assert mixed[3][TOP].max() == 0
    assert mixed[17][TOP].max() == 0
    mixed.clear_image_transforms()
    assert mixed[17][TOP].max() > 0


def test_what_is_missing_is_reported_with_everything_else(folder, tmp_path):
    write_part(tmp_path / "slow", (4,), fps=5, cameras={"observation.images.side": "image"})
    path = write_spec(
        tmp_path / "bad.yaml",
        entry(folder / "a", episodes=[0, 7], drop=["nothing"]),
        entry(tmp_path / "slow"),
        {"repo_id": "user/gone", "root": "nowhere"},
        {"repo_id": "user/never_made"},
    )
    mix = survey(path)
    with pytest.raises(SpecError) as caught:
        mix.checked()
    said = str(caught.value)
    for words in (
        "user/a has episodes 0 to 1, not 7",
        "'nothing' matches no feature",
        "nowhere is no folder of a dataset",
        "user/never_made: cannot be opened",
        "camera is in user/a, not in user/slow (user/slow has `observation.images.side`)",
        "10 in user/a; 5 in user/slow",
        "on_missing: skip",
    ):
        assert words in said, words


def test_a_missing_dataset_can_be_skipped(folder, caplog):
    gone = {"repo_id": "user/gone", "root": "nowhere"}
    path = write_spec(folder / "skip.yaml", entry(folder / "a"), gone, on_missing="skip")
    mix = survey(path)
    assert not mix.problems
    assert mix.shares().tolist() == [1.0]
    assert "user/gone is left out" in mix.notes[0]
    assert "user/gone" in caplog.text


def test_one_dataset_twice_has_two_labels(folder):
    path = write_spec(
        folder / "twice.yaml", entry(folder / "a", episodes=[0]), entry(folder / "a", episodes=[1])
    )
    mix = survey(path).checked()
    assert [part.label for part in mix.parts] == ["user/a#1", "user/a#2"]
    assert len(MixedDataset(mix)) == 15
