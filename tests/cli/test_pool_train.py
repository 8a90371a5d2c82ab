# SPDX-License-Identifier: Apache-2.0
"""`lerobot-train` with a memory pool at training size: built for that size, saved so, and resumed."""

import json

import pytest
import torch
from pool_dataset import CAMERAS, write_dataset
from safetensors.torch import load_file
from stock_cli import run
from two_ranks import run_two_ranks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TINY = (
    "--policy.type=act",
    "--policy.dim_model=32",
    "--policy.n_heads=2",
    "--policy.dim_feedforward=32",
    "--policy.n_encoder_layers=1",
    "--policy.use_vae=false",
    "--policy.chunk_size=4",
    "--policy.n_action_steps=4",
    "--policy.pretrained_backbone_weights=null",
    "--policy.device=cpu",
    "--policy.push_to_hub=false",
    "--batch_size=4",
    "--num_workers=2",
)


CHANGED = ("--batch_size", "--num_workers")


def test_training_from_a_pool_of_some_episodes(tmp_path, monkeypatch):
    root = write_dataset(tmp_path / "data")
    monkeypatch.setenv("LEROBOT_EXT_POOL", "0.3MiB:32x48")  # 0.47 MiB would hold all
    ran = run(
        tmp_path,
        "lerobot-train",
        "--dataset.repo_id=user/ten",
        f"--dataset.root={root}",
        "--dataset.video_backend=pyav",
        "--steps=4",
        f"--output_dir={tmp_path / 'out'}",
        *TINY,
        timeout=400,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    said = ran.stdout + ran.stderr
    assert "of 53 frames at a time of 10 episodes" in said
    assert "Traceback" not in ran.stderr
    saved = tmp_path / "out" / "checkpoints" / "000004" / "pretrained_model"
    config = json.loads((saved / "config.json").read_text())
    for camera in CAMERAS:
        assert config["input_features"][camera]["shape"] == [3, 32, 48]
    steps = json.loads((saved / "policy_preprocessor.json").read_text())["steps"]
    [resize] = [step for step in steps if step.get("registry_name") == "image_crop_resize_processor"]
    assert list(resize["config"]["resize_size"]) == [32, 48]


def weights(run_dir, step):
    return load_file(run_dir / f"checkpoints/{step:06d}/pretrained_model/model.safetensors")


def test_two_ranks_share_a_pool_resume_and_learn_what_they_would_without(tmp_path, monkeypatch):
    root = write_dataset(tmp_path / "data")
    words = [
        "--dataset.repo_id=user/ten",
        f"--dataset.root={root}",
        "--dataset.video_backend=pyav",
        *(word for word in TINY if word.split("=")[0] not in CHANGED),
        "--batch_size=2",
        "--num_workers=0",
        "--policy.dropout=0",  # LeRobot resumes the random numbers of rank 0 alone
        "--seed=1",
        "--steps=3",
        "--save_freq=2",
    ]
    without, pooled = tmp_path / "without", tmp_path / "pooled"
    run_two_ranks(tmp_path, *words, f"--output_dir={without}")
    monkeypatch.setenv("LEROBOT_EXT_POOL", "64MiB")
    said = run_two_ranks(tmp_path, *words, f"--output_dir={pooled}")
    assert "camera pictures from memory (LEROBOT_EXT_POOL): all 10 episodes" in said
    expected, found = weights(without, 3), weights(pooled, 3)
    assert all(torch.equal(expected[name], value) for name, value in found.items())

    config = pooled / "checkpoints/000002/pretrained_model/train_config.json"
    run_two_ranks(tmp_path, f"--config_path={config}", "--resume=true")
    again = weights(pooled, 3)
    assert all(torch.equal(expected[name], value) for name, value in again.items())
