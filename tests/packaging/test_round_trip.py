# SPDX-License-Identifier: Apache-2.0
"""From `lerobot-train` to a Hub, and from there into a fresh environment that drives an arm.

The environment has the wheels it is given and nothing else of ours. Without the policy's wheel it is told
what to install; with it, it runs what it pulled.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import stock_cli
import warm_start
from our_wheels import CORE, FOLDERS

from lerobot_ext.testing.environments import Environment, clean_variables
from lerobot_ext.testing.hub import HubServer, client_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

POLICY = "lerobot_policy_hierarchical_diffusion"
ROBOT = "lerobot_robot_koch"
REPO = "user/lift"


@dataclass
class Trip:
    """What a traveller needs: where the policy was pushed to, and a place to arrive at."""

    server: HubServer
    home: Path
    environment: Environment

    def hub_variables(self, name: str) -> dict[str, str]:
        return client_environment(self.server.url, self.home / name)

    def arrive(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run Python of the fresh environment, with a Hub client of its own."""
        variables = clean_variables() | self.hub_variables("fresh")
        variables |= {"HF_LEROBOT_HOME": str(self.home), "COLUMNS": "250"}
        return subprocess.run(
            [str(self.environment.python), *words],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
        )

    def lerobot_ext(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.arrive("-m", "lerobot_ext.cli.main", *words)

    def rollout(self, path: str, *words: str) -> subprocess.CompletedProcess[str]:
        return self.arrive(
            "-m",
            "lerobot.scripts.lerobot_rollout",
            "--strategy.type=base",
            f"--policy.path={path}",
            "--policy.device=cpu",
            "--robot.type=koch_follower",
            *words,
        )


@pytest.fixture(scope="module")
def trip(tmp_path_factory, wheels) -> Iterator[Trip]:
    """A policy, trained for three steps here and pushed by stock `lerobot-train`."""
    home = tmp_path_factory.mktemp("trip")
    environment = Environment(tmp_path_factory.mktemp("fresh"), without=FOLDERS)
    environment.install(wheels[CORE], wheels[ROBOT])
    demos = stock_cli.run(home, "lerobot-ext", "demos", "--task=lift", "--repo_id=local/lift",
                          f"--root={home / 'demos'}", "--episodes=2")  # fmt: skip
    assert demos.returncode == 0, demos.stderr[-2000:]
    with HubServer(home / "hub") as server:
        made = Trip(server, home, environment)
        trained = warm_start.run(
            [
                stock_cli.BIN / "lerobot-train",
                "--dataset.repo_id=local/lift",
                f"--dataset.root={home / 'demos'}",
                "--policy.type=hierarchical_diffusion",
                "--policy.device=cpu",
                "--policy.manipulation_dim=16",
                "--policy.denoiser_dim=32",
                "--policy.condition_dim=16",
                "--policy.push_to_hub=true",
                f"--policy.repo_id={REPO}",
                "--batch_size=4",
                "--steps=3",
                "--num_workers=0",
                "--env.type=koch",
                "--env.task=lift",
                "--env.obs=state",
                "--env_eval_freq=3",
                "--eval.n_episodes=2",
                "--eval.batch_size=2",
                "--eval.use_async_envs=false",
                f"--output_dir={home / 'train'}",
            ],
            env=stock_cli.environment(home) | made.hub_variables("trainer"),
            timeout=240,
        )
        assert trained.returncode == 0, (trained.stdout + trained.stderr)[-3000:]
        yield made


def test_the_card_has_the_evaluation_that_the_training_made(trip):
    _, commit = trip.server.store.resolve("model", REPO, "main")
    card = trip.server.store.blob_path(commit.files["README.md"].sha256).read_text()
    assert re.search(r"\| koch \| 3 \| \d/2 \| \d+\.0 % \(\d+-\d+ %\) \|", card)
    assert "lerobot-eval" in card
    assert "--env.type=koch --env.task=lift" in card
    assert "The environment comes from `lerobot_env_koch==0.1.0`" in card
    assert "training.png" in commit.files


def test_without_the_policys_wheel_pull_names_it_and_downloads_no_weights(trip):
    pulled = trip.lerobot_ext("pull", f"--policy.path={REPO}", "--json")
    assert pulled.returncode == 3, pulled.stderr
    report = json.loads(pulled.stdout)
    assert report["missing"] == [POLICY]
    assert report["install"] == f"pip install {POLICY}==0.1.0"
    assert not list((trip.home / "fresh").rglob("model.safetensors"))


def test_without_the_policys_wheel_rollout_names_it_too(trip):
    ran = trip.rollout(REPO, "--robot.port=/dev/null", "--duration=1")
    assert ran.returncode != 0
    assert f"Remedy: `pip install {POLICY}==0.1.0`" in ran.stderr


def test_with_it_the_pulled_policy_drives_the_virtual_arm(trip, wheels):
    trip.environment.install(wheels[POLICY])
    pulled = trip.lerobot_ext("pull", f"--policy.path={REPO}", "--to", str(trip.home / "pulled"), "--json")
    assert pulled.returncode == 0, pulled.stderr + pulled.stdout
    report = json.loads(pulled.stdout)
    assert (report["missing"], report["other_version"]) == ([], [])
    assert {package["name"] for package in report["packages"]} == {CORE, "lerobot", POLICY}
    assert report["commands"][0].startswith("lerobot-rollout ")
    with stock_cli.sim(trip.home, "--calibrated", "--hand=idle") as ready:
        ran = trip.rollout(
            report["folder"],
            f"--robot.port={ready['ports']['follower']}",
            "--robot.id=sim_follower",
            f"--robot.give_up_ms={stock_cli.PATIENCE_MS}",
            f"--robot.tracker.address={ready['tracker']['address']}",
            "--task=Lift the red cube.",
            "--fps=30",
            "--duration=2",
        )
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-3000:]
    read = re.search(r"of (\d+) reads", ran.stdout + ran.stderr)
    assert read is not None, (ran.stdout + ran.stderr)[-3000:]
    assert int(read[1]) >= 10, "the policy was asked for no action"
