# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext guard` as a user runs it: against the LeRobot of today, and against one that changed."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from overlay import add_changed_lerobot, make_overlay

from lerobot_ext.cli.main import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
OUR_PLUGINS = ("lerobot_env_", "lerobot_policy_", "lerobot_robot_", "_lerobot_")


def guard(python: Path, *words: str) -> subprocess.CompletedProcess[str]:
    unwanted = ("PYTHONPATH", "VIRTUAL_ENV")
    env = {key: value for key, value in os.environ.items() if key not in unwanted}
    env |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [python, "-m", "lerobot_ext.cli.main", "guard", *words]
    return subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=800
    )


@pytest.fixture(scope="module")
def plugin(tmp_path_factory) -> Path:
    """The wheel of a new robot, as a folder to import from."""
    folder = tmp_path_factory.mktemp("plugin")
    assert main(["new", "robot", "ant", "--dir", str(folder)]) == 0
    uv = os.environ.get("UV") or shutil.which("uv")
    words = [uv, "build", "--wheel", "--python", sys.executable, "--out-dir"] if uv else []
    words = words or [sys.executable, "-m", "build", "--wheel", "--outdir"]
    subprocess.run([*words, folder, folder / "lerobot_robot_ant"], check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def test_a_newer_lerobot_that_changed_is_told_by_what_it_breaks(plugin, tmp_path):
    today, _ = make_overlay(tmp_path / "today", without=OUR_PLUGINS, paths=[ROOT, plugin])
    newer, links = make_overlay(
        tmp_path / "newer", without=(*OUR_PLUGINS, "lerobot-", "lerobot."), paths=[ROOT, plugin]
    )
    (links / "lerobot").unlink()
    add_changed_lerobot(
        links,
        "0.7.0",
        {
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
        },
    )
    file = tmp_path / "report.md"
    ran = guard(today, "lerobot_robot_ant", "--python", str(newer), "--json", "--report", str(file))
    assert ran.returncode == 1, ran.stderr[-3000:]
    report = json.loads(ran.stdout)
    broke = {(change["subject"], change["rule"]): change["found"] for change in report["broke"]}
    assert "stop" in broke["robot ant", "robot/factory-builds-it"]
    assert ("core", "patch/cameras-have-windows-of-their-own") in broke
    assert len(broke) == 2, broke
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
    if not (os.environ.get("UV") or shutil.which("uv")):
        pytest.skip("without uv's cache everything would be downloaded again")
    from importlib import metadata

    version = metadata.version("lerobot")
    environment = {**os.environ, "UV_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [Path(sys.executable).parent / "lerobot-ext", "guard", "lerobot_robot_koch"]
    ran = subprocess.run(
        [*command, "--against", version, "--json"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    report = json.loads(ran.stdout)
    assert report["summary"].startswith(f"LeRobot {version} against {version}: nothing breaks, ")
    assert report["broken_in_both"] == []
    assert report["notes"] == []
    assert report["holds"] > 30
    kept = [name for name in report["versions"] if not name.startswith(("lerobot", "pip"))]
    assert kept == [], "everything else has the version it has here"
