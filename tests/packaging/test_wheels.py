# SPDX-License-Identifier: Apache-2.0
"""The built wheels: each plugin keeps the contract of a distribution, and all work together.

A fresh environment holds only our wheels; see `lerobot_ext.testing.environments`.
"""

import json
import subprocess
import zipfile
from pathlib import Path

import pytest
from our_wheels import CORE, FOLDERS, PLUGINS, ROOT

from lerobot_ext.testing import DiscoveryContract
from lerobot_ext.testing.contracts.discovery import program
from lerobot_ext.testing.environments import Environment, Wheel, clean_variables, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

_built: dict[str, Path] = {}


@pytest.fixture(scope="module")
def environment(tmp_path_factory, wheels) -> Environment:
    """An environment that has the core and no plugin."""
    made = Environment(tmp_path_factory.mktemp("environment"), without=FOLDERS)
    made.install(wheels[CORE])
    return made


@pytest.fixture(scope="module", autouse=True)
def _wheels_for_contracts(wheels) -> None:
    """A contract's factory takes no fixtures."""
    _built.update(wheels)


class OurPlugin(DiscoveryContract):
    """A plugin of ours, alone with the core."""

    def make_wheel(self, out):
        return _built[self.distribution]

    def make_environment(self, folder, without):
        made = Environment(folder, without=FOLDERS)
        made.install(_built[CORE])
        return made


class TestCameraPyav(OurPlugin):
    distribution = "lerobot_camera_pyav"
    registers = frozenset({"camera pyav"})


class TestEnvKoch(OurPlugin):
    distribution = "lerobot_env_koch"
    registers = frozenset({"env koch"})


class TestRobotKoch(OurPlugin):
    distribution = "lerobot_robot_koch"
    registers = frozenset(
        {
            "robot koch_follower",
            "robot koch_follower_stock",
            "teleoperator koch_leader",
            "teleoperator koch_leader_stock",
        }
    )


class TestPolicyActPlus(OurPlugin):
    distribution = "lerobot_policy_act_plus"
    registers = frozenset({"policy act_plus", "step lerobot_ext_split_environment_state"})


class TestPolicyHierarchicalDiffusion(OurPlugin):
    distribution = "lerobot_policy_hierarchical_diffusion"
    registers = frozenset({"policy hierarchical_diffusion", "step lerobot_ext_split_environment_state"})


class TestPolicyLapo(OurPlugin):
    distribution = "lerobot_policy_lapo"
    registers = frozenset({"policy lapo", "step lerobot_ext_split_environment_state"})


class TestPolicyQChunking(OurPlugin):
    distribution = "lerobot_policy_q_chunking"
    registers = frozenset({"policy q_chunking", "step lerobot_ext_split_environment_state"})


def test_the_core_alone_changes_no_stock_command_line(environment):
    answer = json.loads(environment.run(program(), CORE).splitlines()[-1])
    assert (answer["registered"], answer["lost"]) == ([], [])


def test_all_plugins_together_are_healthy_and_uninstall_cleanly(environment, wheels):
    before = environment.files()
    environment.install(*(wheels[plugin] for plugin in PLUGINS))
    try:
        report = run(environment.folder / "bin" / "lerobot-ext", "doctor", "--json", env=clean_variables())
    finally:
        for plugin in PLUGINS:
            environment.uninstall(plugin)
    # A note is about the machine, such as FFmpeg that is not there.
    assert [found for found in json.loads(report)["findings"] if found["level"] != "note"] == []
    assert environment.files() == before


def test_a_plugin_that_is_not_there_is_named_with_its_install_line(environment, wheels):
    environment.install(wheels["lerobot_robot_koch"])
    words = [
        "-m",
        "lerobot.scripts.lerobot_train",
        "--dataset.repo_id=a/b",
        "--policy.type=hierarchical_diffusion",
    ]
    try:
        ran = subprocess.run(
            [environment.python, *words], env=clean_variables(), capture_output=True, text=True, timeout=200
        )
    finally:
        environment.uninstall("lerobot_robot_koch")
    assert ran.returncode == 2
    lines = ran.stderr.splitlines()
    first, last = (number for number, line in enumerate(lines) if "lerobot_ext:" in line)
    for ours in (first, last):
        assert lines[ours].endswith("pip install lerobot_policy_hierarchical_diffusion`")
    assert any("invalid choice: 'hierarchical_diffusion'" in line for line in lines[first:last])
    assert last == len(lines) - 1


def test_the_command_works_without_plugins(environment):
    shown = run(environment.folder / "bin" / "lerobot-ext", "--help", env=clean_variables())
    assert "(broken)" not in shown
    assert "doctor" in shown
    assert " sim " not in shown


@pytest.mark.parametrize("name", FOLDERS)
def test_a_wheel_of_ours_is_typed_licensed_and_loaded(wheels, name):
    wheel = Wheel(wheels[name])
    assert f"{name}/py.typed" in wheel.files
    assert wheel.name == name
    assert wheel.packages == [name]
    assert wheel.metadata["License-Expression"] == "Apache-2.0"
    assert wheel.metadata.get_payload().strip(), "no description"
    assert "[lerobot_ext.plugins]" in wheel.entry_points
    assert any(line.startswith("lerobot") and "<0.7" in line and ">=0.6.1" in line for line in wheel.requires)
    assert name == CORE or any(line.startswith(("lerobot_ext", "lerobot-ext")) for line in wheel.requires)


@pytest.mark.parametrize("name", FOLDERS)
def test_no_wheel_names_a_path_of_the_machine_that_built_it(wheels, name):
    with zipfile.ZipFile(wheels[name]) as wheel:
        for path in wheel.namelist():
            assert str(ROOT).encode() not in wheel.read(path), path


class TestRobotProcessors(OurPlugin):
    distribution = "lerobot_robot_processors"
    registers = frozenset(
        f"step lerobot_ext_{name}"
        for name in (
            "absolute_actions",
            "after_normalizer",
            "augment",
            "before_normalizer",
            "crop_resize",
            "depth",
            "depth_inverse",
            "ema_smoothing",
            "end_effector_to_joints",
            "frame_stack",
            "gamepad_to_end_effector",
            "gripper_binary",
            "gripper_value",
            "joints_to_end_effector",
            "jump_guard",
            "labels",
            "leader_displacement",
            "motion_limits",
            "one_euro_smoothing",
            "phone_to_end_effector",
            "relative_actions",
            "rename",
            "workspace_bounds",
        )
    )
