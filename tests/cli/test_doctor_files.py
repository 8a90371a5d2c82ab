# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext doctor` as a user runs it, on a checkpoint, a dataset and this machine, children and all."""

import json
import subprocess
from pathlib import Path

import pytest
from doctor_faults import checkpoints, datasets
from stock_cli import run

pytestmark = pytest.mark.slow


@pytest.fixture
def broken(tmp_path) -> Path:
    """A checkpoint whose camera lost its statistics, and a dataset without `stats.json`."""
    checkpoints.build(tmp_path / "policy")
    checkpoints.tensors(checkpoints.PRE_STATE, checkpoints.rename_camera)(tmp_path / "policy")
    datasets.record(tmp_path / "set", "video")
    (tmp_path / "set/meta/stats.json").unlink()
    return tmp_path


def doctor(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(home, "lerobot-ext", "doctor", *words, timeout=280)


def test_checkpoint_dataset_and_their_fit_in_one_report_and_fixed(broken):
    words = [f"--policy.path={broken / 'policy'}", f"--dataset.root={broken / 'set'}", "--json"]
    ran = doctor(broken, *words)
    assert ran.returncode == 1, ran.stderr
    report = json.loads(ran.stdout)
    assert [entry["check"] for entry in report["examined"]] == ["checkpoint", "dataset", "fit"]
    assert {(f["check"], f["kind"], f["subject"], f["fix"]) for f in report["findings"]} == {
        ("checkpoint", "stats_name", checkpoints.CAMERA, "rename_stats"),
        ("dataset", "dataset_stats", "meta/stats.json", "recompute_stats"),
        ("fit", "feature_missing", checkpoints.CAMERA, ""),
    }
    assert report["examined"][1]["backends"], "a child decoded the video"
    assert report["examined"][0]["compared"], "a child built the policy"

    ran = doctor(broken, *words[1:], "--fix", "--dry-run")
    assert [(entry["fix"], entry["done"]) for entry in json.loads(ran.stdout)["fixes"]] == [
        ("recompute_stats", False)
    ]
    assert not (broken / "set/meta/stats.json").exists()

    ran = doctor(broken, *words[1:], "--fix")
    assert ran.returncode == 0, "looked at again, it has no problem"
    report = json.loads(ran.stdout)
    assert [(entry["fix"], entry["done"]) for entry in report["fixes"]] == [("recompute_stats", True)]
    assert report["findings"] == []
    assert (broken / "set/meta/stats.json").exists()


def test_all_that_needs_no_argument(tmp_path):
    ran = doctor(tmp_path, "--all", "--json")
    report = json.loads(ran.stdout)
    assert [entry["check"] for entry in report["examined"]] == [
        "plugins",
        "video",
        "recording",
        "gpu",
        "cameras",
        "ports",
    ]
    assert ran.returncode == (0 if report["ok"] else 1)
    assert all(finding["remedy"] for finding in report["findings"])
