# SPDX-License-Identifier: Apache-2.0
"""`lerobot-eval` of a stock policy in an environment that does not give what it was trained on."""

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors
from stock_cli import run

WIDTHS = {"observation.state": 6, "observation.environment_state": 7, "action": 6}


def test_the_last_line_says_what_was_given_and_what_decides_it(tmp_path):
    types = (FeatureType.STATE, FeatureType.ENV, FeatureType.ACTION)
    features = {
        name: PolicyFeature(kind, (width,)) for kind, (name, width) in zip(types, WIDTHS.items(), strict=True)
    }
    action = features.pop("action")
    config = ACTConfig(
        device="cpu", push_to_hub=False, chunk_size=4, n_action_steps=4, dim_model=16, n_heads=2,
        dim_feedforward=16, n_encoder_layers=1, use_vae=False, pretrained_backbone_weights=None,
        input_features=features, output_features={"action": action},
    )  # fmt: skip
    stats = {name: {"mean": torch.zeros(width), "std": torch.ones(width)} for name, width in WIDTHS.items()}
    for part in (ACTPolicy(config), *make_pre_post_processors(config, dataset_stats=stats)):
        part.save_pretrained(tmp_path / "policy")
    done = run(
        tmp_path, "lerobot-eval", f"--policy.path={tmp_path / 'policy'}", "--env.type=koch",
        "--env.obs=pixels", "--eval.n_episodes=1", "--eval.batch_size=1",
        f"--output_dir={tmp_path / 'eval'}", real=True,
    )  # fmt: skip
    assert done.returncode != 0
    failed, _, behind = done.stderr.rpartition("KeyError: 'observation.environment_state'")
    assert failed, done.stderr[-2000:]
    assert (
        "lerobot_ext: the policy takes observation.environment_state, and was given observation.images.top, "
        "observation.images.wrist, observation.state. Remedy: choose observations of the environment that "
        "hold it (`--env.obs`" in behind
    )
