# SPDX-License-Identifier: Apache-2.0
"""Stock `lerobot-train` with extra steps, and `lerobot-eval` of what it saved in a fresh process.

The steps are named by class, as anybody's may be, and change a shape that the policies' weights depend on.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warm_start
from step_files import step, write
from stock_cli import BIN

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HELPERS = Path(__file__).parents[1] / "helpers"
CAMERAS = ("top", "wrist")
TRAIN = [
    "--policy.device=cpu",
    "--policy.push_to_hub=false",
    "--steps=2",
    "--batch_size=2",
    "--num_workers=0",
    "--log_freq=1",
    "--env_eval_freq=0",
    "--wandb.enable=false",
    "--dataset.video_backend=pyav",
]
BACKBONE = ["--policy.pretrained_backbone_weights=null"]
ACT = [
    "--policy.type=act",
    "--policy.dim_model=16",
    "--policy.n_heads=2",
    "--policy.dim_feedforward=16",
    "--policy.n_encoder_layers=1",
    "--policy.chunk_size=4",
    "--policy.n_action_steps=4",
    "--policy.use_vae=false",
    *BACKBONE,
]
DIFFUSION = [
    "--policy.type=diffusion",
    "--policy.horizon=8",
    "--policy.n_action_steps=4",
    "--policy.down_dims=[16,32]",
    "--policy.n_groups=8",
    "--policy.num_inference_steps=1",
    *BACKBONE,
]
HIERARCHICAL = [
    "--policy.type=hierarchical_diffusion",
    "--policy.manipulation_dim=16",
    "--policy.denoiser_dim=32",
    "--policy.condition_dim=16",
    "--policy.image_size=[32,32]",
]


def run(*words: object, **environment: str) -> str:
    """A stock command with the steps' module in reach."""
    kept = {name: one for name, one in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    own = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(HELPERS)}
    command = [BIN / str(words[0]), *map(str, words[1:])]
    done = warm_start.run(command, env=kept | own | environment, timeout=280)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> list[str]:
    """What the Koch environment observes with its cameras, in noise."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    features: dict[str, Any] = {
        name: {"dtype": "float32", "shape": (6,), "names": [f"joint_{i}.pos" for i in range(6)]}
        for name in ("observation.state", "action")
    }
    for camera in CAMERAS:
        features[f"observation.images.{camera}"] = {
            "dtype": "image",
            "shape": (48, 48, 3),
            "names": ["height", "width", "channels"],
        }
    root = tmp_path_factory.mktemp("pipelines") / "data"
    made = LeRobotDataset.create("user/tiny", 10, features, root=root, use_videos=False)
    generator = np.random.default_rng(0)
    for _ in range(40):
        frame: dict[str, Any] = {
            name: generator.normal(size=6).astype(np.float32) for name in ("observation.state", "action")
        }
        for camera in CAMERAS:
            frame[f"observation.images.{camera}"] = generator.integers(0, 255, (48, 48, 3), dtype=np.uint8)
        made.add_frame({**frame, "task": "lift"})
    made.save_episode()
    made.finalize()
    return ["--dataset.repo_id=user/tiny", f"--dataset.root={root}"]


@pytest.fixture(scope="module")
def steps(tmp_path_factory) -> Path:
    return write(
        tmp_path_factory.mktemp("steps") / "steps.json",
        policy_preprocessor=[step("ShrinkPictures", size=40), step("Offset", width=6)],
        policy_postprocessor=[step("ClampActions", bound=5.0)],
    )


@pytest.mark.parametrize("words", [ACT, DIFFUSION, HIERARCHICAL], ids=["act", "diffusion", "hierarchical"])
def test_trained_with_steps_a_policy_runs_with_them_anywhere(tmp_path, dataset, steps, words):
    ours = words is HIERARCHICAL
    more = [f"--policy.extra_steps={steps}"] if ours else []
    variable = {} if ours else {"LEROBOT_EXT_POLICY_STEPS": str(steps)}
    said = run(
        "lerobot-train", *words, *TRAIN, *more, *dataset, f"--output_dir={tmp_path / 'run'}", **variable
    )
    assert "policy_preprocessor has ShrinkPictures, Offset at" in said

    saved = tmp_path / "run" / "checkpoints" / "last" / "pretrained_model"
    config = json.loads((saved / "config.json").read_text())
    assert config["input_features"]["observation.images.top"]["shape"] == [3, 40, 40]
    before = json.loads((saved / "policy_preprocessor.json").read_text())["steps"]
    after = json.loads((saved / "policy_postprocessor.json").read_text())["steps"]
    assert [one["class"] for one in (*before, *after) if "class" in one] == [
        "toy_steps.ShrinkPictures",
        "toy_steps.Offset",
        "toy_steps.ClampActions",
    ]
    assert "step toy_steps.Offset" in (saved / "lerobot_ext.json").read_text()

    if words is ACT:
        # Going on, with the variable still set: the checkpoint brings its steps, once.
        middle = f"--config_path={saved / 'train_config.json'}"
        run("lerobot-train", middle, "--resume=true", "--steps=3", **variable)
        again = saved.parents[1] / "000003" / "pretrained_model" / "policy_preprocessor.json"
        assert json.loads(again.read_text())["steps"] == before

    run(
        "lerobot-eval",
        f"--policy.path={saved}",
        "--env.type=koch",
        "--env.obs=pixels",
        "--env.image_height=48",
        "--env.image_width=48",
        "--env.episode_length=5",
        "--eval.n_episodes=1",
        "--eval.batch_size=1",
        "--eval.use_async_envs=false",
        "--policy.device=cpu",
        f"--output_dir={tmp_path / 'eval'}",
    )
    assert json.loads((tmp_path / "eval" / "eval_info.json").read_text())["overall"]["n_episodes"] == 1
