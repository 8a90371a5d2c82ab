# SPDX-License-Identifier: Apache-2.0
"""act_plus through the stock command lines: presets, training, resuming, evaluation, real-time rollout."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from lerobot_env_koch.bench.control import BenchClient
from lerobot_env_koch.demos.recorder import DemoOptions, record_demos
from lerobot_policy_act_plus.command import presets
from safetensors.torch import load_file
from stock_cli import PATIENCE_MS, START_S, run, sim
from two_ranks import run_two_ranks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = [
    "--policy.device=cpu",
    "--policy.push_to_hub=false",
    "--policy.dim_model=16",
    "--policy.n_heads=2",
    "--policy.dim_feedforward=16",
    "--policy.n_encoder_layers=1",
    "--policy.pretrained_backbone_weights=null",
    "--batch_size=4",
    "--num_workers=0",
    "--env_eval_freq=0",
    "--log_freq=1",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("act_plus")


@pytest.fixture(scope="module")
def dataset(home: Path) -> list[str]:
    """Demonstrations of `choose`: two instructions."""
    root = home / "demos"
    record_demos(DemoOptions("local/choose", root, task="choose", episodes=4))
    return ["--dataset.repo_id=local/choose", f"--dataset.root={root}"]


@pytest.fixture(scope="module")
def trained(home: Path, dataset: list[str]) -> tuple[Path, str]:
    """A real-time policy that reads, trained from its preset for four steps, and the log."""
    words = ["--steps=4", "--save_freq=2", f"--output_dir={home / 'run'}", "--policy.task_conditioning=text"]
    preset = run(home, "lerobot-ext", "presets", "act_rtc").stdout.strip()
    assert Path(preset) == presets()["act_rtc"]
    done = run(home, "lerobot-train", f"--config_path={preset}", *dataset, *SMALL, *words)
    assert done.returncode == 0, done.stderr[-3000:]
    return home / "run" / "checkpoints", done.stdout + done.stderr


def losses(log: str) -> dict[int, list[str]]:
    """What was logged of each step, as printed."""
    return {
        int(step): re.findall(r"(?:loss|l1_loss|kld_loss):(\S+)", rest)
        for step, rest in re.findall(r"step:(\d+) (.*)", log)
    }


def test_a_preset_trains_and_its_fields_are_saved(trained):
    checkpoints, log = trained
    assert sorted(losses(log)) == [1, 2, 3, 4]
    assert "l1_loss:" in log
    assert "kld_loss:" in log
    config = json.loads((checkpoints / "last/pretrained_model/config.json").read_text())
    assert (config["type"], config["prefix_steps"], config["task_conditioning"]) == ("act_plus", 15, "text")


def test_resume_continues_the_uninterrupted_run(home, trained):
    checkpoints, log = trained
    last = checkpoints / "000004/pretrained_model/model.safetensors"
    whole = load_file(last)
    path = checkpoints / "000002/pretrained_model/train_config.json"
    done = run(home, "lerobot-train", f"--config_path={path}", "--resume=true")
    assert done.returncode == 0, done.stderr[-3000:]
    resumed = losses(done.stdout + done.stderr)
    assert resumed == {step: losses(log)[step] for step in (3, 4)}
    assert all(torch.equal(weight, whole[name]) for name, weight in load_file(last).items())


def test_stock_eval_plays_both_instructions(home, trained):
    checkpoints, _ = trained
    done = run(
        home,
        "lerobot-eval",
        f"--policy.path={checkpoints / 'last/pretrained_model'}",
        "--policy.device=cpu",
        "--env.type=koch",
        "--env.task=choose",
        "--env.episode_length=20",
        "--eval.n_episodes=4",
        "--eval.batch_size=2",
        "--eval.use_async_envs=false",
        f"--output_dir={home / 'eval'}",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    [info] = (home / "eval").rglob("eval_info.json")
    assert len(json.loads(info.read_text())["per_task"][0]["metrics"]["successes"]) == 4


def test_real_time_rollout_drives_the_virtual_arm(home, trained):
    checkpoints, _ = trained
    with (
        sim(home, "--cameras", "none", "--hand", "idle", "--calibrated") as ready,
        BenchClient(ready["control_socket"]) as bench,
    ):
        before = bench.request("status")
        done = run(
            home,
            "lerobot-rollout",
            "--robot.type=koch_follower",
            f"--robot.port={ready['ports']['follower']}",
            "--robot.id=sim_follower",
            f"--robot.give_up_ms={PATIENCE_MS}",
            f"--robot.tracker.address={ready['tracker']['address']}",
            f"--policy.path={checkpoints / 'last/pretrained_model'}",
            "--policy.device=cpu",
            "--inference.type=rtc",
            "--inference.rtc.execution_horizon=20",
            "--strategy.type=base",
            "--task=Move the gripper to the left of the green goal.",
            "--duration=4",
            "--fps=30",
            "--play_sounds=false",
            "--return_to_initial_position=false",
            timeout=2 * START_S,
        )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    assert "RTC inference error" not in said
    assert before


def test_stock_sample_weights_train_it(home, dataset):
    frames = pd.concat(pd.read_parquet(file) for file in sorted((home / "demos/data").rglob("*.parquet")))
    progress = frames[["index", "episode_index"]].copy()
    length = frames.groupby("episode_index")["frame_index"].transform("max")
    progress["progress_sparse"] = frames["frame_index"] / length
    progress.to_parquet(home / "progress.parquet")
    weighting = [
        "--sample_weighting.type=rabc",
        f"--sample_weighting.progress_path={home / 'progress.parquet'}",
    ]
    words = ["--policy.type=act_plus", "--policy.chunk_size=8", "--policy.n_action_steps=8", "--steps=2"]
    done = run(
        home, "lerobot-train", *dataset, *SMALL, *words, *weighting, f"--output_dir={home / 'weighted'}"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "sample_weight_" in done.stdout + done.stderr


def test_two_ranks_train_every_part(home, dataset):
    words = [
        "--policy.type=act_plus",
        "--policy.use_vae=false",
        "--policy.head=flow",
        "--policy.flow_start=draft",
        "--policy.prefix_steps=4",
        "--policy.chunk_size=8",
        "--policy.n_action_steps=8",
        "--policy.task_conditioning=index",
        "--steps=2",
    ]
    said = run_two_ranks(home, *dataset, *SMALL, *words, f"--output_dir={home / 'ranks'}")
    assert "flow_loss:" in said
    config = json.loads((home / "ranks/checkpoints/last/pretrained_model/config.json").read_text())
    assert len(config["task_names"]) == 2
