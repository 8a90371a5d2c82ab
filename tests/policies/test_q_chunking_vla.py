# SPDX-License-Identifier: Apache-2.0
"""A pi0 and a SmolVLA as the actor: prompts, adapters, half precision, export; tiny ones, without the Hub."""

from __future__ import annotations

import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.policies.pi0 import processor_pi0
from lerobot.policies.pi0.modeling_pi0 import PI0Policy
from lerobot_policy_q_chunking import QChunkingConfig, QChunkingPolicy
from q_chunking_over import SMALL, build, raw_batch, stats_of
from safetensors.torch import load_file, save_file
from tiny_pi0 import PI0_MARKS, shrink_pi0, tiny_pi0_config, word_tokenizer
from tiny_smolvla import shrink_smolvla, tiny_smolvla_config

from lerobot_ext.exporting.export import _act, _load, export
from lerobot_ext.exporting.openpi import read_openpi
from lerobot_ext.testing.contracts.synthetic import synthetic_observation

pytestmark = PI0_MARKS
LANGUAGE = "observation.language.tokens"
FEATURES = {
    "input_features": {
        "observation.images.base_0_rgb": PolicyFeature(FeatureType.VISUAL, (3, 30, 40)),
        "observation.state": PolicyFeature(FeatureType.STATE, (5,)),
    },
    "output_features": {"action": PolicyFeature(FeatureType.ACTION, (4,))},
}


@pytest.fixture(params=["pi0", "smolvla"])
def actor(request, tmp_path, monkeypatch):
    """Makes configurations of a tiny one, which loads nothing from the Hub."""
    if request.param == "smolvla":
        shrink_smolvla(monkeypatch)
        return lambda **fields: tiny_smolvla_config(tmp_path / "words", **fields)
    shrink_pi0(monkeypatch)
    here_pi0_words(monkeypatch, tmp_path)
    return tiny_pi0_config


def here_pi0_words(monkeypatch, tmp_path):
    """Give pi0 a tokenizer of this machine."""
    tokenizer = word_tokenizer(tmp_path / "words")
    stock = processor_pi0.TokenizerProcessorStep
    monkeypatch.setattr(
        processor_pi0,
        "TokenizerProcessorStep",
        lambda **named: stock(**(named | {"tokenizer_name": str(tokenizer)})),
    )


def over(actor, **fields):
    return QChunkingConfig(**{"extraction": "best_of_n", **SMALL, **FEATURES, "actor": actor, **fields})


def pipelines(config):
    return make_pre_post_processors(config, dataset_stats=stats_of(config))


def step(policy, batch, optimizer):
    loss, log = policy.train().forward(dict(batch))
    loss.backward()
    optimizer.step()
    touched = {name for name, p in policy.named_parameters() if p.grad is not None}
    optimizer.zero_grad()
    policy.update()
    return loss, log, touched


@pytest.mark.parametrize("extraction", ["best_of_n", "awr"])
def test_it_learns_from_a_task_in_words_and_acts(actor, extraction):
    config = over(actor(), extraction=extraction)
    policy = build(config)
    before, after = pipelines(config)
    batch = before(raw_batch(config))
    assert batch[LANGUAGE].shape[0] == 3
    optimizer = config.get_optimizer_preset().build(policy.get_optim_params())
    loss, log, touched = step(policy, batch, optimizer)
    assert loss.isfinite()
    assert log["actor_loss"] > 0
    assert {name.split(".")[0] for name in touched} == {"actor", "critic"}
    policy.eval().reset()
    for number in range(3):
        frame = before(synthetic_observation(config, stats_of(config), 2, number))
        action = after(policy.select_action(frame))
        assert action.shape == (2, 4)
        assert action.isfinite().all()


def test_the_actors_loss_is_the_one_it_has_by_itself(actor, monkeypatch):
    config = over(actor(), weighted_cloning=False)
    policy = build(config).train()
    before, _ = pipelines(config)
    batch = before(raw_batch(config))
    seen = {}
    losses = policy._borrowed.losses

    def watched(model, given, weights):
        seen.update(batch=given, random=torch.get_rng_state())
        seen["loss"] = losses(model, given, weights)[0]
        return seen["loss"], {}

    monkeypatch.setattr(policy._borrowed, "losses", watched)
    policy.forward(batch)
    own = actor()
    own.input_features, own.output_features = (dict(FEATURES[name]) for name in FEATURES)
    stock = get_policy_class(own.type)(own).train()
    stock.load_state_dict(policy.actor.state_dict())
    now = config.observation_delta_indices.index(0)
    alone = {
        key: value for key, value in batch.items() if not key.endswith("_is_pad") or key.startswith("action")
    }
    for key in FEATURES["input_features"]:
        alone[key] = batch[key][:, now]
    torch.set_rng_state(seen["random"])
    assert seen["loss"].mean().item() == pytest.approx(stock.forward(alone)[0].item(), rel=1e-5)


def test_adapters_and_critics_alone_learn_and_come_back_bit_equal(actor, tmp_path):
    config = over(actor(), actor_lora_rank=2, extraction="awr")
    policy = build(config)
    trained = {name for name, p in policy.named_parameters() if p.requires_grad}
    assert any("lora_A" in name for name in trained)
    assert all(name.startswith("critic.") or ".lora_" in name for name in trained)
    before, _ = pipelines(config)
    batch = before(raw_batch(config))
    optimizer = config.get_optimizer_preset().build(policy.get_optim_params())
    start = {name: value.clone() for name, value in policy.state_dict().items()}
    for _ in range(2):
        _, _, touched = step(policy, batch, optimizer)
        assert touched == trained
    for name, value in policy.state_dict().items():
        if name.startswith("actor.") and ".lora_" not in name:
            assert value.equal(start[name]), name
    assert any(
        not value.equal(start[name]) for name, value in policy.state_dict().items() if ".lora_B" in name
    )
    policy.save_pretrained(tmp_path / "saved")
    again = QChunkingPolicy.from_pretrained(tmp_path / "saved")
    assert again.state_dict().keys() == policy.state_dict().keys()
    assert all(again.state_dict()[name].equal(value) for name, value in policy.state_dict().items())
    frame = before(synthetic_observation(config, stats_of(config), 2, 0))
    actions = []
    for one in (policy.eval(), again.eval()):
        one.reset()
        torch.manual_seed(1)
        actions.append(one.select_action(dict(frame)))
    assert actions[0].equal(actions[1])


def test_adapters_upon_a_checkpoint(actor, tmp_path):
    own = actor()
    own.input_features, own.output_features = (dict(FEATURES[name]) for name in FEATURES)
    torch.manual_seed(5)
    stock = get_policy_class(own.type)(own)
    for part in (stock, *make_pre_post_processors(own, dataset_stats=stats_of(own))):
        part.save_pretrained(tmp_path / "base")
    policy = build(over(actor(pretrained_path=str(tmp_path / "base")), actor_lora_rank=2))
    mine = policy.actor.state_dict()
    for name, value in stock.state_dict().items():
        parent, _, leaf = name.rpartition(".")
        adapted = f"{parent}.base_layer.{leaf}"
        assert mine[adapted if adapted in mine else name].equal(value), name


def test_a_base_model_gets_the_features_and_statistics_of_the_dataset(actor, tmp_path):
    """As `lerobot/pi0_base`: for wider vectors and other cameras than this robot's."""
    base = actor()
    base.input_features = {
        "observation.images.left_wrist": PolicyFeature(FeatureType.VISUAL, (3, 64, 64)),
        "observation.state": PolicyFeature(FeatureType.STATE, (8,)),
    }
    base.output_features = {"action": PolicyFeature(FeatureType.ACTION, (8,))}
    torch.manual_seed(5)
    stock = get_policy_class(base.type)(base)
    for part in (stock, *make_pre_post_processors(base, dataset_stats=stats_of(base))):
        part.save_pretrained(tmp_path / "base")
    config = over(actor(pretrained_path=str(tmp_path / "base")))
    policy = build(config)
    assert all(policy.actor.state_dict()[name].equal(value) for name, value in stock.state_dict().items())
    assert set(policy.actor.config.image_features) == {"observation.images.base_0_rgb"}
    before, after = pipelines(config)
    fresh, _ = make_pre_post_processors(over(actor()), dataset_stats=stats_of(config))
    batch, expected = before(raw_batch(config)), fresh(raw_batch(config))
    for key in ("observation.state", "action"):
        assert batch[key].equal(expected[key])
    loss, _ = policy.train().forward(batch)
    assert loss.isfinite()
    raw = raw_batch(config)["action"]
    torch.testing.assert_close(after(batch["action"]), raw)


@pytest.mark.parametrize("actor", ["pi0"], indirect=True)
def test_weights_that_lerobot_passes_over_are_noticed(actor, tmp_path):
    own = actor()
    own.input_features, own.output_features = (dict(FEATURES[name]) for name in FEATURES)
    stock = get_policy_class("pi0")(own)
    stock.save_pretrained(tmp_path / "base")
    weights = load_file(tmp_path / "base" / "model.safetensors")
    save_file(
        {f"module.{name}": value for name, value in weights.items()}, tmp_path / "base" / "model.safetensors"
    )
    with pytest.raises(ValueError, match="were not read into the actor 'pi0'"):
        build(over(actor(pretrained_path=str(tmp_path / "base"))))


@pytest.mark.parametrize("actor", ["pi0"], indirect=True)  # SmolVLA has no `dtype`
def test_half_precision_learns_with_its_average_in_float32(actor):
    config = over(actor(dtype="bfloat16"))
    policy = build(config)
    assert {p.dtype for p in policy.actor_ema.parameters()} == {torch.float32}
    before, _ = pipelines(config)
    batch = before(raw_batch(config))
    optimizer = config.get_optimizer_preset().build(policy.get_optim_params())
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = policy.train().forward(batch)
    loss.backward()
    optimizer.step()
    policy.update()
    policy.eval().reset()
    action = policy.select_action(before(synthetic_observation(config, stats_of(config), 1, 0)))
    assert action.isfinite().all()


@pytest.fixture
def pi0(monkeypatch, tmp_path, request):
    """Saves a q_chunking policy over a tiny pi0; the same fixtures as `actor`, for pi0 alone."""

    def save(**fields):
        config = over(tiny_pi0_config(), extraction="awr", **fields)
        policy = build(config)
        with torch.no_grad():  # as after a training
            for name, parameter in policy.named_parameters():
                if ".lora_B" in name:
                    parameter.normal_(std=0.05)
        for part in (policy, *pipelines(config)):
            part.save_pretrained(tmp_path / "policy")
        return tmp_path / "policy"

    shrink_pi0(monkeypatch)
    here_pi0_words(monkeypatch, tmp_path)
    return save


def _acting(folder, observations):
    """In this process: another one would have a pi0 of full size."""
    return _act(*_load(folder)[:3], observations)


@pytest.mark.parametrize("rank", [0, 2])
def test_a_pi0_is_exported_alone_and_under_openpis_names(pi0, tmp_path, rank):
    folder = pi0(actor_lora_rank=rank)
    plain = export(folder, tmp_path / "stock", check=_acting)
    assert (plain.type, plain.compared) == ("pi0", 3)
    assert plain.parameters < plain.before
    theirs = export(folder, tmp_path / "openpi", "openpi", asset="lift", check=_acting)
    assert "assets/lift/norm_stats.json" in theirs.files
    names = set(load_file(tmp_path / "openpi" / "model.safetensors"))
    assert "state_proj.weight" in names
    assert not any("lora" in name or "base_layer" in name or "critic" in name for name in names)
    config = _load(tmp_path / "stock")[0].config
    back, stock = read_openpi(tmp_path / "openpi", config), PI0Policy.from_pretrained(tmp_path / "stock")
    for name, tensor in stock.state_dict().items():
        if not name.endswith("paligemma.lm_head.weight"):  # no part of a policy that acts
            assert torch.equal(back.state_dict()[name], tensor), name
