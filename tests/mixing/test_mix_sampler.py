# SPDX-License-Identifier: Apache-2.0
from collections import Counter
from itertools import pairwise
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot.datasets import EpisodeAwareSampler, compute_sampler_state

from lerobot_ext.mixing.sampler import Draws, MixSampler, stand_in

lengths = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=4)


def bounds_of(parts):
    """Rows at which each dataset starts, and bounds of all episodes."""
    ends = np.cumsum([length for part in parts for length in part])
    bounds = np.cumsum([0, *(sum(part) for part in parts)])
    return tuple(map(int, bounds)), np.concatenate([[0], ends[:-1]]), ends


def make(parts, weights="by_frames", explicit=(), epoch_size=None, seed=None, **keys):
    bounds, starts, ends = bounds_of(parts)
    labels = tuple(f"d{index}" for index in range(len(parts)))
    draws = Draws(weights, tuple(explicit), epoch_size, seed, labels, bounds)
    return MixSampler(draws, starts, ends, **keys)


def dataset_of(parts, rows):
    bounds, _, _ = bounds_of(parts)
    return np.searchsorted(bounds, rows, side="right") - 1


@given(parts=lengths, seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_by_frames_every_frame_comes_once_an_epoch(parts, seed):
    sampler = make(parts, seed=seed)
    for _ in range(3):
        assert sorted(sampler) == list(range(len(sampler)))


@given(
    parts=lengths,
    seed=st.integers(0, 99),
    raw=st.lists(st.floats(0.01, 10), min_size=4, max_size=4),
    size=st.integers(1, 80),
    epochs=st.integers(1, 5),
)
@settings(max_examples=80, deadline=None)
def test_each_epoch_has_its_shares_and_no_frame_comes_again_before_its_dataset_is_through(
    parts, seed, raw, size, epochs
):
    weights = raw[: len(parts)]
    sampler = make(parts, "explicit", weights, epoch_size=size, seed=seed)
    assert sampler.shares == pytest.approx(np.array(weights) / sum(weights))
    seen = Counter()
    for epoch in range(epochs):
        quotas = sampler.quotas(epoch)
        assert quotas.sum() == size == len(sampler)
        assert np.all(np.abs(quotas - sampler.shares * size) < 1 + 1e-6)
        rows = np.array(list(sampler))
        assert np.array_equal(np.bincount(dataset_of(parts, rows), minlength=len(parts)), quotas)
        seen.update(rows.tolist())
    bounds, _, _ = bounds_of(parts)
    for low, high in pairwise(bounds):
        counts = [seen[row] for row in range(low, high)]
        assert max(counts) - min(counts) <= 1


def test_shares_hold_on_average_however_small_an_epoch_is():
    sampler = make([[5], [50], [500]], "explicit", (0.2, 0.3, 0.5), epoch_size=3, seed=4)
    drawn = sum(sampler.quotas(epoch) for epoch in range(4000))
    # Systematic rounding: a mean of 4000 independent starts, each within 1.
    assert drawn / drawn.sum() == pytest.approx([0.2, 0.3, 0.5], abs=0.01)


def test_items_of_a_batch_are_drawn_with_the_shares_as_probabilities():
    parts = [[40], [200], [60]]
    sampler = make(parts, "explicit", (5, 3, 2), seed=1)
    firsts = np.concatenate([dataset_of(parts, list(sampler)[:8]) for _ in range(500)])
    counts = np.bincount(firsts, minlength=3)
    for count, share in zip(counts, sampler.shares, strict=True):
        assert abs(count - 4000 * share) < 4.5 * np.sqrt(4000 * share * (1 - share))


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    parts = [[7, 8], [20]]
    one, other = make(parts, "by_dataset", seed=3), make(parts, "by_dataset", seed=3)
    orders = [list(one) for _ in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    other.load_state_dict({"epoch": 2, "start_index": 0})
    assert list(other) == orders[2]
    assert list(make(parts, "by_dataset", seed=4)) != orders[0]


def test_the_seed_of_the_file_wins_over_that_of_the_training():
    parts = [[7], [9]]
    bounds, starts, ends = bounds_of(parts)
    draws = Draws("by_frames", (), None, 5, ("a", "b"), bounds)
    assert list(MixSampler(draws, starts, ends, seed=1)) == list(MixSampler(draws, starts, ends, seed=2))


@given(step=st.integers(0, 40), batch=st.integers(1, 5), ranks=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_a_resumed_run_goes_on_where_it_stopped(step, batch, ranks):
    def new():
        return make([[7, 6], [12]], "explicit", (1, 3), epoch_size=19, seed=2)

    # As accelerate deals out: whole batches, the last of an epoch filled up from its start.
    per_epoch = ceil(ceil(19 / batch) / ranks)
    sampler = new()
    orders = [list(sampler) for _ in range(step // per_epoch + 1)]
    resumed = new()
    resumed.load_state_dict(compute_sampler_state(step, len(resumed), batch, ranks))
    assert list(resumed) == orders[-1][(step % per_epoch) * batch * ranks :]
    assert resumed.state_dict() == {"epoch": len(orders), "start_index": 0}


def test_frames_at_the_ends_of_episodes_are_left_out():
    sampler = make([[3, 5], [4]], drop_n_first_frames=1, drop_n_last_frames=2, seed=0)
    assert sorted(sampler) == [4, 5, 9]
    assert sampler.shares == pytest.approx([2 / 3, 1 / 3])


def test_a_dataset_without_a_frame_to_draw_is_named():
    with pytest.raises(ValueError, match=r"dataset d1 of the mix has no frame to draw.*last 4"):
        make([[9], [4, 3]], drop_n_last_frames=4)


def test_unshuffled_every_frame_comes_in_order():
    assert list(make([[3], [2]], "explicit", (1, 9), shuffle=False)) == [0, 1, 2, 3, 4]


def test_the_stand_in_leaves_other_datasets_to_lerobot():
    words = ([0, 4], [4, 9])
    stock = stand_in(EpisodeAwareSampler, *words, shuffle=True, seed=3, absolute_to_relative_idx=None)
    assert type(stock) is EpisodeAwareSampler
    draws = Draws("by_frames", (), None, None, ("a", "b"), (0, 4, 9))
    ours = stand_in(EpisodeAwareSampler, *words, shuffle=True, seed=3, absolute_to_relative_idx=draws)
    assert isinstance(ours, MixSampler)
    assert sorted(ours) == list(range(9))
