# SPDX-License-Identifier: Apache-2.0
"""Stock `lerobot-train` with `--policy.type=hierarchical_diffusion`: help, training, the log, resume."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import warm_start
from safetensors.torch import load_file
from stock_cli import BIN
from two_ranks import run_two_ranks

pytestmark = pytest.mark.slow

SMALL = [
    "--policy.type=hierarchical_diffusion",
    "--policy.device=cpu",
    "--policy.push_to_hub=false",
    "--policy.manipulation_dim=16",
    "--policy.denoiser_dim=32",
    "--policy.condition_dim=16",
    "--policy.image_size=[32,32]",
]


def lerobot_train(*arguments: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    done = warm_start.run([BIN / "lerobot-train", *arguments], env=environment, timeout=250)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


def losses(log: str) -> dict[int, tuple[str, ...]]:
    """The loss and its parts at each logged step, as printed."""
    lines = re.findall(r"step:(\d+) .*? loss:(\S+) .*?(diffusion_loss:.*)", log)
    return {int(step): (loss, *re.findall(r"_loss:(\S+)", parts)) for step, loss, parts in lines}


@pytest.fixture
def dataset(tmp_path: Path) -> list[str]:
    """A dataset with state, environment state and a camera, and the arguments that name it."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    widths = {"observation.state": 5, "observation.environment_state": 2, "action": 5}
    features = {key: {"dtype": "float32", "shape": (n,), "names": None} for key, n in widths.items()}
    features["observation.images.top"] = {
        "dtype": "image",
        "shape": (32, 40, 3),
        "names": ["height", "width", "channels"],
    }
    root = tmp_path / "data"
    made = LeRobotDataset.create("user/tiny", 10, features, root=root, use_videos=False)
    generator = np.random.default_rng(0)
    for _ in range(2):
        for _ in range(24):
            frame = {key: generator.normal(size=n).astype(np.float32) for key, n in widths.items()}
            frame["observation.images.top"] = generator.integers(0, 255, (32, 40, 3), dtype=np.uint8)
            made.add_frame({**frame, "task": "wave"})
        made.save_episode()
    made.finalize()
    return ["--dataset.repo_id=user/tiny", f"--dataset.root={root}"]


def test_help_lists_the_policy_and_its_fields():
    text = lerobot_train("--policy.type=hierarchical_diffusion", "--help")
    assert "--policy.num_inference_steps" in text
    assert "--policy.layer_weights" in text


def test_resume_continues_the_uninterrupted_run(dataset: list[str], tmp_path: Path):
    run = tmp_path / "run"
    log = lerobot_train(
        *SMALL,
        *dataset,
        f"--output_dir={run}",
        "--steps=6",
        "--save_freq=3",
        "--log_freq=1",
        "--batch_size=4",
        "--num_workers=0",
        "--env_eval_freq=0",
    )
    whole = losses(log)
    assert sorted(whole) == [1, 2, 3, 4, 5, 6]
    assert all(len(parts) == 6 for parts in whole.values())  # loss, diffusion and four layers
    for name in ("safety", "dynamics", "manipulation", "planning"):
        assert f"hierarchical/{name}_loss:" in log
    middle = run / "checkpoints" / "000003" / "pretrained_model"
    assert load_file(middle / "model.safetensors")["train_step"] == 3

    resumed = losses(lerobot_train(f"--config_path={middle}/train_config.json", "--resume=true"))
    assert sorted(resumed) == [4, 5, 6]
    assert resumed == {step: whole[step] for step in (4, 5, 6)}
    last = run / "checkpoints" / "last" / "pretrained_model"
    assert load_file(last / "model.safetensors")["train_step"] == 6


def test_two_ranks_train_every_layer(dataset: list[str], tmp_path: Path):
    run = tmp_path / "ranks"
    said = run_two_ranks(
        tmp_path,
        *SMALL,
        *dataset,
        f"--output_dir={run}",
        "--steps=3",
        "--save_freq=3",
        "--log_freq=1",
        "--batch_size=4",
        "--num_workers=0",
        "--env_eval_freq=0",
        '--policy.curriculum=[{"name": "a", "layers": ["manipulation"], "steps": 1}, '
        '{"name": "b", "layers": ["safety", "dynamics", "manipulation", "planning"]}]',
    )
    assert "hierarchical/planning_loss:" in said
    weights = load_file(run / "checkpoints" / "last" / "pretrained_model" / "model.safetensors")
    assert weights["train_step"] == 3
    assert weights["network.stage_weights"].tolist() == [1.0] * 4
    assert all(tensor.isfinite().all() for name, tensor in weights.items() if name.endswith("weight"))
