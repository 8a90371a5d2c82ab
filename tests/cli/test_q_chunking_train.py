# SPDX-License-Identifier: Apache-2.0
"""Q-chunking through the stock command lines: its own flow, and a stock diffusion policy as the actor."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lerobot_env_koch.demos.recorder import DemoOptions, record_demos
from safetensors.torch import load_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = [
    "--policy.type=q_chunking",
    "--policy.device=cpu",
    "--policy.hidden_dim=16",
    "--policy.obs_feature_dim=16",
    "--policy.actor_hidden_dim=16",
    "--policy.chunk_size=4",
    "--policy.n_action_steps=2",
    "--policy.num_samples=3",
    "--policy.num_target_samples=2",
]
DIFFUSION = [
    "--policy.extraction=best_of_n",
    "--policy.actor.type=diffusion",
    "--policy.actor.horizon=8",
    "--policy.actor.n_action_steps=4",
    "--policy.actor.down_dims=[16,32]",
    "--policy.actor.n_groups=4",
    "--policy.actor.num_train_timesteps=10",
    "--policy.actor.num_inference_steps=2",
    "--policy.actor.optimizer_lr=3e-5",
]
LOOP = ["--log_freq=1", "--batch_size=8", "--num_workers=0", "--env_eval_freq=0"]


def run(*words: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [str(Path(sys.executable).parent / words[0]), *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=400)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout if "--json" in words else done.stdout + done.stderr


def logged(text: str) -> dict[int, str]:
    """What was logged of each step, from the loss on, without times and memory."""
    return {
        int(step): re.sub(r"\b(updt_s|data_s|smp/s|eta|lr|mem_\w+):\S+", "", rest)
        for step, rest in re.findall(r"step:(\d+) .*? (loss:.*)", text)
    }


def evaluate(policy: Path, out: Path) -> None:
    run(
        "lerobot-eval",
        f"--policy.path={policy}",
        "--policy.device=cpu",
        "--env.type=koch",
        "--env.task=reach",
        "--env.episode_length=6",
        "--eval.n_episodes=2",
        "--eval.batch_size=2",
        "--eval.use_async_envs=false",
        f"--output_dir={out}",
    )
    overall = json.loads((out / "eval_info.json").read_text())["overall"]
    assert overall["n_episodes"] == 2


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Six short demonstrations of mixed skill, without pictures."""
    root = tmp_path_factory.mktemp("demos") / "mixed"
    record_demos(DemoOptions("local/mixed", root, task="reach", episodes=6, skill="mixed", episode_length=25))
    return ["--dataset.repo_id=local/mixed", f"--dataset.root={root}", "--dataset.eval_split=0.3"]


def test_a_policy_trains_resumes_is_ranked_evaluated_pushed_and_reloaded(dataset, loopback_hub, tmp_path):
    folder = tmp_path / "run"
    text = run(
        "lerobot-train",
        *SMALL,
        *dataset,
        *LOOP,
        "--policy.repo_id=user/chunks",
        "--policy.push_to_hub=true",
        f"--output_dir={folder}",
        "--steps=6",
        "--save_freq=3",
    )
    whole = logged(text)
    assert sorted(whole) == [1, 2, 3, 4, 5, 6]
    assert "terminal_mode auto: success" in text
    for name in ("critic_loss", "bc_loss", "distill_loss", "q_of_actor", "q_spread"):
        assert f"{name}:" in whole[6]
        assert name in (folder / "metrics.csv").read_text().splitlines()[0]
    last = folder / "checkpoints" / "000006" / "pretrained_model"
    final = load_file(last / "model.safetensors")

    middle = folder / "checkpoints" / "000003" / "pretrained_model" / "train_config.json"
    resumed = logged(
        run("lerobot-train", f"--config_path={middle}", "--resume=true", "--policy.push_to_hub=false")
    )
    assert resumed == {step: whole[step] for step in (4, 5, 6)}
    again = load_file(last / "model.safetensors")
    assert again["train_step"] == 6
    assert all(again[name].equal(tensor) for name, tensor in final.items())

    ranking = json.loads(run("lerobot-ext", "fqe", str(folder), "--steps=30", "--members=2", "--json"))
    assert [row["checkpoint"] for row in ranking["rows"]] == ["000003", "000006"]
    assert ranking["starts"] == 2  # the held-out episodes
    best = next(row["checkpoint"] for row in ranking["rows"] if row["best"])
    assert (folder / "checkpoints" / "best").resolve().name == best
    evaluate(folder / "checkpoints" / "best" / "pretrained_model", tmp_path / "eval")

    from lerobot_policy_q_chunking import QChunkingPolicy

    mine = QChunkingPolicy.from_pretrained(last).eval()
    pulled = QChunkingPolicy.from_pretrained("user/chunks").eval()
    observation = {
        name: torch.rand(1, *feature.shape) for name, feature in mine.config.input_features.items()
    }
    actions = []
    for policy in (mine, pulled):
        torch.manual_seed(0)
        actions.append(policy.select_action(observation))
    assert actions[0].equal(actions[1])


def test_a_stock_diffusion_policy_is_the_actor_from_the_command_line(dataset, tmp_path):
    folder = tmp_path / "run"
    text = run(
        "lerobot-train",
        *SMALL,
        *DIFFUSION,
        *dataset,
        *LOOP,
        "--policy.push_to_hub=false",
        f"--output_dir={folder}",
        "--steps=4",
        "--save_freq=2",
    )
    whole = logged(text)
    assert "actor_loss:" in whole[4]
    last = folder / "checkpoints" / "000004" / "pretrained_model"
    config = json.loads((last / "config.json").read_text())
    assert (config["actor"]["type"], config["actor"]["horizon"]) == ("diffusion", 8)
    final = load_file(last / "model.safetensors")
    # Neither a resumed run nor an evaluation names the actor on its command line.
    middle = folder / "checkpoints" / "000002" / "pretrained_model" / "train_config.json"
    assert logged(run("lerobot-train", f"--config_path={middle}", "--resume=true")) == {
        step: whole[step] for step in (3, 4)
    }
    again = load_file(last / "model.safetensors")
    assert all(again[name].equal(tensor) for name, tensor in final.items())
    evaluate(last, tmp_path / "eval")
