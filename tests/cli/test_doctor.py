# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext doctor` and the stock command lines among plugins that are broken in every way we know."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import warm_start
from stock_cli import BIN

from lerobot_ext.testing.distributions import write_distribution

pytestmark = pytest.mark.slow

LOADS_THE_REST = "from lerobot_ext.plugins import load_all\nload_all()\n"
CONFIG = """
from dataclasses import dataclass
from lerobot.robots.config import RobotConfig
@RobotConfig.register_subclass("{name}")
@dataclass(kw_only=True)
class ArmConfig(RobotConfig):
    pass
"""
OVERRIDE = """
from dataclasses import dataclass
from lerobot.robots.config import RobotConfig
from lerobot.robots.so_follower import SOFollowerRobotConfig
from lerobot_ext.overrides import replace_choice
name = RobotConfig.get_choice_name(SOFollowerRobotConfig)
@dataclass(kw_only=True)
class {cls}(SOFollowerRobotConfig):
    pass
"""
STEP = """
from lerobot.processor import ObservationProcessorStep, ProcessorStepRegistry
@ProcessorStepRegistry.register("step_zz")
class Step(ObservationProcessorStep):
    def observation(self, observation): return observation
    def transform_features(self, features): return features
"""


def plugin_group(value: str, name: str = "entry_zz") -> dict[str, dict[str, str]]:
    return {"lerobot_ext.plugins": {name: value}}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Path:
    """One plugin for each way to be broken, and two that work."""
    site = tmp_path_factory.mktemp("site")

    def add(name: str, source: str = "", module: str | None = None, **more) -> None:
        write_distribution(site, name, modules={module or name.replace("-", "_"): source}, **more)

    add("lerobot_robot_good_zz", LOADS_THE_REST + CONFIG.format(name="good_zz"))
    add("steps-of-any-name-zz", STEP, "steps_zz", entry_points=plugin_group("steps_zz", "steps_zz"))
    add("lerobot-robot-hyphen-zz")
    add("lerobot_robots_plural_zz")
    add("lerobot_robot_import_zz", "import not_there_zz\n")
    add("lerobot_robot_misnamed_zz", module="other_name_zz")
    add("lerobot_robot_future_zz", "from lerobot import not_yet_there\n", requires=["lerobot>=99"])
    add("lerobot_robot_twin_a_zz", CONFIG.format(name="twin_zz"))
    add("lerobot_robot_twin_b_zz", CONFIG.format(name="twin_zz"))
    add("lerobot_robot_kills_zz", "import os; os._exit(9)\n")
    add(
        "broken-entry-zz",
        "",
        "broken_entry_zz",
        entry_points=plugin_group("broken_entry_zz:gone", "broken_zz"),
    )
    add("broken-command-zz", entry_points={"lerobot_ext.commands": {"command-zz": "not_there_zz:COMMAND"}})
    add(
        "lerobot_robot_override_zz", OVERRIDE.format(cls="Mine") + "replace_choice(RobotConfig, name, Mine)\n"
    )
    add(
        "lerobot_robot_thief_zz",
        "import lerobot_robot_override_zz\n"
        + OVERRIDE.format(cls="Stolen")
        + "RobotConfig._choice_registry[lerobot_robot_override_zz.name] = Stolen\n",
    )
    return site


def run(zoo: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a console script of this environment with the zoo on its path."""
    environment = os.environ | {"PYTHONPATH": str(zoo), "HF_HUB_OFFLINE": "1"}
    return warm_start.run([BIN / command[0], *command[1:]], env=environment, timeout=200)


def test_the_doctor_finds_every_one_of_them(zoo):
    ran = run(zoo, "lerobot-ext", "doctor", "--plugins", "--json")
    assert ran.returncode == 1, ran.stderr
    report = json.loads(ran.stdout)
    assert report["ok"] is False
    found = {(f["subject"], f["kind"]) for f in report["findings"] if f["subject"].endswith("zz")}
    twins = {pair for pair in found if "twin" in pair[0]}
    assert found - twins == {
        ("lerobot-robot-hyphen-zz", "hyphen"),
        ("lerobot_robots_plural_zz", "prefix"),
        ("lerobot_robot_import_zz", "import"),
        ("lerobot_robot_misnamed_zz", "package_name"),
        ("lerobot_robot_future_zz", "window"),
        ("lerobot_robot_future_zz", "import"),
        ("lerobot_robot_kills_zz", "import"),
        ("broken-entry-zz", "entry_point"),
        ("broken-command-zz", "command"),
        ("lerobot_robot_override_zz", "override"),
    }
    # Which twin comes second depends on the order of a directory listing; the other one must be named.
    [(second, kind)] = twins
    assert kind == "clash"
    first = {"lerobot_robot_twin_a_zz", "lerobot_robot_twin_b_zz"} - {second}
    [clash] = [f for f in report["findings"] if f["kind"] == "clash"]
    assert first.pop() in clash["message"]
    assert all(f["remedy"] for f in report["findings"])
    rows = {row["name"]: row for row in report["examined"][0]["plugins"]}
    assert rows["lerobot_robot_good_zz"]["registers"] == ["robot good_zz"]
    assert rows["steps-of-any-name-zz"]["registers"] == ["step step_zz"]
    assert {rows[name]["status"] for name in ("lerobot_robot_good_zz", "steps-of-any-name-zz")} == {"ok"}


@pytest.fixture
def small_zoo(tmp_path) -> Path:
    """A plugin that works, and one of any name that does not."""
    write_distribution(
        tmp_path,
        "lerobot_robot_good_zz",
        modules={"lerobot_robot_good_zz": LOADS_THE_REST + CONFIG.format(name="good_zz")},
    )
    write_distribution(
        tmp_path,
        "broken_zz",
        modules={"broken_zz": "import not_there_zz\n"},
        entry_points=plugin_group("broken_zz", "broken_zz"),
    )
    return tmp_path


def test_a_stock_command_line_says_in_one_line_what_is_broken_and_goes_on(small_zoo):
    ran = run(small_zoo, "lerobot-calibrate", "--help")
    assert ran.returncode == 0, ran.stderr
    assert "good_zz" in ran.stdout
    lines = [line for line in ran.stderr.splitlines() if "broken_zz" in line]
    assert len(lines) == 1
    assert "plugin 'broken_zz' (broken_zz 0.1.0) could not be loaded" in lines[0]
    assert "No module named 'not_there_zz'" in lines[0]
    assert "Remedy: " in lines[0]


def test_an_uninstalled_plugin_takes_exactly_its_own_parts_along(small_zoo):
    for path in (small_zoo / "lerobot_robot_good_zz", small_zoo / "lerobot_robot_good_zz-0.1.0.dist-info"):
        for file in sorted(path.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
        path.rmdir()
    ran = run(small_zoo, "lerobot-calibrate", "--help")
    assert ran.returncode == 0, ran.stderr
    assert "good_zz" not in ran.stdout
    assert "so100_follower" in ran.stdout
