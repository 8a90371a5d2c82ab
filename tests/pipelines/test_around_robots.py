# SPDX-License-Identifier: Apache-2.0
"""`LEROBOT_EXT_PIPELINES` around a toy robot: LeRobot's own record, replay, teleoperate, in this process."""

import numpy as np
import pytest
import toy_devices
from lerobot.configs.dataset import DatasetRecordConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.scripts import lerobot_record, lerobot_replay, lerobot_teleoperate
from step_files import step, write, write_hand

from lerobot_ext.pipelines import defaults, episodes
from lerobot_ext.pipelines.file import PipelineError
from lerobot_ext.pipelines.running import StepError


@pytest.fixture(autouse=True)
def stock_afterwards(monkeypatch):
    # Stock recording counts a robot's cameras; no robot has to have the attribute.
    monkeypatch.setattr(toy_devices.ToyRobot, "cameras", {}, raising=False)
    yield
    defaults.uninstall()
    episodes.uninstall()


@pytest.fixture
def sent(monkeypatch):
    """What the toy robot's motors got."""
    got = []
    stock = toy_devices.ToyRobot.send_action
    monkeypatch.setattr(
        toy_devices.ToyRobot, "send_action", lambda self, a: got.append(dict(a)) or stock(self, a)
    )
    return got


def record(root, episodes_wanted=1, seconds=0.25):
    dataset = DatasetRecordConfig(
        repo_id="user/toy",
        single_task="wave",
        root=root,
        fps=20,
        episode_time_s=seconds,
        reset_time_s=0.1,
        num_episodes=episodes_wanted,
        video=False,
        push_to_hub=False,
    )
    robot, teleop = toy_devices.ToyRobotConfig(), toy_devices.ToyTeleoperatorConfig()
    config = lerobot_record.RecordConfig(robot=robot, teleop=teleop, dataset=dataset, play_sounds=False)
    made = lerobot_record.record(config)
    return LeRobotDataset(made.repo_id, root=made.root)


def test_the_dataset_is_in_one_space_and_the_motors_in_another(tmp_path, sent):
    assert defaults.install(write_hand(tmp_path / "p.json"))
    dataset = record(tmp_path / "data")
    assert dataset.features["action"]["names"] == ["hand.x.pos", "hand.y.pos"]
    assert dataset.features["observation.state"]["names"] == ["arm.pos", "claw.pos", "hand.x.pos"]
    assert dataset.features["observation.images.eye"]["shape"] == (2, 3, 3)
    rows = dataset.hf_dataset.with_format("numpy")
    assert np.allclose(np.stack(rows["action"]), [3.0, -1.0])
    assert np.allclose(np.stack(rows["observation.state"])[1:, 2], 3.0)
    assert sent
    assert all(one == {"arm.pos": 1.0, "claw.pos": 2.0} for one in sent)


def test_a_replay_goes_back_through_the_steps(tmp_path, sent):
    assert defaults.install(write_hand(tmp_path / "p.json"))
    dataset = record(tmp_path / "data")
    sent.clear()
    words = lerobot_replay.DatasetReplayConfig(repo_id=dataset.repo_id, episode=0, root=dataset.root)
    lerobot_replay.replay(
        lerobot_replay.ReplayConfig(robot=toy_devices.ToyRobotConfig(), dataset=words, play_sounds=False)
    )
    assert len(sent) == dataset.num_frames
    assert sent[0] == {"arm.pos": 1.0, "claw.pos": 2.0}


def test_steps_forget_between_episodes(tmp_path):
    assert defaults.install(write(tmp_path / "p.json", teleop_action=[step("Count")]))
    dataset = record(tmp_path / "data", episodes_wanted=2)
    rows = dataset.hf_dataset.with_format("numpy")
    starts = [i for i, frame in enumerate(rows["frame_index"]) if frame == 0]
    assert len(starts) == 2
    assert all(rows["action"][start][0] == 1.0 for start in starts)
    assert rows["action"][1][0] == 2.0


def test_a_failing_step_ends_the_recording_before_anything_is_sent(tmp_path, sent):
    assert defaults.install(write(tmp_path / "p.json", robot_action=[step("Fail")]))
    with pytest.raises(StepError, match="no way"):
        record(tmp_path / "data")
    assert sent == []


@pytest.mark.parametrize(
    ("pipelines", "says"),
    [
        ({"teleop_action": [step("JointsToHand")]}, "add `robot_action`"),
        ({"robot_action": [step("no_such_step")]}, "no registered step"),
    ],
)
def test_a_wrong_file_ends_the_command_before_it_connects(tmp_path, monkeypatch, pipelines, says):
    def connect(self, calibrate=True):
        raise AssertionError("connected")

    monkeypatch.setattr(toy_devices.ToyRobot, "connect", connect)
    monkeypatch.setattr(toy_devices.ToyTeleoperator, "connect", connect)
    assert defaults.install(write(tmp_path / "p.json", **pipelines))
    with pytest.raises(PipelineError, match=says):
        record(tmp_path / "data")
    config = lerobot_teleoperate.TeleoperateConfig(
        robot=toy_devices.ToyRobotConfig(), teleop=toy_devices.ToyTeleoperatorConfig(), teleop_time_s=0.1
    )
    with pytest.raises(PipelineError, match=says):
        lerobot_teleoperate.teleoperate(config)


def test_a_rollout_names_actions_as_the_dataset_does(tmp_path):
    from lerobot.rollout import context

    assert defaults.install(write_hand(tmp_path / "p.json"))
    assert context._resolve_action_key_order(None, ["arm.pos", "claw.pos"]) == ["hand.x.pos", "hand.y.pos"]
    defaults.uninstall()
    assert context._resolve_action_key_order(None, ["arm.pos", "claw.pos"]) == ["arm.pos", "claw.pos"]


def test_one_file_in_both_places_is_refused(tmp_path):
    path = write(tmp_path / "p.json", robot_action=[step("Scale")])
    assert defaults.install(path)
    robot = toy_devices.ToyRobot(toy_devices.ToyRobotConfig())
    robot.config.pipeline = str(path)
    with pytest.raises(PipelineError, match="would run twice"):
        defaults._refuse_twice(robot, path)


def test_stock_is_stock_again_afterwards(tmp_path):
    from lerobot.processor import factory

    before = factory.make_default_robot_action_processor, lerobot_replay.make_default_robot_action_processor
    assert defaults.install(write(tmp_path / "p.json", robot_action=[step("Scale")]))
    assert lerobot_replay.make_default_robot_action_processor is not before[1]
    defaults.uninstall()
    after = factory.make_default_robot_action_processor, lerobot_replay.make_default_robot_action_processor
    assert after == before
