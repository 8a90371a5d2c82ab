# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext quickstart` from end to end, in its smoke size: every stock command really runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def lerobot_ext(*words: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    executable = Path(sys.executable).parent / "lerobot-ext"
    return subprocess.run(
        [str(executable), *words],
        env={**environment, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_smoke_run_does_every_step(tmp_path):
    run = tmp_path / "run"
    result = lerobot_ext("quickstart", "--fast", "--workdir", str(run), timeout_s=850)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]

    figures = json.loads((run / "summary.json").read_text())
    assert figures["recorded_episodes"] == 1
    assert figures["recorded_frames"] > 30
    assert figures["demo_episodes"] == 6
    assert figures["losses"][-1] < figures["losses"][0]
    assert figures["episodes"] == 4
    assert figures["pulled_bytes"] >= figures["pushed_bytes"] > 0
    assert set(figures["seconds"]) == {
        "calibrate", "teleoperate", "record", "demos", "train", "eval", "pull", "rollout"
    }  # fmt: skip
    assert (run / "quickstart.png").read_bytes().startswith(b"\x89PNG")

    # What a user relies on afterwards: the commands to copy, a log a step, both processors pulled back.
    commands = (run / "commands.sh").read_text()
    for name in ("calibrate", "teleoperate", "record", "train", "eval", "rollout"):
        assert f"lerobot-{name} " in commands
    assert {path.stem for path in (run / "logs").iterdir()} >= {
        "bench",
        "calibrate_leader",
        "train",
        "rollout",
    }
    assert (run / "pulled" / "policy_postprocessor.json").exists()
    assert "Could not return" not in (run / "logs" / "rollout.log").read_text()
    # With a new bench at the old places and a Hub at the old address.
    again = subprocess.run(
        ["bash", run / "commands.sh", "calibrate_leader", "teleoperate", "pull"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert again.returncode == 0, again.stdout[-2000:] + again.stderr[-4000:]
    assert (run / "pulled" / "policy_postprocessor.json").exists()
    assert list((run / "earlier").glob("*/pulled/model.safetensors"))


def test_help_shows_an_example():
    result = lerobot_ext("quickstart", "--help", timeout_s=60)
    assert result.returncode == 0
    assert "lerobot-ext quickstart --seed 0" in result.stdout


def test_a_foreign_folder_is_one_clear_line(tmp_path):
    (tmp_path / "thesis.tex").touch()
    result = lerobot_ext("quickstart", "--workdir", str(tmp_path), timeout_s=60)
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        f"lerobot-ext: --workdir {tmp_path} exists and is not a quickstart's.",
        "  remedy: Give a new folder with --workdir.",
    ]
