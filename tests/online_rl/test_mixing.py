# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lerobot_ext.online_rl.mixing import draw, join, prior_before, prior_count, stream

SHARES = st.floats(0, 1)


@given(batch=st.integers(1, 300), share=SHARES, first=st.integers(0, 10**6), updates=st.integers(1, 40))
def test_over_many_updates_the_prior_data_get_exactly_their_share(batch, share, first, updates):
    counts = [prior_count(update, batch, share) for update in range(first, first + updates)]
    assert all(0 <= count <= batch for count in counts)
    assert max(counts) - min(counts) <= 1
    assert abs(sum(counts) - updates * batch * share) <= 1 + 1e-6 * batch * updates


@given(batch=st.integers(1, 300), share=SHARES, update=st.integers(0, 10**6))
def test_a_resumed_run_begins_where_the_updates_before_have_stopped(batch, share, update):
    assert prior_before(update, batch, share) + prior_count(update, batch, share) == prior_before(
        update + 1, batch, share
    )


@given(seed=st.integers(0, 2**31), update=st.integers(0, 10**6), frames=st.integers(1, 10**6))
def test_draws_follow_from_seed_and_update_and_are_frames_that_there_are(seed, update, frames):
    places = draw(seed, update, 16, frames)
    assert (places == draw(seed, update, 16, frames)).all()
    assert places.min() >= 0
    assert places.max() < frames


def test_draws_are_uniform_and_differ_between_updates():
    many = np.concatenate([draw(0, update, 50, 10) for update in range(400)])
    found = np.bincount(many, minlength=10)
    assert abs(found - 2000).max() < 250  # five standard deviations are 212
    assert (draw(0, 1, 50, 1000) != draw(0, 2, 50, 1000)).any()


def test_purposes_have_streams_of_their_own():
    assert len({stream(7, purpose, number) for purpose in range(5) for number in range(200)}) == 1000


def test_halves_are_joined_by_what_both_have():
    first = {
        "a": torch.zeros(2, 3),
        "reward": torch.zeros(2, 4, 1),
        "task": ["x"] * 2,
        "index": torch.zeros(2),
        "b": 1,
    }
    second = {
        "a": torch.ones(1, 3),
        "reward": torch.ones(1, 4),
        "task": ["y"],
        "index": torch.ones(1),
        "c": 1,
    }
    joined = join([first, second])
    assert joined["a"].tolist() == [[0] * 3, [0] * 3, [1] * 3]
    assert joined["reward"].shape == (3, 4, 1)
    assert joined["task"] == ["x", "x", "y"]
    assert "b" not in joined
    assert join([first]) is first


def test_pictures_of_another_size_are_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"`image` has shape \(3, 4, 4\) in the prior data.*image_height"):
        join([{"image": torch.zeros(2, 3, 4, 4)}, {"image": torch.zeros(2, 3, 8, 8)}])
