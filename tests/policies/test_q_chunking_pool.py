# SPDX-License-Identifier: Apache-2.0
"""Training from the memory pool, with observations a chunk apart, is training without it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from make_videos import pictures
from safetensors.torch import load_file
from stock_loop import LOOP, train

from lerobot_ext.data import batches, camera_window, hook, ram_reader
from lerobot_ext.data.pool import opening, sampler
from lerobot_ext.data.pool.budget import POOL

LENGTHS = (9, 4, 7, 12, 6)
POLICY = [
    "--policy.type=q_chunking",
    "--policy.device=cpu",
    "--policy.push_to_hub=false",
    "--policy.hidden_dim=16",
    "--policy.obs_feature_dim=16",
    "--policy.image_feature_dim=16",
    "--policy.image_size=[32,32]",
    "--policy.transformer_dim=16",
    "--policy.transformer_heads=2",
    "--policy.transformer_layers=1",
    "--policy.chunk_size=3",
    "--policy.n_action_steps=3",
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Videos with rewards; two of five episodes succeed."""
    root = tmp_path_factory.mktemp("pool") / "rewarded"
    features = {
        "observation.images.top": {
            "dtype": "video",
            "shape": (48, 64, 3),
            "names": ["height", "width", "channels"],
        }
    }
    features |= {
        key: {"dtype": "float32", "shape": (2,), "names": None} for key in ("observation.state", "action")
    }
    features |= {"next.reward": {"dtype": "float32", "shape": (1,), "names": None}}
    features |= {
        key: {"dtype": "bool", "shape": (1,), "names": None} for key in ("next.success", "next.done")
    }
    made = LeRobotDataset.create(
        "user/rewarded", 10, features, root=root, use_videos=True, rgb_encoder=RGBEncoderConfig(vcodec="h264")
    )
    rng = np.random.default_rng(0)
    for episode, length in enumerate(LENGTHS):
        for step, picture in enumerate(pictures(length, 48, 64, seed=episode)):
            ends = step == length - 1
            won = ends and episode % 2 == 0
            frame = {key: rng.normal(size=2).astype(np.float32) for key in ("observation.state", "action")}
            frame |= {"observation.images.top": picture, "next.reward": np.array([float(won)], np.float32)}
            frame |= {"next.success": np.array([won]), "next.done": np.array([ends])}
            made.add_frame(frame | {"task": "lift"})
        made.save_episode()
    made.finalize()
    return ["--dataset.repo_id=user/rewarded", f"--dataset.root={root}", "--dataset.video_backend=pyav"]


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """No pool of an earlier test, and LeRobot as it is afterwards."""
    monkeypatch.setattr(opening, "_held", [])
    yield
    ram_reader.uninstall()
    camera_window.uninstall()
    batches.uninstall()
    sampler.uninstall()


def test_a_training_from_the_pool_is_the_training_without_it(dataset, tmp_path, monkeypatch, caplog):
    words = [*dataset, *POLICY, *LOOP, "--batch_size=4", "--steps=4", "--save_freq=4"]
    states = []
    for name, budget in (("without", None), ("pooled", "64MiB")):
        if budget:
            monkeypatch.setenv(POOL, budget)
            hook.install_where_datasets_are_read()
        with caplog.at_level("INFO"):
            train(monkeypatch, *words, f"--output_dir={tmp_path / name}")
        file = tmp_path / name / "checkpoints" / "000004" / "pretrained_model" / "model.safetensors"
        states.append(load_file(file))
    assert "camera pictures from memory (LEROBOT_EXT_POOL): all 5 episodes" in caplog.text
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key
