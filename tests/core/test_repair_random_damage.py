# SPDX-License-Identifier: Apache-2.0
"""Whatever is cut off or missing: repair gives whole episodes as in the original, or says that it cannot."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from cut_off_recording import LATE_MOMENTS, LENGTHS, killed, record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_ext.cli.main import main
from lerobot_ext.data import episode_journal, writer_hooks

UNFINISHED = LATE_MOMENTS["between data and metadata footers"]


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Finished and unfinished recordings of the same three episodes, and what is in them."""
    folder = tmp_path_factory.mktemp("samples")
    episode_journal.start()
    for kind in ("video", "image", "small_files"):
        record(folder / f"{kind} finished", kind)
        killed(UNFINISHED, lambda kind=kind: record(folder / f"{kind} unfinished", kind))
    episode_journal.stop()
    writer_hooks.uninstall()
    frames = {kind: read(folder / f"{kind} finished") for kind in ("video", "image", "small_files")}
    return folder, frames


def read(root: Path) -> list[dict]:
    dataset = LeRobotDataset("me/cut", root=root, video_backend="pyav")
    assert len(dataset.hf_dataset) == dataset.num_frames
    return [dataset[index] for index in range(len(dataset))]


def same(ours: dict, theirs: dict) -> bool:
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[key], value) if isinstance(value, torch.Tensor) else ours[key] == value
        for key, value in theirs.items()
    )


damage = st.tuples(st.integers(0, 999), st.one_of(st.none(), st.floats(0, 1, exclude_max=True)))


@settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)
@given(
    kind=st.sampled_from(["video", "image", "small_files"]),
    state=st.sampled_from(["finished", "unfinished"]),
    damages=st.lists(damage, min_size=1, max_size=3),
)
def test_random_damage(samples, tmp_path_factory, kind, state, damages):
    folder, frames = samples
    root = tmp_path_factory.mktemp("damaged") / "set"
    shutil.copytree(folder / f"{kind} {state}", root)
    for n_file, fraction in damages:
        files = sorted(path for path in root.rglob("*") if path.is_file())
        path = files[n_file % len(files)]
        if fraction is None:
            path.unlink()
        else:
            os.truncate(path, int(path.stat().st_size * fraction))
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    code = main(["repair", str(root)])
    if code == 0:
        got = read(root)
        assert len(got) in [sum(LENGTHS[:n]) for n in (1, 2, 3)]
        assert all(same(ours, theirs) for ours, theirs in zip(got, frames[kind], strict=False))
        assert main(["repair", str(root), "--dry-run"]) == 0
    else:
        assert code == 2
        assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    shutil.rmtree(root.parent)
