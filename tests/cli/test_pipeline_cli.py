# SPDX-License-Identifier: Apache-2.0
"""`LEROBOT_EXT_PIPELINES` around somebody's robot: stock record, replay and rollout as subprocesses."""

import json
from pathlib import Path

import pytest
from step_files import step, write, write_hand
from stock_cli import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROBOT = ["--robot.type=toy_arm", "--robot.discover_packages_path=toy_arm"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "helpers"))
    monkeypatch.setenv("TOY_ARM_LOG", str(tmp_path / "sent.jsonl"))
    return tmp_path


def save_policy(folder):
    """A policy of the recorded space, that commands the same hand all the time."""
    import torch
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.factory import make_pre_post_processors

    config = ACTConfig(
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (3,)),
            "observation.images.eye": PolicyFeature(FeatureType.VISUAL, (3, 2, 3)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (2,))},
        dim_model=16,
        n_heads=2,
        dim_feedforward=16,
        n_encoder_layers=1,
        chunk_size=4,
        n_action_steps=4,
        use_vae=False,
        pretrained_backbone_weights=None,
        device="cpu",
    )
    one = {"mean": torch.zeros(1), "std": torch.ones(1)}
    hand = {"mean": torch.tensor([5.0, 1.0]), "std": torch.full((2,), 1e-8)}
    stats = {"observation.state": one, "observation.images.eye": one, "action": hand}
    ACTPolicy(config).save_pretrained(folder)
    for pipeline in make_pre_post_processors(config, dataset_stats=stats):
        pipeline.save_pretrained(folder)


def test_recorded_replayed_and_rolled_out_in_another_space_than_the_motors(home, monkeypatch):
    root, log = home / "data", home / "sent.jsonl"
    monkeypatch.setenv("LEROBOT_EXT_PIPELINES", str(write_hand(home / "steps.json")))
    done = run(
        home,
        "lerobot-record",
        *ROBOT,
        "--teleop.type=toy_teleoperator",
        "--dataset.repo_id=me/toy",
        f"--dataset.root={root}",
        "--dataset.single_task=wave",
        "--dataset.num_episodes=1",
        "--dataset.episode_time_s=0.5",
        "--dataset.reset_time_s=0",
        "--dataset.fps=10",
        "--dataset.video=false",
        "--dataset.push_to_hub=false",
        "--play_sounds=false",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    info = json.loads((root / "meta" / "info.json").read_text())
    assert info["features"]["action"]["names"] == ["hand.x.pos", "hand.y.pos"]
    assert info["features"]["observation.images.eye"]["shape"] == [2, 3, 3]

    log.unlink()
    words = [
        "--dataset.repo_id=me/toy",
        f"--dataset.root={root}",
        "--dataset.episode=0",
        "--play_sounds=false",
    ]
    done = run(home, "lerobot-replay", *ROBOT, *words)
    assert done.returncode == 0, done.stderr[-2000:]
    sent = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(sent) == info["total_frames"]
    assert all(one == {"arm.pos": 1.0, "claw.pos": 2.0} for one in sent)

    log.unlink()
    save_policy(home / "policy")
    done = run(
        home,
        "lerobot-rollout",
        *ROBOT,
        f"--policy.path={home / 'policy'}",
        "--policy.device=cpu",
        "--strategy.type=base",
        "--duration=1",
        "--fps=10",
        "--play_sounds=false",
        "--return_to_initial_position=false",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    sent = [json.loads(line) for line in log.read_text().splitlines()]
    assert sent
    assert all(abs(one["arm.pos"] - 3.0) < 1e-4 and abs(one["claw.pos"] - 2.0) < 1e-4 for one in sent)

    log.unlink()
    monkeypatch.setenv(
        "LEROBOT_EXT_PIPELINES", str(write(home / "bad.json", robot_action=[step("Scale", scal=1)]))
    )
    done = run(home, "lerobot-replay", *ROBOT, *words)
    assert done.returncode != 0
    assert "did you mean 'scale'?" in done.stderr
    assert not log.exists()
