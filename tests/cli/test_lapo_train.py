# SPDX-License-Identifier: Apache-2.0
"""LAPO through the stock command lines: train, push, resume bit-equal, rank, evaluate, pull and reload."""

from __future__ import annotations

import json
import os
import re

import pytest
import torch
import warm_start
from lerobot_env_koch.demos.recorder import DemoOptions, record_demos
from mixes import entry, write_spec
from rewarded import write_rewarded
from safetensors.torch import load_file
from stock_cli import BIN
from two_ranks import run_two_ranks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = [
    "--policy.type=lapo",
    "--policy.device=cpu",
    "--policy.hidden_dim=16",
    "--policy.obs_feature_dim=16",
    "--policy.image_feature_dim=16",
    "--policy.image_size=[32,32]",
]


def run(*words: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = warm_start.run([BIN / words[0], *words[1:]], env=environment, timeout=250)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout if "--json" in words else done.stdout + done.stderr


def logged(text: str) -> dict[int, str]:
    """What was logged of each step, from the loss on, without times and memory."""
    return {
        int(step): re.sub(r"\b(updt_s|data_s|smp/s|eta|lr|mem_\w+):\S+", "", rest)
        for step, rest in re.findall(r"step:(\d+) .*? (loss:.*)", text)
    }


def test_a_policy_trains_resumes_is_ranked_evaluated_pushed_and_reloaded(loopback_hub, tmp_path):
    root, folder = tmp_path / "data", tmp_path / "run"
    record_demos(
        DemoOptions(
            "local/mixed",
            root,
            task="reach",
            episodes=6,
            skill="mixed",
            images="image",
            image_size=64,
            episode_length=25,
            renderer="painter",
        )
    )
    text = run(
        "lerobot-train",
        *SMALL,
        "--policy.repo_id=user/lapo",
        "--policy.push_to_hub=true",
        "--dataset.repo_id=local/mixed",
        f"--dataset.root={root}",
        "--dataset.eval_split=0.3",
        f"--output_dir={folder}",
        "--steps=6",
        "--save_freq=3",
        "--log_freq=1",
        "--batch_size=4",
        "--num_workers=0",
        "--env_eval_freq=0",
    )
    whole = logged(text)
    assert sorted(whole) == [1, 2, 3, 4, 5, 6]
    assert "terminal_mode auto: success" in text
    for name in ("critic_loss", "value_loss", "reconstruction", "kl", "q_of_actor", "positive_advantage"):
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
    pointed = folder / "checkpoints" / "best"
    assert pointed.resolve().name == best
    assert json.loads((folder / "fqe.json").read_text()) == ranking

    run(
        "lerobot-eval",
        f"--policy.path={pointed}/pretrained_model",
        "--policy.device=cpu",
        "--env.type=koch",
        "--env.task=reach",
        "--env.obs=state_pixels",
        "--env.renderer=painter",
        "--env.episode_length=6",
        "--eval.n_episodes=1",
        "--eval.batch_size=1",
        "--eval.use_async_envs=false",
        f"--output_dir={tmp_path / 'eval'}",
    )
    assert "pc_success" in json.loads((tmp_path / "eval" / "eval_info.json").read_text())["overall"]

    from lerobot_policy_lapo import LAPOPolicy

    mine, pulled = LAPOPolicy.from_pretrained(last).eval(), LAPOPolicy.from_pretrained("user/lapo").eval()
    observation = {
        name: torch.rand(1, *feature.shape) for name, feature in mine.config.input_features.items()
    }
    assert mine.select_action(observation).equal(pulled.select_action(observation))


def test_a_recipe_is_a_configuration_of_the_stock_trainer(tmp_path):
    """It is read and completed by the command line; the missing dataset is what it then fails for."""
    recipe = tmp_path / "small.yaml"
    assert f"--config_path={recipe}" in run("lerobot-ext", "lapo-recipe", "small", "--out", str(recipe))
    done = warm_start.run(
        [
            BIN / "lerobot-train",
            f"--config_path={recipe}",
            "--dataset.repo_id=local/missing",
            f"--dataset.root={tmp_path / 'missing'}",
            f"--output_dir={tmp_path / 'run'}",
            "--policy.push_to_hub=false",
            "--policy.device=cpu",
        ],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        timeout=250,
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "'expectile': 0.95" in said  # the trainer prints its configuration
    assert "missing" in said


def test_two_ranks_train_on_a_mix_in_bfloat16(tmp_path):
    """Every network learns, the slow ones follow, and both ranks know the ends of the episodes."""
    write_rewarded(tmp_path / "a", (4, 5, 6), (True, False, True))
    write_rewarded(tmp_path / "b", (7, 3), (False, True))
    mix = write_spec(tmp_path / "mix.yaml", entry(tmp_path / "a"), entry(tmp_path / "b"), weights="by_frames")
    said = run_two_ranks(
        tmp_path,
        *SMALL,
        "--policy.use_amp=true",
        "--policy.chunk_size=2",
        "--policy.n_action_steps=2",
        "--policy.push_to_hub=false",
        f"--dataset.repo_id={mix}",
        f"--output_dir={tmp_path / 'run'}",
        "--steps=3",
        "--save_freq=1",
        "--log_freq=1",
        "--batch_size=4",
        "--num_workers=0",
        "--env_eval_freq=0",
    )
    assert "5 episodes, 3 end in a terminal state (terminal_mode auto: success)" in said
    assert "q_of_actor:" in said
    first, last = (
        load_file(tmp_path / "run" / "checkpoints" / step / "pretrained_model" / "model.safetensors")
        for step in ("000001", "000003")
    )
    assert (first["train_step"], last["train_step"]) == (1, 3)
    moved = {name for name in last if not last[name].equal(first[name])}
    assert {name for name in last if name.startswith(("network.", "target."))} <= moved
    assert all(tensor.isfinite().all() for tensor in last.values())
