# SPDX-License-Identifier: Apache-2.0
"""Where one chunk follows another: committed prefixes, blending, ensembling, relative actions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot_policy_act_plus.ensemble import ChunkEnsembler, blended
from lerobot_policy_act_plus.prefix import draw_prefix
from lerobot_policy_act_plus.relative import relative_scale
from small_act import act_config, act_plus, observation, training_batch


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def with_a_voice(policy):
    """Let the prefix count: it begins at zero."""
    torch.manual_seed(7)
    torch.nn.init.normal_(policy.model.prefix_embedding.project.weight)
    return policy


def test_a_prefix_is_0_to_prefix_steps_actions_long_each_alike():
    torch.manual_seed(0)
    drawn = draw_prefix(4000, 3, 8, torch.device("cpu"))
    lengths = drawn.sum(1)
    assert torch.equal(drawn, torch.arange(8) < lengths[:, None])
    shares = [float((lengths == n).float().mean()) for n in range(5)]
    assert shares == pytest.approx([0.25, 0.25, 0.25, 0.25, 0], abs=0.03)


def test_committed_actions_count_no_loss_and_change_the_rest():
    policy = with_a_voice(act_plus(prefix_steps=7, use_vae=False)).train()
    policy.config.dropout = 0.0
    batch = training_batch(policy.config)
    other = {**batch, "action": batch["action"].clone()}
    other["action"][:, 0] += 100.0
    torch.manual_seed(2)
    committed = draw_prefix(4, 7, 8, torch.device("cpu"))
    assert committed[:, 0].any()
    assert not committed[:, 0].all()
    losses = []
    for each in (batch, other):
        torch.manual_seed(2)
        policy.eval()  # no dropout: what is drawn is the prefix alone
        losses.append(policy.forward(each, reduction="none")[0].detach())
    for sample in range(4):
        # A committed action that is 100 off costs nothing itself; an uncommitted one does.
        apart = abs(float(losses[1][sample] - losses[0][sample]))
        assert (apart < 5) == bool(committed[sample, 0]), (sample, apart)
        assert apart > 0


def test_a_real_time_chunk_begins_with_what_is_committed_and_depends_on_it():
    policy = with_a_voice(act_plus(prefix_steps=4))
    seen = observation(policy.config)
    free = policy.predict_action_chunk(seen)
    left = torch.randn(6, 4)
    padded = torch.cat([left, torch.zeros(4, 4)])  # as LeRobot fills it up
    chunk = policy.predict_action_chunk(seen, inference_delay=3, prev_chunk_left_over=padded)
    assert torch.equal(chunk[0, :3], left[:3])
    assert not torch.allclose(chunk[0, 3:], free[0, 3:])
    other = policy.predict_action_chunk(seen, inference_delay=3, prev_chunk_left_over=padded + 1)
    assert not torch.allclose(chunk[0, 3:], other[0, 3:])


def test_without_delay_and_commitment_a_chunk_is_free():
    policy = with_a_voice(act_plus(prefix_steps=4))
    seen = observation(policy.config)
    free = policy.predict_action_chunk(seen)
    again = policy.predict_action_chunk(seen, inference_delay=0, prev_chunk_left_over=torch.randn(6, 4))
    assert torch.equal(free, again)


def test_a_delay_beyond_the_trained_prefix_is_said_once(caplog):
    policy = with_a_voice(act_plus(prefix_steps=2))
    seen = observation(policy.config)
    for _ in range(3):
        chunk = policy.predict_action_chunk(seen, inference_delay=5, prev_chunk_left_over=torch.randn(6, 4))
        assert chunk.shape == (1, 8, 4)
    said = [r.message for r in caplog.records if "prefix_steps" in r.message]
    assert len(said) == 1
    assert "planning takes 5 frames" in said[0]


def test_select_action_keeps_the_committed_actions_at_a_boundary():
    policy = with_a_voice(act_plus(prefix_steps=3, commit_steps=2))
    policy.reset()
    first = policy.predict_action_chunk(observation(policy.config))[0]
    done = [policy.select_action(observation(policy.config, seed=0))[0] for _ in range(4)]
    assert torch.equal(torch.stack(done), first[:4])
    kept = [policy.select_action(observation(policy.config, seed=9))[0] for _ in range(3)]
    assert torch.equal(torch.stack(kept[:2]), first[4:6])
    assert not torch.allclose(kept[2], first[6])


def test_real_time_chunking_is_claimed_only_where_chunks_join():
    assert not act_plus().supports_rtc()
    assert act_plus(prefix_steps=1).supports_rtc()
    assert act_plus(blend_steps=2).supports_rtc()


def test_blending_fades_from_the_old_chunk_to_the_new():
    chunk, left = torch.ones(1, 6, 1), torch.zeros(1, 4, 1)
    faded = blended(chunk, left, 1, 3)[0, :, 0]
    assert faded.tolist() == pytest.approx([1.0, 0.25, 0.5, 0.75, 1.0, 1.0])
    assert torch.equal(blended(chunk, left, 4, 3), chunk)
    policy = act_plus(blend_steps=4)
    policy.reset()
    actions = [policy.select_action(observation(policy.config, seed=step // 4)) for step in range(8)]
    first = policy.predict_action_chunk(observation(policy.config, seed=0))
    second = policy.predict_action_chunk(observation(policy.config, seed=1))
    assert torch.allclose(actions[4], torch.lerp(first[:, 4], second[:, 0], 0.2), atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(
    coefficient=st.floats(0, 1),
    chunk=st.integers(1, 9),
    data=st.data(),
)
def test_an_ensembled_action_is_the_weighted_mean_of_all_chunks_that_hold_it(coefficient, chunk, data):
    steps = data.draw(st.integers(1, chunk))
    torch.manual_seed(0)
    chunks = torch.randn(5, 1, chunk, 2, dtype=torch.float64)
    ensembler = ChunkEnsembler(coefficient, chunk, steps)
    ensembler.ensemble_weights = torch.exp(-coefficient * torch.arange(chunk, dtype=torch.float64))
    ensembler.ensemble_weights_cumsum = ensembler.ensemble_weights.cumsum(0)
    for number in range(5):
        out = ensembler.update(chunks[number])
        assert out.shape == (1, steps, 2)
        for k in range(steps):
            frame = number * steps + k
            holding = [c for c in range(number + 1) if frame - c * steps < chunk]
            predictions = torch.stack([chunks[c, 0, frame - c * steps] for c in holding])
            weights = torch.exp(-coefficient * torch.arange(len(holding), dtype=torch.float64))
            wanted = (weights[:, None] * predictions).sum(0) / weights.sum()
            assert torch.allclose(out[0, k], wanted, atol=1e-9)


@pytest.mark.parametrize("coefficient", [-0.1, -0.001, 1.5])
def test_a_negative_ensemble_coefficient_is_refused_with_the_published_figures(coefficient):
    with pytest.raises(ValueError, match=r"`temporal_ensemble_coeff`.*6\.6 % success at -0\.1") as error:
        act_config(temporal_ensemble_coeff=coefficient)
    assert "\n" not in str(error.value)


STATS = {
    "observation.state": {"mean": [1.0, 2, 3, 4], "std": [2.0, 2, 2, 2], "min": [0.0] * 4, "max": [4.0] * 4},
    "observation.environment_state": {"mean": [0.0] * 3, "std": [1.0] * 3},
    "action": {"mean": [0.0] * 4, "std": [0.5, 1, 2, 4], "min": [-1.0] * 4, "max": [1.0] * 4},
}


def as_tensors(stats):
    return {key: {name: torch.tensor(v) for name, v in values.items()} for key, values in stats.items()}


def test_queued_relative_actions_lead_to_the_place_they_were_planned_for():
    """LeRobot adds the newest joint positions; what waited in the queue was planned at older ones."""
    from lerobot.policies.factory import make_pre_post_processors

    stats = as_tensors(STATS)
    policy = act_plus(
        stats=stats,
        use_relative_actions=True,
        relative_exclude_joints=["grip"],
        action_feature_names=["a.pos", "b.pos", "c.pos", "grip.pos"],
    )
    before, after = make_pre_post_processors(policy.config, dataset_stats=stats)
    policy.reset()
    start = {
        "observation.state": torch.tensor([1.0, 2, 3, 4]),
        "observation.environment_state": torch.zeros(3),
    }
    planned = after(policy.predict_action_chunk(before(dict(start))))[0]
    for step in range(4):
        moved = {
            **start,
            "observation.state": start["observation.state"] + step * torch.tensor([1.0, -2, 3, 4]),
        }
        assert torch.allclose(after(policy.select_action(before(moved)))[0], planned[step], atol=1e-4), step


def test_relative_actions_without_statistics_are_refused_when_they_act():
    policy = act_plus(use_relative_actions=True)
    with pytest.raises(ValueError, match="`use_relative_actions` needs the dataset's statistics"):
        policy.select_action(observation(policy.config))


def test_the_scale_of_relative_actions_is_known_for_each_normalisation():
    from lerobot.configs import NormalizationMode

    config = act_config(use_relative_actions=True)
    assert relative_scale(config, STATS).tolist() == pytest.approx([4.0, 2.0, 1.0, 0.5])
    config.normalization_mapping = dict.fromkeys(("STATE", "ACTION"), NormalizationMode.MIN_MAX)
    assert relative_scale(config, STATS).tolist() == pytest.approx([2.0] * 4)
    config.normalization_mapping = {}
    assert relative_scale(config, STATS).tolist() == pytest.approx([1.0] * 4)
