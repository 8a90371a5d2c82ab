# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext guard` as a user runs it: against the LeRobot of today, and against one that changed."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from changed_lerobot import put_changed_lerobot

from lerobot_ext.cli.main import main
from lerobot_ext.testing.contracts.discovery import wheel_of
from lerobot_ext.testing.environments import Environment, clean_variables, uv

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

OURS = ("lerobot_ext", "lerobot_env_koch", "lerobot_policy_hierarchical_diffusion", "lerobot_robot_koch")
CHANGES = {
    # A new duty of every robot, and a function of which we wrap the parameters by name.
    "robots/robot.py": (
        "    @abc.abstractmethod\n    def disconnect(self)",
        "    @abc.abstractmethod\n    def stop(self) -> None: ...\n\n"
        "    @abc.abstractmethod\n    def disconnect(self)",
    ),
    "datasets/factory.py": (
        "def resolve_delta_timestamps(\n    cfg: PreTrainedConfig",
        "def resolve_delta_timestamps(\n    policy_config: PreTrainedConfig",
    ),
}


@pytest.fixture
def wheels(tmp_path) -> list[Path]:
    """Of the core, and of a new robot."""
    assert main(["new", "robot", "ant", "--dir", str(tmp_path)]) == 0
    return [wheel_of("lerobot_ext", tmp_path), wheel_of(tmp_path / "lerobot_robot_ant", tmp_path)]


def test_a_newer_lerobot_that_changed_is_told_by_what_it_breaks(wheels, tmp_path):
    today = Environment(tmp_path / "today", OURS)
    newer = Environment(tmp_path / "newer", (*OURS, "lerobot"))
    put_changed_lerobot(newer.site, "0.7.0", CHANGES)
    for environment in (today, newer):
        environment.install(*wheels)
    file = tmp_path / "report.md"
    words = ["-m", "lerobot_ext.cli.main", "guard", "lerobot_robot_ant", "--json"]
    ran = subprocess.run(
        [today.python, *words, "--python", newer.python, "--report", file],
        env=clean_variables(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1700,
    )
    assert ran.returncode == 1, ran.stderr[-3000:]
    report = json.loads(ran.stdout)
    broke = {(change["subject"], change["rule"]): change["found"] for change in report["broke"]}
    assert "stop" in broke["robot ant", "robot/factory-builds-it"]
    # The function does not even run as it stands there, and a mix calls it.
    patches = {"patch/cameras-have-windows-of-their-own", "patch/datasets-can-be-mixed"}
    assert set(broke) == {("robot ant", "robot/factory-builds-it"), *(("core", rule) for rule in patches)}
    assert report["holds"] > 10
    assert report["versions"] == {"lerobot": [report["baseline"]["versions"]["lerobot"], "0.7.0"]}
    assert [note.partition(" asks for")[0] for note in report["notes"]] == [
        "lerobot_ext",
        "lerobot_robot_ant",
    ]
    text = file.read_text()
    assert text.startswith("## LeRobot 0.7.0 against ")
    assert "| robot ant: robot/factory-builds-it | holds | broken |" in text


def test_the_lerobot_of_today_breaks_nothing(tmp_path):
    if uv() is None:
        pytest.skip("without uv's cache everything would be downloaded again")
    version = metadata.version("lerobot")
    command = [Path(sys.executable).parent / "lerobot-ext", "guard", "lerobot_robot_koch"]

    def run(**variables):
        return subprocess.run(
            [*command, "--against", version, "--json"],
            env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1700,
        )

    ran = run(UV_OFFLINE="1")
    if "the network was disabled" in ran.stdout + ran.stderr:
        # uv 0.13 may know a wheel of its cache by another platform's metadata only, and then asks for them.
        ran = run()
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    report = json.loads(ran.stdout)
    assert report["summary"].startswith(f"LeRobot {version} against {version}: nothing breaks, ")
    assert report["broke"] == report["mended"] == report["follows"] == []
    assert report["notes"] == []
    assert report["holds"] > 30
    kept = [name for name in report["versions"] if not name.startswith(("lerobot", "pip"))]
    assert kept == [], "everything else has the version it has here"
