# SPDX-License-Identifier: Apache-2.0
"""What a conversion writes: equal to its source, and to what LeRobot's own loop would have written."""

import json
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from converted import options, run
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from lerobot.datasets.compute_stats import (
    auto_downsample_height_width,
    compute_episode_stats,
    get_feature_stats,
)
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.processor.converters import batch_to_transition, transition_to_batch

from lerobot_ext.cli.command import CommandError
from lerobot_ext.importing import verify as verify_module
from lerobot_ext.importing.convert import Progress, convert
from lerobot_ext.importing.findings import SourceError
from lerobot_ext.importing.image_stats import SampledFrames, histogram, stats_of
from lerobot_ext.importing.layouts import mapping_of
from lerobot_ext.importing.mapping import read_mapping
from lerobot_ext.importing.sample import write_sample
from lerobot_ext.importing.survey import find_files, survey
from lerobot_ext.repair.survey import survey as repair_survey

LEFT = "observation.images.left"


@pytest.fixture(scope="module")
def lapo(tmp_path_factory) -> tuple[Path, Path]:
    """A LAPO file of three episodes (the second ends by a time-out, the last is 50 long), converted."""
    folder = tmp_path_factory.mktemp("lapo")
    write_sample(folder / "log.hdf5", "lapo", 350, size=64)
    run(folder / "log.hdf5", folder / "out")
    return folder / "log.hdf5", folder / "out"


def test_every_row_is_the_sources(lapo):
    source, root = lapo
    table = pq.read_table(root / "data/chunk-000/file-000.parquet").to_pydict()

    with h5py.File(source) as file:
        assert np.array_equal(table["observation.state"], file["observations/joint"][()])
        assert np.array_equal(table["action"], file["actions"][()])
        assert np.array_equal(table["next.reward"], file["rewards"][()])
        assert np.array_equal(table["next.done"], file["terminals"][()] != 0)
        assert np.array_equal(table["next.truncated"], file["timeouts"][()])
    assert table["index"] == list(range(350))
    assert table["episode_index"] == [0] * 100 + [1] * 100 + [2] * 100 + [3] * 50


def test_lerobot_reads_it_and_repair_finds_nothing(lapo):
    _, root = lapo
    dataset = LeRobotDataset("me/log", root=root)

    assert (dataset.num_episodes, dataset.num_frames, dataset.fps) == (4, 350, 30)
    item = dataset[249]
    assert item[LEFT].shape == (3, 64, 64)
    assert item["task"] == "lift"
    assert not repair_survey(root).findings


def test_reward_done_and_truncated_reach_a_policy(lapo):
    _, root = lapo
    batch = transition_to_batch(batch_to_transition(dict(LeRobotDataset("me/log", root=root)[299])))

    assert {"next.reward", "next.done", "next.truncated"} <= batch.keys()
    assert bool(batch["next.truncated"])
    assert not bool(batch["next.done"])


def test_the_features_are_those_that_lerobot_would_have_recorded(lapo, tmp_path):
    """`info.json`, schema, rows and statistics, against those of `add_frame` and `save_episode`."""
    source, root = lapo
    converted = LeRobotDataset("me/log", root=root)
    features = {
        name: {key: feature[key] for key in ("dtype", "shape", "names")}
        for name, feature in converted.features.items()
        if name not in ("timestamp", "frame_index", "episode_index", "index", "task_index")
    }
    stock = LeRobotDataset.create("me/log", 30, features, root=tmp_path / "stock")
    stock.writer._rgb_encoder = type(stock.writer._rgb_encoder)(vcodec="h264")
    with h5py.File(source) as file:
        for row in range(100):
            frame = {
                f"observation.images.{name}": file[f"observations/{name}_image"][row]
                for name in ("left", "right", "global")
            }
            frame |= {"observation.state": file["observations/joint"][row], "action": file["actions"][row]}
            frame |= {"next.reward": file["rewards"][row : row + 1].astype(np.float32)}
            frame |= {"next.done": file["terminals"][row : row + 1] != 0}
            frame |= {"next.truncated": file["timeouts"][row : row + 1], "task": "lift"}
            stock.add_frame(frame)
    stock.save_episode()
    stock.finalize()

    infos = [json.loads((each / "meta/info.json").read_text()) for each in (tmp_path / "stock", root)]
    counts = ("total_episodes", "total_frames", "splits")
    assert {k: v for k, v in infos[0].items() if k not in counts} == {
        k: v for k, v in infos[1].items() if k not in counts
    }
    rows = [pq.read_table(each / "meta/episodes").slice(0, 1) for each in (tmp_path / "stock", root)]
    assert set(rows[0].column_names) == set(rows[1].column_names)
    tables = [pq.read_table(each / "data/chunk-000/file-000.parquet") for each in (tmp_path / "stock", root)]
    told = [json.loads(table.schema.metadata[b"huggingface"])["info"] for table in tables]
    assert told[0] == told[1]
    assert tables[0].equals(tables[1].slice(0, 100))
    for name in rows[0].column_names:
        if name.startswith("stats/"):
            ours, theirs = (np.ravel(each.column(name)[0].as_py()) for each in (rows[1], rows[0]))
            # LeRobot sums the squares of pixels in float32; ours are exact, see the next test.
            slack = 6e-3 if name.endswith(("/std", "/mean")) and "images" in name else 3e-4
            assert np.allclose(ours, theirs, atol=slack, rtol=1e-3), name


@given(hnp.arrays(np.uint8, (4, 6, 5, 3)))
@settings(max_examples=60, deadline=None)
def test_statistics_of_pictures_are_exact(film):
    pixels = film.reshape(-1, 3) / 255.0

    ours = stats_of(sum(histogram(picture) for picture in film), len(film))

    assert np.allclose(ours["mean"].ravel(), pixels.mean(0))
    assert np.allclose(ours["std"].ravel(), pixels.std(0), atol=1e-7)
    assert np.allclose(ours["min"].ravel(), pixels.min(0))
    assert np.allclose(ours["max"].ravel(), pixels.max(0))
    for key, share in (("q01", 0.01), ("q50", 0.5), ("q99", 0.99)):
        expected = np.quantile(pixels, share, axis=0, method="inverted_cdf")
        assert np.allclose(ours[key].ravel(), expected), key


@pytest.mark.parametrize("size", [(12, 10), (400, 360)], ids=["small", "large, thinned out"])
def test_statistics_of_pictures_are_lerobots(size):
    rng = np.random.default_rng(0)
    film = rng.integers(20, 230, (4, *size, 3), dtype=np.uint8) // np.array([1, 2, 3], np.uint8)

    ours = stats_of(sum(histogram(picture) for picture in film), len(film))

    thin = np.stack([auto_downsample_height_width(picture.transpose(2, 0, 1)) for picture in film])
    theirs = get_feature_stats(thin, axis=(0, 2, 3), keepdims=True)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        expected = value if key == "count" else np.squeeze(value / 255.0, axis=0)
        assert ours[key].shape == expected.shape
        assert np.allclose(ours[key], expected, atol=5e-4), key


def test_frames_are_sampled_as_lerobot_does():
    assert len(SampledFrames(20)) == 20
    assert len(SampledFrames(1000)) == 177
    assert 999 in SampledFrames(1000)


@pytest.mark.parametrize("layout", ["lapo", "robomimic", "aloha"])
def test_png_pictures_are_exact(layout, samples, tmp_path):
    found, report = run(samples[layout], tmp_path / "out", vcodec="png")

    assert report.verified.mean_error == 0.0
    dataset = LeRobotDataset("me/log", root=tmp_path / "out")
    assert dataset.meta.image_keys == [size.camera.name for size in found.cameras]
    assert dataset.num_frames == 120


def test_robomimic_keeps_its_demonstrations_and_dones(samples, tmp_path):
    _, report = run(samples["robomimic"], tmp_path / "out")
    dataset = LeRobotDataset("me/log", root=tmp_path / "out")

    assert (report.n_episodes, dataset.num_frames) == (2, 120)
    assert dataset.features["observation.state"]["shape"] == (9,)
    assert dataset.features["observation.environment_state"]["shape"] == (10,)
    assert [bool(dataset[i]["next.done"]) for i in (98, 99, 119)] == [False, True, True]
    assert not bool(dataset[119]["next.truncated"])


def test_a_folder_of_aloha_files_is_an_episode_a_file_in_order(tmp_path):
    (tmp_path / "in").mkdir()
    for number in (0, 1, 2, 10):
        write_sample(tmp_path / f"in/episode_{number}.hdf5", "aloha", 30 + number, size=64)
    found = survey(find_files([tmp_path / "in"]))
    convert(found, options(tmp_path / "out"), Progress(lambda *_: None, lambda *_: None))

    episodes = LeRobotDataset("me/log", root=tmp_path / "out").meta.episodes
    assert episodes["length"] == [30, 31, 32, 40]
    assert "next.done" not in json.loads((tmp_path / "out/meta/info.json").read_text())["features"]


def test_a_mapping_file_says_what_is_what(samples, tmp_path):
    (tmp_path / "own.yaml").write_text(
        "episodes: flat\n"
        "columns: {observation.state: [observations/joint, rewards], action: actions}\n"
        "cameras: {observation.images.top: {path: observations/global_image, color: bgr}}\n"
        "done: terminals\ntruncated: timeouts\nsuccess: terminals\n"
    )
    found = survey([samples["lapo"]], mapping=read_mapping(tmp_path / "own.yaml"))
    convert(found, options(tmp_path / "out", vcodec="png"), Progress(lambda *_: None, lambda *_: None))

    dataset = LeRobotDataset("me/log", root=tmp_path / "out")
    assert dataset.features["observation.state"]["shape"] == (17,)
    assert "next.success" in dataset.features
    with h5py.File(samples["lapo"]) as file:
        expected = file["observations/global_image"][5][..., ::-1]
    got = (dataset[5]["observation.images.top"].numpy() * 255).round().astype(np.uint8)
    assert np.array_equal(got.transpose(1, 2, 0), expected)


def test_a_file_without_pictures_becomes_a_dataset_without_videos(samples, tmp_path):
    (tmp_path / "own.yaml").write_text(
        "episodes: flat\ncolumns: {observation.state: observations/joint, action: actions}\ndone: terminals\n"
    )
    found = survey([samples["lapo"]], mapping=read_mapping(tmp_path / "own.yaml"))
    report = convert(found, options(tmp_path / "out"), Progress(lambda *_: None, lambda *_: None))

    dataset = LeRobotDataset("me/log", root=tmp_path / "out")
    assert (dataset.num_frames, report.verified.pictures) == (120, 0)
    assert not (tmp_path / "out/videos").exists()


def test_cameras_that_differ_by_their_ending_keep_it():
    mapping = mapping_of("robomimic", {f"obs/front_{kind}": (1, 8, 8, 3) for kind in ("rgb", "image")})

    assert [camera.name for camera in mapping.cameras] == [
        "observation.images.front_image",
        "observation.images.front_rgb",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("episodes: lines\ncolumns: {action: a}", "must be one of flat, groups, file"),
        ("episodes: file\ncolumns: {observation.state: a}", "`action`"),
        ("episodes: flat\ncolumns: {action: a}", "needs `done` or `truncated`"),
        ("episodes: file\ncolumns: {action: a}\nrewards: r", "did you mean `reward`"),
        ("episodes: file\ncolumns: {action: a}\ncameras: {left: b}", "observation.images."),
        ("episodes: [", "cannot be read"),
        ("- a", "holds no mapping"),
    ],
)
def test_a_wrong_mapping_is_refused(text, says, tmp_path):
    (tmp_path / "own.yaml").write_text(text)

    with pytest.raises(CommandError, match=says):
        read_mapping(tmp_path / "own.yaml")


def test_long_files_are_split_at_episodes_and_stay_readable(tmp_path, monkeypatch):
    monkeypatch.setattr("lerobot.datasets.dataset_metadata.create_empty_dataset_info", _small_files)
    write_sample(tmp_path / "log.hdf5", "lapo", 350, size=64)
    run(tmp_path / "log.hdf5", tmp_path / "out")

    dataset = LeRobotDataset("me/log", root=tmp_path / "out")
    files = {str(path.name) for path in (tmp_path / "out/videos" / LEFT).rglob("*.mp4")}
    assert len(files) == 4
    assert len(list((tmp_path / "out/data").rglob("*.parquet"))) == 4
    assert dataset[349][LEFT].shape == (3, 64, 64)


def _small_files(version, fps, features, use_videos, robot_type, chunks, data_mb, video_mb):
    from lerobot.datasets.feature_utils import create_empty_dataset_info

    return create_empty_dataset_info(version, fps, features, use_videos, robot_type, chunks, 1e-4, 1e-4)


def test_a_picture_out_of_place_is_noticed(samples, tmp_path, monkeypatch):
    real = verify_module._source

    def shifted(found, episode, camera, frames):
        yield from real(found, episode, camera, [max(0, frame - 3) for frame in frames])

    monkeypatch.setattr(verify_module, "_source", shifted)
    with pytest.raises(verify_module.NotAsWrittenError, match="picture"):
        run(samples["robomimic"], tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_a_changed_row_is_noticed(samples, tmp_path, monkeypatch):
    real = verify_module.read_columns

    def changed(files, mapping, episode):
        columns = real(files, mapping, episode)
        columns["action"][3, 2] += 1e-6
        return columns

    monkeypatch.setattr(verify_module, "read_columns", changed)
    with pytest.raises(verify_module.NotAsWrittenError, match="`action` of episode 0"):
        run(samples["lapo"], tmp_path / "out")


def test_a_folder_that_is_there_is_left_alone(samples, tmp_path):
    (tmp_path / "out").mkdir()

    with pytest.raises(CommandError, match="is there already"):
        run(samples["lapo"], tmp_path / "out")

    assert list((tmp_path / "out").iterdir()) == []


def test_odd_pictures_are_refused_before_anything_is_written(tmp_path):
    write_sample(tmp_path / "log.hdf5", "lapo", 20, size=65)

    with pytest.raises(SourceError, match="does not take 65x65") as raised:
        run(tmp_path / "log.hdf5", tmp_path / "out")

    assert "--vcodec png" in raised.value.remedy
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.hdf5"]


def test_statistics_of_numbers_are_lerobots_own(lapo):
    source, root = lapo
    meta = LeRobotDataset("me/log", root=root).meta
    with h5py.File(source) as file:
        actions = file["actions"][:100]
    expected = compute_episode_stats({"action": actions}, {"action": {"dtype": "float32", "shape": (16,)}})

    row = pq.read_table(root / "meta/episodes").slice(0, 1)
    assert np.allclose(row.column("stats/action/q90")[0].as_py(), expected["action"]["q90"])
    assert meta.stats["action"]["count"] == [350]
