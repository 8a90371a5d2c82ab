# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext repair` after a kill at every moment of a recording: whole episodes, equal to the original."""

import json
from pathlib import Path

import pytest
import torch
from cut_off_recording import LATE_MOMENTS, LENGTHS, MOMENTS, killed, record
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_ext.cli.main import main
from lerobot_ext.data import episode_journal, writer_hooks
from lerobot_ext.repair.survey import survey


@pytest.fixture(autouse=True)
def _journal():
    episode_journal.start()
    yield
    episode_journal.stop()
    writer_hooks.uninstall()


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Uncut recordings by kind, made when they are first asked for."""
    made = {}

    def original(kind: str) -> LeRobotDataset:
        if kind not in made:
            root = tmp_path_factory.mktemp("original") / kind
            record(root, kind)
            made[kind] = load(root)
        return made[kind]

    return original


def load(root: Path) -> LeRobotDataset:
    return LeRobotDataset("me/cut", root=root, video_backend="pyav")


def repair(root: Path, *options: str) -> int:
    return main(["repair", str(root), *options])


def assert_first_episodes(root: Path, original: LeRobotDataset, n_episodes: int) -> LeRobotDataset:
    """The dataset is exactly the first episodes of the original: every number, every pixel, every count."""
    dataset = load(root)
    assert dataset.num_episodes == n_episodes
    assert dataset.num_frames == sum(LENGTHS[:n_episodes]) == len(dataset.hf_dataset)
    for index in range(dataset.num_frames):
        ours, theirs = dataset[index], original[index]
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            same = torch.equal(ours[key], value) if isinstance(value, torch.Tensor) else ours[key] == value
            assert same, (index, key)
    info = json.loads((root / "meta/info.json").read_text())
    assert info["splits"] == {"train": f"0:{n_episodes}"}
    assert info["total_tasks"] == len(dataset.meta.tasks)
    assert dataset.meta.stats["index"]["count"].tolist() == [dataset.num_frames]
    assert dataset.meta.stats["action"]["max"].shape == (6,)
    return dataset


def moments_of(kind: str) -> list[str]:
    skip = {"between video and metadata"} if kind in ("image", "joints") else set()
    return [name for name in (*MOMENTS, *LATE_MOMENTS) if name not in skip]


CASES = [(kind, moment) for kind in ("video", "image") for moment in moments_of(kind)]
CASES += [
    (kind, moment)
    for kind in ("streaming", "joints", "small_files", "image_writer")
    for moment in ("while frames come in", "between rows and video", "between data and metadata footers")
]


@pytest.mark.parametrize(("kind", "moment"), CASES)
def test_kill(tmp_path, originals, kind, moment):
    original = originals(kind)
    root = tmp_path / "cut"
    late = moment in LATE_MOMENTS
    killed(LATE_MOMENTS.get(moment) or MOMENTS[moment], lambda: record(root, kind))
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert repair(root, "--dry-run") == 1
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    assert repair(root) == 0
    n_kept = len(LENGTHS) if late else len(LENGTHS) - 1
    assert_first_episodes(root, original, n_kept)
    backups = list(tmp_path.glob("cut.repair-backup-*"))
    assert len(backups) == 1
    assert {backups[0] / path.relative_to(root): data for path, data in before.items()} == {
        path: path.read_bytes() for path in backups[0].rglob("*") if path.is_file()
    }
    assert repair(root) == 0
    assert list(tmp_path.glob("cut.repair-backup-*")) == backups, "a healthy dataset needs no backup"
    if not late:
        record(root, kind, 1, resume=True)
        resumed = assert_first_episodes(root, original, len(LENGTHS))
        assert survey(root).healthy
        assert resumed.meta.episodes["dataset_to_index"][-1] == sum(LENGTHS)
