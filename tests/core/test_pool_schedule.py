# SPDX-License-Identifier: Apache-2.0
"""The order of an epoch in parts: every frame once, the same for everybody, near to what is in memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerobot_ext.data.pool.budget import POOL, budget_from_environment, parse_budget
from lerobot_ext.data.pool.schedule import WINDOW, cut, draw

LENGTHS = st.lists(st.integers(0, 12), min_size=1, max_size=40).filter(any)
SEEDS = st.integers(0, 2**32)


@given(LENGTHS, SEEDS, st.integers(0, 50), st.integers(0, 20), st.data())
def test_every_frame_is_drawn_once_an_epoch_from_parts_that_are_there(lengths, seed, epoch, more, data):
    lengths = np.array(lengths)
    parts = cut(lengths, int(lengths.max()) + more, seed, epoch)
    used = np.flatnonzero(lengths)
    # A sampler may leave out frames of an episode, or whole ones (`drop_n_last_frames`).
    drawn = np.array([data.draw(st.integers(0, int(lengths[episode]))) for episode in used])
    order, rounds = draw(drawn, parts.part[used], parts.rounds, seed, epoch)
    assert sorted(order.tolist()) == list(range(int(drawn.sum())))
    assert (np.diff(rounds) >= 0).all()
    part_of = np.repeat(parts.part[used], drawn)[order]
    # In round r there are the parts r to r + WINDOW - 1, and no others.
    assert ((part_of >= rounds) & (part_of < rounds + WINDOW)).all()


@given(LENGTHS, SEEDS, st.integers(0, 50), st.integers(0, 20))
def test_parts_hold_each_episode_once_and_fit(lengths, seed, epoch, more):
    lengths = np.array(lengths)
    room = int(lengths.max()) + more
    parts = cut(lengths, room, seed, epoch)
    assert ((parts.part >= 0) == (lengths > 0)).all()
    for part in range(parts.count):
        inside = np.flatnonzero(parts.part == part)
        assert len(inside)
        taken = [range(parts.slot[e], parts.slot[e] + lengths[e]) for e in inside]
        places = [place for one in taken for place in one]
        assert sorted(places) == list(range(len(places)))
        assert len(places) <= room


@given(LENGTHS, SEEDS, st.integers(0, 50))
def test_the_order_follows_from_seed_and_epoch(lengths, seed, epoch):
    lengths = np.array(lengths)

    def order_of(seed, epoch):
        parts = cut(lengths, int(lengths.max()), seed, epoch)
        return draw(lengths, parts.part, parts.rounds, seed, epoch)[0].tolist()

    assert order_of(seed, epoch) == order_of(seed, epoch)


def test_epochs_and_seeds_differ_and_mix_episodes():
    lengths = np.full(40, 10)
    orders = set()
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        parts = cut(lengths, 40, seed, epoch)
        order, rounds = draw(lengths, parts.part, parts.rounds, seed, epoch)
        orders.add(tuple(order.tolist()))
        # Between the ends, a round has frames of three parts of four episodes.
        middle = order[rounds == 4] // 10
        assert len(set(middle.tolist())) == 12
    assert len(orders) == 3


def test_an_episode_larger_than_a_part_is_refused():
    with pytest.raises(ValueError, match="an episode of 5 frames does not fit in a part of 4"):
        cut(np.array([3, 5]), 4, 0, 0)


# --- the variable ---


@pytest.mark.parametrize(
    ("text", "n_bytes", "size", "disk"),
    [
        ("8GiB", 8 * 2**30, None, False),
        ("8gib:240x320", 8 * 2**30, (240, 320), False),
        ("1.5G", 3 * 2**29, None, False),
        ("500MB", 500 * 10**6, None, False),
        ("disk:20GiB", 20 * 2**30, None, True),
        ("disk:2TiB:96x96@/a/b c", 2 * 2**40, (96, 96), True),
    ],
)
def test_budgets_are_read(monkeypatch, text, n_bytes, size, disk):
    monkeypatch.setenv(POOL, text)
    budget = budget_from_environment()
    assert (budget.n_bytes, budget.size, budget.folder is not None) == (n_bytes, size, disk)
    if "@" in text:
        assert str(budget.folder) == "/a/b c"


@pytest.mark.parametrize("text", ["", "  ", "off", "OFF"])
def test_no_budget(monkeypatch, text):
    monkeypatch.setenv(POOL, text)
    assert budget_from_environment() is None


@pytest.mark.parametrize(
    "text", ["8", "GiB", "-1GiB", "0GiB", "8GiB:240", "8GiB:0x4", "8GiB@/folder", "disk:", "on", "8 apples"]
)
def test_a_bad_budget_is_refused_by_name_value_and_remedy(monkeypatch, text):
    monkeypatch.setenv(POOL, text)
    with pytest.raises(ValueError, match="set it to something like 8GiB") as refused:
        budget_from_environment()
    assert POOL in str(refused.value)
    assert repr(text) in str(refused.value)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        assert parse_budget(text).n_bytes > 0
    except ValueError as refused:
        assert POOL in str(refused)  # noqa: PT017 - either is right
