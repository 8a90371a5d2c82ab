# SPDX-License-Identifier: Apache-2.0
"""`--fix`: what it mends is healthy afterwards, what was there before is kept."""

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from doctor_faults import checkpoints, datasets
from doctor_faults.datasets import CAMERA, STATS

from lerobot_ext.cli.command import CommandError
from lerobot_ext.doctor.findings import Section


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    checkpoints.build(folder / "checkpoint")
    datasets.build(folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def apply(section: Section, name: str) -> str:
    """Carry out the fix that a finding names."""
    assert name in {finding.fix for finding in section.findings}
    [fix] = [fix for fix in section.fixes if fix.name == name]
    assert fix.what
    return fix.apply()


# --- checkpoints


@pytest.fixture
def checkpoint(tmp_path, originals) -> Iterator[Path]:
    yield shutil.copytree(originals / "checkpoint", tmp_path / "policy")
    shutil.rmtree(tmp_path)  # the weights are large


@pytest.mark.slow
def test_a_legacy_checkpoint_is_converted_into_a_new_folder(checkpoint):
    checkpoints.make_legacy(checkpoint)
    before = contents(checkpoint)
    done = apply(checkpoints.look(checkpoint), "migrate")
    new = checkpoint.with_name("policy_migrated")
    assert str(new) in done
    assert checkpoints.CAMERA in done, "LeRobot's migration loses the statistics of a camera with `_`"
    assert checkpoints.look(new).findings == []
    assert contents(checkpoint) == before
    with pytest.raises(CommandError, match="exists already"):
        apply(checkpoints.look(checkpoint), "migrate")


def test_statistics_by_another_name_are_renamed_in_a_copy(checkpoint):
    checkpoints.tensors(checkpoints.PRE_STATE, checkpoints.rename_camera)(checkpoint)
    before = contents(checkpoint)
    done = apply(checkpoints.look(checkpoint), "rename_stats")
    new = checkpoint.with_name("policy_renamed")
    assert str(new) in done
    assert checkpoints.look(new).findings == []
    assert contents(checkpoint) == before
    with pytest.raises(CommandError, match="exists already"):
        apply(checkpoints.look(checkpoint), "rename_stats")


@pytest.mark.slow
def test_a_migration_that_fails_leaves_nothing(checkpoint):
    checkpoints.make_legacy(checkpoint)
    checkpoints.config(type="not_there_zz")(checkpoint)
    with pytest.raises(CommandError, match="not_there_zz"):
        apply(checkpoints.look(checkpoint), "migrate")
    assert not checkpoint.with_name("policy_migrated").exists()


# --- datasets


@pytest.fixture
def copy(tmp_path, originals) -> Callable[[str], Path]:
    return lambda kind: shutil.copytree(originals / kind, tmp_path / "set")


def stats_of(root: Path) -> dict[str, dict[str, np.ndarray]]:
    stats = json.loads((root / STATS).read_text())
    return {key: {name: np.asarray(v) for name, v in entry.items()} for key, entry in stats.items()}


def assert_same(ours: dict, theirs: dict, tolerance: float = 1e-5) -> None:
    assert ours.keys() == theirs.keys()
    for key, entry in theirs.items():
        assert ours[key].keys() == entry.keys(), key
        for name, value in entry.items():
            assert ours[key][name].shape == value.shape, (key, name)
            assert np.allclose(ours[key][name], value, atol=tolerance), (key, name)


@pytest.mark.parametrize("kind", datasets.KINDS)
def test_a_lost_stats_json_comes_back_as_it_was(copy, kind):
    root = copy(kind)
    before = stats_of(root)
    (root / STATS).unlink()
    [section] = datasets.look(root)
    assert "recomputed the statistics of" in apply(section, "recompute_stats")
    assert_same(stats_of(root), before)
    assert datasets.look(root)[0].findings == []


@pytest.mark.parametrize("feature", ["action", CAMERA])
def test_only_what_is_wrong_is_recomputed_and_the_old_file_kept(copy, feature):
    root = copy("video")
    before = stats_of(root)
    datasets.stats(lambda value: value[feature].update(mean=[0.3]))(root)
    broken = (root / STATS).read_bytes()
    [section] = datasets.look(root)
    done = apply(section, "recompute_stats")
    [backup] = root.parent.glob("set.stats-backup-*.json")
    assert str(backup) in done
    assert backup.read_bytes() == broken
    assert_same(stats_of(root), before)


@pytest.mark.parametrize("kind", ["video", "image"])
def test_pictures_are_looked_at_when_the_episodes_have_no_statistics(copy, kind):
    """Datasets of older converters; a video's frames differ a little from those that were encoded."""
    import pyarrow.parquet as pq

    root = copy(kind)
    before = stats_of(root)
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.select([c for c in table.column_names if not c.startswith("stats/")]), path)
    (root / STATS).unlink()
    apply(datasets.look(root)[0], "recompute_stats")
    tolerance = 0.2 if kind == "video" else 1e-5  # noise does not survive the encoder
    assert_same({CAMERA: stats_of(root)[CAMERA]}, {CAMERA: before[CAMERA]}, tolerance)
    assert_same({"action": stats_of(root)["action"]}, {"action": before["action"]})
    assert datasets.look(root)[0].findings == []


def test_quantiles_that_a_policy_needs_are_added(copy):
    root = copy("video")
    before = stats_of(root)
    datasets.no_quantiles(root)
    _, section = datasets.look(root, {"path": None, "type": "pi05"})
    apply(section, "recompute_stats")
    assert_same(stats_of(root), before)


def test_a_damaged_dataset_is_repaired_with_a_backup(copy):
    root = copy("small_files")
    datasets.cut("data/chunk-002/file-000.parquet")(root)
    before = contents(root)
    done = apply(datasets.look(root)[0], "repair")
    [backup] = root.parent.glob("set.repair-backup-*")
    assert str(backup) in done
    assert contents(backup) == before
    assert datasets.look(root)[0].findings == []


def test_the_cache_of_the_hub_is_never_changed(tmp_path, originals):
    root = shutil.copytree(originals / "joints", tmp_path / "datasets--me--set/snapshots/abc")
    (root / STATS).unlink()
    before = contents(root)
    with pytest.raises(CommandError, match="cache of the Hub"):
        apply(datasets.look(root)[0], "recompute_stats")
    assert contents(root) == before


def test_looking_changes_nothing(copy):
    for kind in ("video",):
        root = copy(kind)
        (root / STATS).unlink()
        before = contents(root)
        datasets.look(root, {"path": None, "type": "act"})
        assert contents(root) == before


# --- commands that remedies print


def run_printed(section: Section, monkeypatch) -> None:
    """Run the command of the section's only finding, word by word."""
    from lerobot.scripts import lerobot_edit_dataset

    [finding] = section.findings
    [command] = re.findall(r"`(lerobot-edit-dataset [^`]*)`", finding.remedy)
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    lerobot_edit_dataset.main()


@pytest.mark.parametrize(
    ("kind", "damage", "episodes"),
    [
        ("joints", datasets.column("observation.state", datasets.with_nan), 2),
        ("joints", datasets.rows(datasets.drop("observation.state")), 3),
    ],
)
def test_the_command_that_a_remedy_prints_mends_the_dataset(copy, monkeypatch, kind, damage, episodes):
    root = copy(kind)
    damage(root)
    before = contents(root)
    run_printed(datasets.look(root)[0], monkeypatch)
    section = datasets.look(root.with_name("set_edited"))[0]
    assert section.facts["episodes"] == episodes
    assert section.findings == []
    assert contents(root) == before


def test_the_command_for_a_blank_task_gives_it_a_text(copy, monkeypatch):
    root = copy("joints")
    datasets.blank_task(root)
    run_printed(datasets.look(root)[0], monkeypatch)
    assert datasets.look(root)[0].findings == []
