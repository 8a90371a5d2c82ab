# SPDX-License-Identifier: Apache-2.0
"""The example of end-effector poses, and the document that tells of it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lerobot_robot_processors.pose_values import PoseSettings

from lerobot_ext.arms.koch import JOINT_NAMES
from lerobot_ext.pipelines.robot_side import RobotSide

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "koch_end_effector.py"
MOTORS = {f"{name}.pos": float for name in JOINT_NAMES}
NAMES = list(PoseSettings().make_keys(gripper=True).names)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_example_records_replays_and_acts_in_poses(tmp_path):
    words = [sys.executable, str(EXAMPLE), "--home", str(tmp_path), "--seconds", "4", "--policy"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=880, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    lines = done.stdout.strip().splitlines()
    found = re.fullmatch(
        r"End-effector example: (\d+) frames recorded as poses, replayed through inverse kinematics, "
        r"(the cube was|no cube was) lifted\.",
        lines[-1],
    )
    assert found
    assert int(found[1]) > 20
    features = json.loads((tmp_path / "dataset" / "meta" / "info.json").read_text())["features"]
    assert features["observation.state"]["names"] == NAMES
    assert features["action"]["names"] == NAMES
    policy = json.loads(
        (tmp_path / "train" / "checkpoints" / "last" / "pretrained_model" / "config.json").read_text()
    )
    assert policy["output_features"]["action"]["shape"] == [7]


def test_the_file_in_the_document_leads_from_joints_to_poses_and_back(tmp_path):
    text = (ROOT / "docs" / "end_effector.md").read_text(encoding="utf-8")
    block = re.search(r"## The file\n+```json\n(.*?)```", text, re.DOTALL)
    assert block
    path = tmp_path / "poses.json"
    path.write_text(block[1], encoding="utf-8")
    spaces = RobotSide.load(path).spaces(MOTORS, {**MOTORS, "top": (96, 96, 3)})
    assert list(spaces.action) == NAMES
    assert list(spaces.observation) == [*NAMES, "top"]


@pytest.mark.parametrize("step", ["lerobot_ext_gamepad_to_end_effector", "lerobot_ext_phone_to_end_effector"])
def test_a_device_in_the_first_place_leads_to_the_same_poses(tmp_path, step):
    path = tmp_path / "poses.json"
    back = [{"registry_name": "lerobot_ext_end_effector_to_joints", "config": {}}]
    first = [{"registry_name": step, "config": {}}]
    path.write_text(
        json.dumps(
            {
                "teleop_action": {"name": "teleop_action", "steps": first},
                "robot_action": {"name": "robot_action", "steps": back},
            }
        ),
        encoding="utf-8",
    )
    assert list(RobotSide.load(path).spaces(MOTORS, MOTORS).action) == NAMES


def test_a_suffix_lets_the_robot_itself_speak_of_poses_in_rollout(tmp_path, caplog):
    from lerobot_ext.pipelines.device import RobotPipelines

    path = tmp_path / "poses.json"
    for suffix, warned in (("", True), (".pos", False)):
        steps = {
            "teleop_action": ("lerobot_ext_joints_to_end_effector", {"convert": "action"}),
            "robot_observation": ("lerobot_ext_joints_to_end_effector", {"convert": "observation"}),
            "robot_action": ("lerobot_ext_end_effector_to_joints", {}),
        }
        made = {
            name: {"name": name, "steps": [{"registry_name": one, "config": {**config, "suffix": suffix}}]}
            for name, (one, config) in steps.items()
        }
        path.write_text(json.dumps(made), encoding="utf-8")
        caplog.clear()
        RobotPipelines(str(path), "koch", MOTORS, MOTORS)
        assert bool([r for r in caplog.records if "leaves out" in r.message]) is warned


def test_every_step_that_the_documents_name_is_registered_and_none_is_left_out():
    from lerobot.processor import ProcessorStepRegistry

    registered = set(ProcessorStepRegistry.list())
    text = (ROOT / "docs" / "end_effector.md").read_text(encoding="utf-8")
    named = set(re.findall(r"lerobot_ext_[a-z_]+", text))
    assert named
    assert named <= registered
    readme = (ROOT / "processors" / "lerobot_robot_processors" / "README.md").read_text(encoding="utf-8")
    section = re.search(r"## Motion\n(.*?)(?=\n## |\Z)", readme, re.DOTALL)
    assert section
    listed = {f"lerobot_ext_{name}" for name in re.findall(r"^\| `([a-z_]+)`", section[1], re.MULTILINE)}
    modules = {ProcessorStepRegistry.get(name).__module__ for name in listed}
    ours = {name for name in registered if ProcessorStepRegistry.get(name).__module__ in modules}
    assert listed == ours
