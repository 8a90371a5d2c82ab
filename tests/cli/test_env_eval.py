# SPDX-License-Identifier: Apache-2.0
import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
import warm_start
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.act.processor_act import make_act_pre_post_processors
from stock_cli import BIN

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def lerobot_eval(*arguments: object) -> subprocess.CompletedProcess[str]:
    return warm_start.run([BIN / "lerobot-eval", *map(str, arguments)], timeout=280, env=ENVIRONMENT)


@pytest.fixture
def untrained_act(tmp_path: Path) -> Path:
    config = ACTConfig(
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (6,)),
            "observation.environment_state": PolicyFeature(FeatureType.ENV, (7,)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (6,))},
        dim_model=32,
        dim_feedforward=32,
        n_heads=2,
        n_encoder_layers=1,
        chunk_size=4,
        n_action_steps=4,
        use_vae=False,
        device="cpu",
    )
    stats = {
        key: {"mean": torch.zeros(size), "std": torch.ones(size)}
        for key, size in (("observation.state", 6), ("observation.environment_state", 7), ("action", 6))
    }
    folder = tmp_path / "policy"
    ACTPolicy(config).save_pretrained(folder)
    for processor in make_act_pre_post_processors(config, dataset_stats=stats):
        processor.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("use_async", [False, True])
def test_stock_eval_runs_a_stock_policy(tmp_path: Path, untrained_act: Path, use_async: bool) -> None:
    output = tmp_path / "eval"
    run = lerobot_eval(
        f"--policy.path={untrained_act}",
        "--env.type=koch",
        "--env.task=lift",
        "--env.episode_length=20",
        "--eval.n_episodes=2",
        f"--eval.batch_size={2 if use_async else 1}",
        f"--eval.use_async_envs={str(use_async).lower()}",
        f"--output_dir={output}",
    )
    assert run.returncode == 0, run.stderr[-3000:]
    info = json.loads((output / "eval_info.json").read_text())
    assert info["overall"]["n_episodes"] == 2
    assert info["overall"]["pc_success"] == 0.0
    assert list(output.rglob("*.mp4")), "videos of the episodes"


@pytest.mark.slow
def test_wrong_task_is_one_clear_line() -> None:
    run = lerobot_eval("--env.type=koch", "--env.task=lfit", "--policy.type=act")
    assert run.returncode == 1
    assert (
        "error: `env`: `task` is 'lfit'; the Koch environment has reach, lift, place, tour, choose, either, "
        "around." in run.stderr
    )
    assert "Traceback" not in run.stderr
