# SPDX-License-Identifier: Apache-2.0
"""Another policy as the actor: its own loss, frames, processors and optimizer settings, and the contract."""

from __future__ import annotations

import inspect
import shutil
from copy import deepcopy

import pytest
import torch
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.processor import NormalizerProcessorStep
from lerobot_policy_q_chunking import QChunkingConfig, QChunkingPolicy
from q_chunking_over import ACTORS, SMALL, build, diffusion, over, raw_batch, stats_of, training_batch

from lerobot_ext.offline_rl.routing import CLIP_NORM
from lerobot_ext.testing import PolicyContract
from lerobot_ext.testing.contracts.synthetic import synthetic_observation, tensors_equal

kinds = pytest.mark.parametrize("kind", ACTORS)
extractions = pytest.mark.parametrize("extraction", ["best_of_n", "awr"])
BAD = {"n_action_steps": 9, "chunk_size": 40, "extraction": "distill", "actor_lora_rank": -1}


class TestBestOfNOverDiffusion(PolicyContract):
    def make_config(self):
        return QChunkingConfig(**SMALL, extraction="best_of_n", actor=diffusion())

    def features(self, **sizes):
        return super().features(**{"cameras": (), "environment": 3, **sizes})

    def bad_settings(self, config):
        return BAD


def alone(config):
    """The actor's own configuration, with its features, as a training of it by itself has it."""
    actor = deepcopy(config.actor)
    actor.input_features, actor.output_features = dict(config.input_features), dict(config.output_features)
    return actor


def frames_of(batch, wanted, loaded, actions, done):
    """Of a raw batch of frames `loaded` what a data loader of `wanted` frames would have given."""
    cut = {}
    for key, value in batch.items():
        name = key.removesuffix("_is_pad")
        if name == "action":
            value = value[:, [actions.index(frame) for frame in done]]
        elif name.startswith("observation."):
            if wanted is None and key != name:
                continue
            value = value[:, [loaded.index(frame) for frame in wanted or [0]]]
            value = value[:, 0] if wanted is None else value
        cut[key] = value
    return cut


@kinds
def test_the_actor_gets_what_it_would_have_got_alone_and_learns_by_its_own_loss(kind, monkeypatch):
    config = over(ACTORS[kind](), weighted_cloning=False)
    policy = build(config).train()
    raw = raw_batch(config)
    before, _ = make_pre_post_processors(config, dataset_stats=stats_of(config))
    own = alone(config)
    wanted = frames_of(
        raw,
        own.observation_delta_indices,
        config.observation_delta_indices,
        config.action_delta_indices,
        own.action_delta_indices,
    )
    own_before, _ = make_pre_post_processors(own, dataset_stats=stats_of(config))
    wanted = own_before(wanted)
    seen = {}
    twin, forward = deepcopy(policy.actor), policy.actor.forward

    def watched(batch, **named):
        seen.update(dict(batch))
        torch.manual_seed(9)
        return forward(batch, **named)

    watched.__signature__ = inspect.signature(forward)
    monkeypatch.setattr(policy.actor, "forward", watched)
    policy.forward(before(raw))[0].backward()
    columns = [key for key in wanted if key.startswith(("observation.", "action"))]
    assert set(columns) == {key for key in seen if key.startswith(("observation.", "action"))}
    for key in columns:
        assert not tensors_equal(wanted[key], seen[key]), key

    torch.manual_seed(9)
    twin.forward(wanted)[0].backward()
    for (name, mine), its in zip(policy.actor.named_parameters(), twin.parameters(), strict=True):
        if its.grad is None:
            assert mine.grad is None, name
        else:
            torch.testing.assert_close(mine.grad, its.grad, rtol=1e-4, atol=1e-7, msg=name)


@kinds
def test_the_actors_preset_trains_it_and_the_critics_have_their_own(kind):
    config = over(ACTORS[kind](optimizer_lr=3e-5, optimizer_weight_decay=0.02), optimizer_critic_lr=7e-4)
    policy = build(config)
    preset = policy.actor.config.get_optimizer_preset()
    optimizer = config.get_optimizer_preset().build(policy.get_optim_params())
    of = {id(p): name for name, p in policy.named_parameters()}
    for group in optimizer.param_groups:
        parts = {of[id(p)].split(".")[0] for p in group["params"]}
        assert len(parts) == 1
        if parts == {"critic"}:
            assert (group["lr"], group["weight_decay"]) == (7e-4, 0.0)
            continue
        assert parts == {"actor"}
        assert (group["lr"], tuple(group["betas"]), group["eps"]) == (3e-5, tuple(preset.betas), preset.eps)
        assert group["weight_decay"] in (0.02, 0.0)  # hierarchical_diffusion spares what is no matrix
        assert group[CLIP_NORM] == preset.grad_clip_norm
    assert {group["weight_decay"] for group in optimizer.param_groups if group["lr"] == 3e-5} >= {0.02}


@kinds
def test_its_processors_are_the_actors(kind):
    config = over(ACTORS[kind]())
    own = alone(config)
    for mine, its in zip(
        make_pre_post_processors(config, dataset_stats=stats_of(config)),
        make_pre_post_processors(own, dataset_stats=stats_of(config)),
        strict=True,
    ):
        assert [type(step) for step in mine.steps] == [type(step) for step in its.steps]
    raw = raw_batch(own)
    made, expected = (
        make_pre_post_processors(c, dataset_stats=stats_of(config))[0](dict(raw)) for c in (config, own)
    )
    assert not tensors_equal(expected["observation.state"], made["observation.state"])


@kinds
def test_an_advantage_weighted_actor_acts_as_it_does_by_itself(kind):
    config = over(ACTORS[kind](), extraction="awr", actor_ema=0.0)
    policy = build(config).eval()
    stock = get_policy_class(kind)(alone(config)).eval()
    stock.load_state_dict(policy.actor.state_dict())
    before, _ = make_pre_post_processors(config, dataset_stats=stats_of(config))
    actions = []
    for one in (policy, stock):
        torch.manual_seed(4)
        one.reset()
        frames = [before(synthetic_observation(config, stats_of(config), 2, step)) for step in range(7)]
        actions.append(torch.stack([one.select_action(dict(frame)) for frame in frames]))
    assert actions[0].equal(actions[1])


@kinds
def test_the_chunk_that_the_critics_like_best_is_done_after_the_frames_that_were_seen(kind, monkeypatch):
    config = over(ACTORS[kind](), n_action_steps=1)
    policy = build(config).eval()
    before, _ = make_pre_post_processors(config, dataset_stats=stats_of(config))
    frames = [before(synthetic_observation(config, stats_of(config), 2, step)) for step in range(3)]
    said = {}
    sample = policy._borrowed.sample

    def watched(actor, batch, count):
        said.update(asked=batch, chunks=sample(actor, batch, count))
        return said["chunks"]

    monkeypatch.setattr(policy._borrowed, "sample", watched)
    policy.reset()
    for step, frame in enumerate(frames):
        action = policy.select_action(dict(frame))
        acting = policy._borrowed.acting
        expected = (
            frame["observation.state"]
            if acting is None
            else torch.stack([frames[max(0, step + k)]["observation.state"] for k in acting], dim=1)
        )
        assert said["asked"]["observation.state"].equal(expected)
        values = policy.critic_target.values(policy.critic_target.observe(frame), said["chunks"])
        best = said["chunks"][torch.arange(2), values.argmax(1)].view(2, 4, -1)
        assert action.equal(best[:, 0])


@kinds
@extractions
def test_actor_and_critics_learn_and_the_average_follows(kind, extraction):
    config = over(ACTORS[kind](), extraction=extraction)
    policy = build(config).train()
    batch = training_batch(config)
    optimizer = config.get_optimizer_preset().build(policy.get_optim_params())
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    for _ in range(2):
        loss, log = policy.forward(dict(batch))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        policy.update()
    assert {"critic_loss", "actor_loss", "q"} <= set(log)
    moved = {
        name.split(".")[0] for name, value in policy.state_dict().items() if not value.equal(before[name])
    }
    assert {"actor", "actor_ema", "critic", "critic_target", "train_step"} <= moved


def test_a_frozen_actor_stays_and_has_no_average():
    config = over(diffusion(), freeze_actor=True)
    policy = build(config).train()
    assert policy.actor_ema is None
    assert all(name.startswith("critic.") for name, p in policy.named_parameters() if p.requires_grad)
    policy.forward(training_batch(config))[0].backward()


@pytest.fixture
def checkpoint(tmp_path):
    """A trained-looking stock diffusion policy with statistics of its own."""
    own = alone(over(diffusion()))
    torch.manual_seed(8)
    stats = {key: {name: value + 0.5 for name, value in one.items()} for key, one in stats_of(own).items()}
    parts = get_policy_class("diffusion")(own), *make_pre_post_processors(own, dataset_stats=stats)
    for part in parts:
        part.save_pretrained(tmp_path / "diffusion")
    return tmp_path / "diffusion", parts[0], stats


def test_an_actor_from_a_checkpoint_keeps_weights_and_statistics_and_is_saved_with_the_policy(
    checkpoint, tmp_path
):
    folder, stock, stats = checkpoint
    config = over(diffusion(pretrained_path=str(folder)))
    policy = build(config)
    for name, tensor in stock.state_dict().items():
        assert policy.actor.state_dict()[name].equal(tensor)
        assert policy.actor_ema.state_dict()[name].equal(tensor)
    pipelines = make_pre_post_processors(config, dataset_stats=stats_of(config))
    [normalizer] = [step for step in pipelines[0].steps if isinstance(step, NormalizerProcessorStep)]
    assert normalizer.stats["action"]["max"].tolist() == pytest.approx(stats["action"]["max"].tolist())
    for part in (policy, *pipelines):
        part.save_pretrained(tmp_path / "saved")
    shutil.rmtree(folder)
    again = QChunkingPolicy.from_pretrained(tmp_path / "saved")
    frame = pipelines[0](synthetic_observation(config, stats_of(config), 2, 0))
    actions = []
    for one in (policy.eval(), again.eval()):
        torch.manual_seed(1)
        one.reset()
        actions.append(one.select_action(dict(frame)))
    assert actions[0].equal(actions[1])


def test_a_checkpoint_of_another_type_or_of_other_features_is_refused(checkpoint):
    folder, _, _ = checkpoint
    with pytest.raises(ValueError, match=r"is a diffusion; set `--policy.actor.type=diffusion`"):
        over(ACTORS["act_plus"](pretrained_path=str(folder)))
    config = over(diffusion(pretrained_path=str(folder)), environment=2)
    with pytest.raises(ValueError, match=r"`observation.environment_state` of shape \(3,\), which has shape"):
        build(config)


def test_an_actor_that_plans_the_same_chunk_again_is_refused():
    config = over(ACTORS["act_plus"](head="l1"), extraction="best_of_n")
    with pytest.raises(ValueError, match="plans the same chunk again and again"):
        build(config).train().forward(training_batch(config))


def test_adapters_where_the_actor_names_no_places_are_refused():
    with pytest.raises(ValueError, match="names no places for adapters"):
        build(over(diffusion(), actor_lora_rank=4))


def test_the_actor_moves_with_the_policys_device():
    config = over(diffusion())
    config.actor.device, config.device = "cuda", "cpu"  # as a checkpoint from a GPU is exported on a CPU
    assert build(config).actor.config.device == "cpu"


def test_another_actor_too_learns_from_good_episodes_alone(monkeypatch):
    config = over(ACTORS["diffusion"](), extraction="awr", cloned_return=0.5)
    policy = build(config).train()
    batch = training_batch(config)
    best = torch.arange(len(batch["action"])) % 3 == 0
    monkeypatch.setattr(policy.labels, "good", lambda batch, level: best)
    seen = {}
    losses = policy._borrowed.losses

    def watched(model, given, weights):
        seen["weights"] = weights
        return losses(model, given, weights)

    monkeypatch.setattr(policy._borrowed, "losses", watched)
    assert policy.forward(batch)[0].isfinite()
    assert (seen["weights"][~best] == 0).all()
    assert (seen["weights"][best] > 0).all()


def test_a_batch_without_a_good_episode_teaches_another_actor_nothing(monkeypatch):
    """A policy without losses by sample draws its samples by their weights, and here all of them are zero."""
    config = over(ACTORS["diffusion"](), extraction="best_of_n", cloned_return=0.5)
    policy = build(config).train()
    batch = training_batch(config)
    none = torch.zeros(len(batch["action"]), dtype=torch.bool)
    monkeypatch.setattr(policy.labels, "good", lambda batch, level: none)
    loss, log = policy.forward(batch)
    loss.backward()
    assert log["actor_loss"] == 0
    assert all(weight.grad is None or (weight.grad == 0).all() for weight in policy.actor.parameters())
    assert any(weight.grad is not None and weight.grad.any() for weight in policy.critic.parameters())
