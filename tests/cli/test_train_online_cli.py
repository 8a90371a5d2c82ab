# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext train-online` as a process: killed, resumed, and its checkpoint played by `lerobot-eval`."""

import json
import signal
import subprocess
import time

import pytest
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies.factory import make_policy, make_pre_post_processors
from lerobot_env_koch.demos.recorder import DemoOptions, record_demos
from stock_cli import BIN, environment, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def write_checkpoint(folder, root):
    from lerobot_policy_lapo import LAPOConfig

    dataset = LeRobotDataset("local/reach", root=root, video_backend="pyav")
    torch.manual_seed(0)
    config = LAPOConfig(device="cpu", hidden_dim=16, obs_feature_dim=16, push_to_hub=False)
    policy = make_policy(config, ds_meta=dataset.meta)
    policy.save_pretrained(folder)
    for pipeline in make_pre_post_processors(policy.config, dataset_stats=dataset.meta.stats):
        pipeline.save_pretrained(folder)
    return folder


def test_a_killed_run_is_resumed_and_its_checkpoint_is_for_the_stock_commands(tmp_path):
    root = tmp_path / "data"
    record_demos(DemoOptions("local/reach", root, task="reach", episodes=4, skill="mixed", episode_length=30))
    checkpoint = write_checkpoint(tmp_path / "pretrained_model", root)
    folder = tmp_path / "run"
    words = [
        "train-online",
        f"--policy.path={checkpoint}",
        "--policy.device=cpu",
        "--env.type=koch",
        "--env.task=reach",
        "--env.episode_length=15",
        "--dataset.repo_id=local/reach",
        f"--dataset.root={root}",
        f"--output_dir={folder}",
        "--online_steps=90",
        "--warmup_steps=20",
        "--batch_size=8",
        "--eval_episodes=2",
        "--eval_freq=60",
        "--save_freq=30",
        "--log_freq=30",
    ]
    process = subprocess.Popen(
        [str(BIN / "lerobot-ext"), *words],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        end = time.monotonic() + 500
        while not (folder / "checkpoints" / "last").exists():
            assert process.poll() is None, process.communicate()[0][-3000:]
            assert time.monotonic() < end, "no checkpoint appeared"
            time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()

    resumed = run(
        tmp_path,
        "lerobot-ext",
        "train-online",
        f"--output_dir={folder}",
        "--resume=true",
        "--json",
        timeout=500,
    )
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    told = json.loads(resumed.stdout)
    assert told["finished"]
    assert told["progress"]["env_steps"] >= 90
    assert told["progress"]["updates"] == told["progress"]["env_steps"] - 20
    dataset = LeRobotDataset("online/run", root=folder / "replay", video_backend="pyav")
    assert dataset.num_episodes == told["progress"]["episodes"]
    assert dataset.meta.features["action"]["names"][0] == "shoulder_pan.pos"

    played = run(
        tmp_path,
        "lerobot-eval",
        f"--policy.path={folder}/checkpoints/last/pretrained_model",
        "--policy.device=cpu",
        "--env.type=koch",
        "--env.task=reach",
        "--env.episode_length=5",
        "--eval.n_episodes=1",
        "--eval.batch_size=1",
        "--eval.use_async_envs=false",
        f"--output_dir={tmp_path / 'eval'}",
        timeout=400,
    )
    assert played.returncode == 0, played.stderr[-3000:]
