# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext ablate`: what each layer is worth, with the same noise for all."""

from __future__ import annotations

import json

import pytest
import torch
from lerobot_policy_hierarchical_diffusion.ablation.losses import (
    FULL,
    diffusion_loss,
    episode_losses,
    prepare,
    variants,
)
from lerobot_policy_hierarchical_diffusion.configuration_hierarchical_diffusion import LAYER_NAMES

from lerobot_ext.cli.main import main


def test_variants_are_all_alone_and_nested():
    found = variants(("a", "b", "c"))
    assert found[FULL] == {"a", "b", "c"}
    assert found["without b"] == {"a", "c"}
    assert found["without any layer"] == frozenset()
    assert found["only a, b"] == {"a", "b"}
    assert len(found) == 7


@pytest.fixture
def batches(make_config, make_batch):
    made = []
    for episode in range(4):
        batch = make_batch(make_config(), size=5, seed=episode)
        batch["episode_index"] = torch.full((5,), episode)
        made.append(batch)
    return made


def test_only_layers_that_are_heard_matter(make_policy, batches):
    policy = make_policy(ema_decay=0.0).eval()
    policy._episodes = None  # held-out episodes are others than those of the training
    fusion = policy.network.fusion
    deaf = LAYER_NAMES.index("planning")
    torch.nn.init.zeros_(fusion.projections["planning"].weight)
    with torch.no_grad():
        fusion.nulls[deaf] = fusion.projections["planning"].bias  # its features say nothing else
        torch.nn.init.normal_(fusion.projections["manipulation"].weight, std=3.0)
    found = episode_losses(policy, batches, draws=2)
    assert found.frames == [10] * 4
    rises = found.rises()
    assert rises["without planning"].value == pytest.approx(0.0, abs=1e-6)
    assert rises["without manipulation"].value != pytest.approx(0.0, abs=1e-4)
    assert rises["only safety, dynamics, manipulation"].value == pytest.approx(0.0, abs=1e-6)


def test_cameras_are_looked_at_once_for_all_variants(make_policy, make_config, make_batch, monkeypatch):
    policy = make_policy(cameras=1, ema_decay=0.0).eval()
    batch = make_batch(make_config(cameras=1), size=2) | {"episode_index": torch.zeros(2, dtype=torch.long)}
    looked = []
    vision = policy.network.vision
    monkeypatch.setattr(
        vision, "forward", lambda images, real=vision.forward: looked.append(1) or real(images)
    )
    episode_losses(policy, [batch, batch], draws=2)
    assert len(looked) == 2


def test_the_same_seed_is_the_same_loss_and_nothing_is_changed(make_policy, batches):
    policy = make_policy().eval()
    before = torch.get_rng_state(), policy.average.filter.threshold.clone()
    batch = prepare(policy, batches[0])
    first, second = (diffusion_loss(policy, batch, frozenset(LAYER_NAMES), 3) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, diffusion_loss(policy, batch, frozenset(LAYER_NAMES), 4))
    assert torch.equal(before[0], torch.get_rng_state())
    assert torch.equal(before[1], policy.average.filter.threshold)


def test_a_policy_without_layers_is_refused(make_policy, tmp_path, capsys):
    make_policy(layers=()).save_pretrained(tmp_path)
    assert main(["ablate", f"--policy.path={tmp_path}", "--dataset.repo_id=a/b", "--policy.device=cpu"]) != 0
    assert "has no layers" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_measures_a_dataset(make_policy, tmp_path, capsys):
    from lerobot.configs.types import NormalizationMode
    from lerobot.policies.factory import make_pre_post_processors
    from lerobot_env_koch.demos.recorder import DemoOptions, record_demos

    record_demos(DemoOptions(task="reach", repo_id="local/held", root=tmp_path / "held", episodes=3))
    policy = make_policy(state=6, action=6, env=7)
    kept = dict.fromkeys(("STATE", "ENV", "ACTION", "VISUAL"), NormalizationMode.IDENTITY)
    policy.config.normalization_mapping = kept
    policy.save_pretrained(tmp_path / "policy")
    for pipeline in make_pre_post_processors(policy.config):
        pipeline.save_pretrained(tmp_path / "policy")
    words = ["ablate", f"--policy.path={tmp_path / 'policy'}", "--policy.device=cpu", "--draws=1", "--json"]
    words += ["--dataset.repo_id=local/held", f"--dataset.root={tmp_path / 'held'}", "--frames=64"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["episodes"] == 3
    assert set(found["rise"]) == set(variants(LAYER_NAMES)) - {FULL}
    assert found["loss"]["low"] <= found["loss"]["value"] <= found["loss"]["high"]
