# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext check` on fake plugins: one that is fine, one that kills the process, one that hangs."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import warm_start
from stock_cli import BIN

from lerobot_ext.testing.distributions import write_distribution

pytestmark = pytest.mark.slow

ZOO = """
import os, time
from dataclasses import dataclass
from lerobot.robots.config import RobotConfig
from lerobot.robots.robot import Robot
from lerobot.utils.decorators import check_if_already_connected, check_if_not_connected

class Toy(Robot):
    name = "toy_zz"
    config_class = RobotConfig
    connected = False
    observation_features = action_features = {"joint.pos": float, "claw.pos": float}
    is_calibrated = True
    def __init__(self, config):
        super().__init__(config)
        self.places = dict.fromkeys(self.action_features, 1.0)
    @property
    def is_connected(self): return self.connected
    @check_if_already_connected
    def connect(self, calibrate=True): self.connected = True
    def disconnect(self): self.connected = False
    def calibrate(self): pass
    def configure(self): pass
    @check_if_not_connected
    def get_observation(self): return dict(self.places)
    @check_if_not_connected
    def send_action(self, action):
        sent = {key: float(value) for key, value in action.items() if key in self.places}
        self.places |= sent
        return sent

class Fine(Toy): pass

class Deadly(Toy):
    @check_if_not_connected
    def send_action(self, action):
        print("the driver gives up", flush=True)
        os._exit(3)

class Hanging(Toy):
    @property
    def observation_features(self): time.sleep(1000)

@RobotConfig.register_subclass("fine_zz")
@dataclass(kw_only=True)
class FineConfig(RobotConfig):
    port: str
    speed: int = 1

@RobotConfig.register_subclass("deadly_zz")
@dataclass(kw_only=True)
class DeadlyConfig(RobotConfig): pass

@RobotConfig.register_subclass("hanging_zz")
@dataclass(kw_only=True)
class HangingConfig(RobotConfig): pass
"""
SPEED = "--set=fine_zz.speed=3"
REGISTERS_NOTHING = "VALUE = 1\n"


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Path:
    site = tmp_path_factory.mktemp("site")
    write_distribution(site, "lerobot_robot_zoo_zz", version="1.2.3", modules={"lerobot_robot_zoo_zz": ZOO})
    write_distribution(site, "lerobot_env_empty_zz", modules={"lerobot_env_empty_zz": REGISTERS_NOTHING})
    write_distribution(site, "lerobot_env_torn_zz", modules={"lerobot_env_torn_zz": "import not_there_zz\n"})
    return site


def check(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}
    return warm_start.run([BIN / "lerobot-ext", "check", *words], env=env, timeout=280)


def test_a_plugin_that_dies_or_hangs_costs_one_outcome_each(zoo):
    ran = check(zoo, "lerobot-robot-zoo-zz", "--connect", "--only=robot/*", "--timeout=15", "--json", SPEED)
    assert ran.returncode == 1, ran.stderr
    report = json.loads(ran.stdout)
    assert report["ok"] is False
    assert report["distribution"] == "lerobot_robot_zoo_zz"
    assert report["versions"]["plugins"] == {"lerobot_robot_zoo_zz": "1.2.3"}
    assert {"python", "lerobot", "torch", "lerobot_ext"} < set(report["versions"])
    assert {one["kind"] for one in report["checks"]} == {"robot"}
    robots = {one["choice"]: one for one in report["checks"]}
    status = {
        name: {outcome["rule"]: outcome["status"] for outcome in one["outcomes"]}
        for name, one in robots.items()
    }
    assert set(status) == {"fine_zz", "deadly_zz", "hanging_zz"}
    assert all(set(found) == set(status["fine_zz"]) for found in status.values())  # none is lost

    fine = robots["fine_zz"]
    assert fine["counts"]["failed"] == fine["counts"]["not reached"] == 0
    assert fine["counts"]["passed"] > 20
    assert fine["settings"] == {"speed": "3"}
    assert "no default" in fine["changed"]["port"]

    deadly = {outcome["rule"]: outcome for outcome in robots["deadly_zz"]["outcomes"]}
    first = next(rule for rule, outcome in deadly.items() if outcome["status"] == "failed")
    assert deadly[first]["found"] == "the process ended with status 3 (the driver gives up)"
    assert status["deadly_zz"]["robot/calibration-file-follows-the-id"] == "passed"
    assert status["deadly_zz"]["robot/limits-relative-targets"] == "not reached"

    hanging = {outcome["rule"]: outcome for outcome in robots["hanging_zz"]["outcomes"]}
    assert hanging["robot/observation-features-reach-the-dataset"]["found"] == "did not end within 15 s"
    assert hanging["robot/rollout-uses-every-feature"]["status"] == "not reached"
    assert hanging["robot/refuses-a-second-connect"]["status"] == "passed"


def test_a_choice_is_shown_as_a_table_with_remedies_and_one_line(zoo):
    ran = check(zoo, "--robot.type=fine_zz", "--only=config*", "--only=names-are-set")
    assert ran.returncode == 0, ran.stderr
    assert "robot fine_zz (lerobot_robot_zoo_zz 1.2.3)" in ran.stdout
    assert "set by the check: port: 'lerobot-ext-check'" in ran.stdout
    # `names-are-set` builds on three rules more.
    assert ran.stdout.rstrip().splitlines()[-1] == "fine_zz: 7 passed, 0 failed"
    assert "lerobot 0.6" in ran.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lerobot_env_empty_zz"], "lerobot_env_empty_zz 0.1.0 registers nothing"),
        (["lerobot_robot_zo_zz"], "no distribution 'lerobot_robot_zo_zz' is installed"),
        (["--robot.type=fine_zz", "--only=nonsense"], "no rule is called nonsense"),
    ],
)
def test_what_cannot_be_checked_is_one_clear_line(zoo, words, message):
    ran = check(zoo, *words)
    assert ran.returncode == 2
    assert message in ran.stderr
    assert "remedy: " in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_wrong_name_or_setting_is_the_users_to_mend(zoo):
    ran = check(zoo, "--robot.type=fine_zy", "--robot.type=fine_zz", "--set=fine_zz.sped=3")
    assert ran.returncode == 2
    assert "no RobotConfig is registered as 'fine_zy'" in ran.stdout
    assert "did you mean `fine_zz`?" in ran.stdout
    assert "`sped`" in ran.stdout
    assert "port, speed" in ran.stdout


def test_a_plugin_that_does_not_import_fails_with_the_doctors_words(zoo):
    ran = check(zoo, "lerobot_env_torn_zz")
    assert ran.returncode == 1, ran.stderr
    assert "not_there_zz" in ran.stdout
    assert "remedy: " in ran.stdout


def test_a_policy_of_lerobots_own_is_checked_with_the_settings_that_are_given(zoo):
    sizes = {"dim_model": 32, "n_heads": 2, "dim_feedforward": 64, "chunk_size": 8, "n_action_steps": 4}
    settings = [f"--set={name}={size}" for name, size in sizes.items()]
    ran = check(zoo, "--policy.type=act", *settings, "--only=chunk-has-the-right-shape", "--json")
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    (act,) = report["checks"]
    assert act["distribution"] == "lerobot"
    assert act["settings"] == {name: str(size) for name, size in sizes.items()}
    assert "pretrained_backbone_weights" in act["changed"]
    assert act["counts"]["failed"] == act["counts"]["not reached"] == 0
    assert act["outcomes"][-1]["rule"] == "policy/chunk-has-the-right-shape"
