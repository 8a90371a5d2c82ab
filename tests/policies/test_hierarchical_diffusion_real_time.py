# SPDX-License-Identifier: Apache-2.0
"""Chunks that go on from the last one while it is being executed."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from lerobot.policies.rtc.configuration_rtc import RTCConfig
from lerobot_policy_hierarchical_diffusion import real_time
from lerobot_policy_hierarchical_diffusion.real_time import FrameClock, committed_actions
from lerobot_policy_hierarchical_diffusion.sampling import Committed, ddim_sample, make_scheduler


def test_what_will_be_executed_is_kept_and_the_rest_fades():
    left = torch.ones(10, 2)
    committed = committed_actions(left, 3, RTCConfig(execution_horizon=8), 16)
    assert committed.actions.shape == (1, 16, 2)
    weights = committed.weights.tolist()
    assert weights[:3] == [1, 1, 1]
    assert weights[8:] == [0] * 8
    assert all(a > b for a, b in pairwise(weights[2:9]))


def test_rows_of_zeros_are_no_actions():
    left = torch.zeros(10, 2)
    left[:4] = 0.5
    committed = committed_actions(left, 6, RTCConfig(execution_horizon=10), 16)
    assert committed.weights.tolist() == [1.0] * 4 + [0.0] * 12
    assert committed_actions(torch.zeros(10, 2), 3, None, 16) is None
    assert committed_actions(None, 3, None, 16) is None
    assert committed_actions(torch.zeros(0, 2), 3, None, 16) is None


@pytest.mark.parametrize("prediction", ["sample", "epsilon"])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_committed_actions_come_out_as_they_went_in(prediction, steps):
    generator = torch.Generator().manual_seed(0)
    actions = torch.rand(2, 8, 3, generator=generator) - 0.5
    weights = torch.tensor([1.0, 1.0, 0.5, 0, 0, 0, 0, 0])
    noise = torch.randn(2, 8, 3, generator=generator)
    draft = torch.zeros(2, 8, 3)

    def denoise(sample, timestep):
        return 0.1 * sample

    words = {"steps": steps, "draft": draft, "draft_noise": 0.5}
    scheduler = make_scheduler(100, "squaredcos_cap_v2", prediction)
    kept = ddim_sample(scheduler, denoise, noise, committed=Committed(actions, weights), **words)
    free = ddim_sample(scheduler, denoise, noise, **words)
    torch.testing.assert_close(kept[:, :2], actions[:, :2], atol=1e-5, rtol=0)
    # This denoiser treats each number alone, so what is free is as without.
    torch.testing.assert_close(kept[:, 3:], free[:, 3:], atol=1e-5, rtol=0)


def test_the_clock_counts_frames(monkeypatch):
    now = [10.0]
    monkeypatch.setattr(real_time.time, "monotonic", lambda: now[0])
    clock = FrameClock(30.0)
    assert clock.frames_since_last() == 1
    now[0] += 0.1
    assert clock.frames_since_last() == 3
    assert clock.frames_since_last() == 1
    clock.reset()
    now[0] += 5
    assert clock.frames_since_last() == 1
    assert FrameClock(0.0).frames_since_last() == 1


def test_frames_between_two_plans_lie_on_a_line(make_policy, make_observation, monkeypatch):
    policy = make_policy(cameras=1).eval()
    observations = [make_observation(policy.config, 1, seed=seed) for seed in (0, 1)]
    monkeypatch.setattr(policy._clock, "frames_since_last", lambda: 4)
    for observation in observations:
        policy.predict_action_chunk(observation, inference_delay=2)
    seen = policy._memory.observation([None]).state[0]
    first, last = (each["observation.state"][0] for each in observations)
    position = policy.network.window.past.index
    torch.testing.assert_close(seen[position(0)], last)
    torch.testing.assert_close(seen[position(-2)], (first + last) / 2)
    torch.testing.assert_close(seen[position(-4)], first)


def test_the_frames_a_second_come_from_the_dataset_and_are_saved(make_policy, tmp_path):
    policy = make_policy()
    assert policy.config.fps == 30
    policy.save_pretrained(tmp_path)
    assert type(policy).from_pretrained(tmp_path).config.fps == 30
