# SPDX-License-Identifier: Apache-2.0
"""`lerobot-train` on videos with this plugin: decoded by it in spawned workers, without a page of log."""

import pytest
from stock_cli import run
from video_dataset import write_dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

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
    "--batch_size=2",
    "--steps=1",
    "--save_checkpoint=false",
)


def test_training_decodes_by_ours_and_writes_no_page_about_torchcodec(tmp_path):
    root = write_dataset(tmp_path / "data", "libsvtav1")
    # Only this plugin knows `pyav:HxW`: stock would refuse it in the worker.
    ran = run(
        tmp_path,
        "lerobot-train",
        "--dataset.repo_id=user/small",
        f"--dataset.root={root}",
        "--dataset.video_backend=pyav:32x48",
        "--num_workers=1",
        f"--output_dir={tmp_path / 'out'}",
        *TINY,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    said = [line for line in (ran.stdout + ran.stderr).splitlines() if "torchcodec" in line]
    assert len(said) <= 1, said
    assert "Traceback" not in ran.stderr
