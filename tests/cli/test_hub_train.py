# SPDX-License-Identifier: Apache-2.0
"""Stock `lerobot-train` pushes a policy to a loopback Hub, and a fresh process runs what it pulled."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from lerobot_ext.testing.distributions import write_distribution
from lerobot_ext.testing.hub import HubServer, client_environment

pytestmark = pytest.mark.slow


def write_dataset(root: Path) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    widths = {"observation.state": 3, "observation.environment_state": 2, "action": 3}
    features = {key: {"dtype": "float32", "shape": (n,), "names": None} for key, n in widths.items()}
    dataset = LeRobotDataset.create("user/tiny", 10, features, root=root, use_videos=False)
    rng = np.random.default_rng(0)
    for _ in range(24):
        dataset.add_frame(
            {key: rng.normal(size=n).astype(np.float32) for key, n in widths.items()} | {"task": "reach"}
        )
    dataset.save_episode()
    dataset.finalize()


TRAIN = [
    "--dataset.repo_id=user/tiny",
    "--policy.type=act",
    "--policy.device=cpu",
    "--policy.dim_model=16",
    "--policy.n_heads=2",
    "--policy.dim_feedforward=16",
    "--policy.n_encoder_layers=1",
    "--policy.chunk_size=4",
    "--policy.n_action_steps=4",
    "--policy.use_vae=false",
    "--policy.repo_id=user/pushed",
    "--policy.push_to_hub=true",
    "--steps=2",
    "--batch_size=2",
    "--num_workers=0",
    "--env_eval_freq=0",
    "--save_checkpoint=true",
    "--wandb.enable=false",
]

PULL = """
import json, torch
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors
from lerobot_ext.plugins import load_all
load_all()
policy = ACTPolicy.from_pretrained("user/pushed").eval()
before, after = make_pre_post_processors(policy.config, pretrained_path="user/pushed")
batch = before({"observation.state": torch.zeros(3), "observation.environment_state": torch.zeros(2)})
shape = list(after(policy.select_action(batch)).shape)
print(json.dumps([shape, sum(p.numel() for p in policy.parameters())]))
"""


def test_train_pushes_and_a_fresh_process_pulls(tmp_path):
    write_dataset(tmp_path / "data")
    # Stands for any of our plugins: LeRobot imports it, and it loads the rest.
    write_distribution(
        tmp_path / "site",
        "lerobot_env_stand_in",
        modules={"lerobot_env_stand_in": "from lerobot_ext.plugins import load_all\nload_all()\n"},
    )
    paths = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    with HubServer(tmp_path / "hub") as server:

        def environment(home: str) -> dict[str, str]:
            client = client_environment(server.url, tmp_path / home)
            return (
                os.environ
                | client
                | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
            )

        trained = subprocess.run(
            [
                str(Path(sys.executable).with_name("lerobot-train")),
                f"--dataset.root={tmp_path / 'data'}",
                f"--output_dir={tmp_path / 'out'}",
                *TRAIN,
            ],
            env=environment("home"),
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert trained.returncode == 0, trained.stderr[-3000:]
        _, commit = server.store.resolve("model", "user/pushed", "main")
        assert {"README.md", "config.json", "model.safetensors", "train_config.json"} <= set(commit.files)
        assert {"policy_preprocessor.json", "policy_postprocessor.json"} <= set(commit.files)
        assert commit.files["model.safetensors"].lfs
        assert f"{server.url}/user/pushed" in trained.stderr + trained.stdout
        pulled = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PULL)],
            env=environment("other_home"),
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert pulled.returncode == 0, pulled.stderr[-3000:]
    assert pulled.stdout.strip().splitlines()[-1].startswith("[[1, 3], ")
