# SPDX-License-Identifier: Apache-2.0
"""How long the driver waits, and when an old value may stand in for a missing one: pure, without a bus."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lerobot_robot_koch.freshness import Freshness, Verdict
from lerobot_robot_koch.link import Link, Port
from lerobot_robot_koch.round_trip import PATIENT_S, RoundTrip


def freshness() -> Freshness:
    return Freshness(max_stale_s=0.2, give_up_s=0.3)


def test_a_young_value_stands_in():
    known = freshness()
    known.received(3, 2047, asked_s=10.0)
    assert known.verdict([3], 10.15) is Verdict.USE_LAST
    assert known.value(3) == 2047
    assert known.age_s(3, 10.15) == pytest.approx(0.15)


def test_an_old_value_does_not():
    known = freshness()
    known.received(3, 2047, asked_s=10.0)
    assert known.verdict([3], 10.21) is Verdict.KEEP_TRYING


def test_age_alone_never_gives_up():
    """The whole program may have been held up: one request mends that."""
    known = freshness()
    known.received(3, 2047, asked_s=10.0)
    assert known.verdict([3], 1000.0) is Verdict.KEEP_TRYING


def test_trying_without_an_answer_gives_up():
    known = freshness()
    known.received(3, 2047, asked_s=10.0)
    for _ in range(30):
        known.tried([3], 0.0101)
    assert known.verdict([3], 10.21) is Verdict.GIVE_UP
    # While the value is young it is used all the same: nothing is given up early.
    assert known.verdict([3], 10.19) is Verdict.USE_LAST


def test_an_answer_starts_the_count_again():
    known = freshness()
    known.tried([3], 0.29)
    known.received(3, 1, asked_s=10.0)
    known.tried([3], 0.02)
    assert known.verdict([3], 11.0) is Verdict.KEEP_TRYING
    assert known.tried_s([3]) == pytest.approx(0.02)


def test_the_oldest_motor_decides():
    known = freshness()
    known.received(1, 5, asked_s=10.19)
    known.received(2, 6, asked_s=10.0)
    assert known.verdict([1], 10.25) is Verdict.USE_LAST
    assert known.verdict([1, 2], 10.25) is Verdict.KEEP_TRYING


def test_without_any_value_there_is_nothing_to_stand_in():
    assert freshness().verdict([1], 0.0) is Verdict.KEEP_TRYING


def test_forgetting_leaves_no_value():
    known = freshness()
    known.received(1, 5, asked_s=10.0)
    known.forget()
    assert known.verdict([1], 10.0) is Verdict.KEEP_TRYING


# --- round trips


def test_before_the_first_answer_it_waits_as_the_sdk_does():
    assert RoundTrip().timeout(6) == PATIENT_S
    assert RoundTrip().gap() == PATIENT_S


def test_it_learns_how_long_answers_take():
    trip = RoundTrip()
    for _ in range(50):
        trip.succeeded(6, 0.004, 0.0007)
    assert trip.mean(6) == pytest.approx(0.004)
    assert 0.004 < trip.timeout(6) <= 0.0065
    assert trip.gap() <= 0.0045


def test_one_hiccup_of_the_host_counts_little():
    trip = RoundTrip()
    for _ in range(50):
        trip.succeeded(6, 0.004, 0.0007)
    before = trip.timeout(6)
    trip.succeeded(6, 0.060, 0.050)
    assert trip.timeout(6) < before + 0.003


def test_a_slower_bus_is_learned():
    trip = RoundTrip()
    for _ in range(50):
        trip.succeeded(1, 0.001)
    for _ in range(50):
        trip.succeeded(1, 0.016)
    assert trip.mean(1) == pytest.approx(0.016, rel=0.1)


def test_unknown_numbers_lie_on_a_line():
    trip = RoundTrip()
    trip.succeeded(1, 0.001)
    assert trip.mean(6) == pytest.approx(0.006)
    trip.succeeded(6, 0.0035)
    assert trip.mean(3) == pytest.approx(0.002)
    assert trip.mean(7) == pytest.approx(0.004)


def test_silence_doubles_the_wait_and_an_answer_ends_that():
    trip = RoundTrip()
    trip.succeeded(1, 0.001)
    once = trip.timeout(1)
    trip.failed()
    trip.failed()
    assert trip.timeout(1) == pytest.approx(4 * once)
    trip.heard()
    assert trip.timeout(1) == pytest.approx(once)


@given(st.lists(st.tuples(st.integers(1, 6), st.floats(0, 0.2)), min_size=1, max_size=60))
def test_the_wait_is_never_shorter_than_the_mean(samples):
    trip = RoundTrip()
    for n, seconds in samples:
        trip.succeeded(n, seconds)
    for n in range(1, 8):
        mean = trip.mean(n)
        assert mean is not None
        assert mean >= 0
        assert trip.timeout(n) > mean


# --- late answers


def test_after_a_lost_answer_the_next_reads_differ_in_length():
    """What tells a late answer from a new one, for a third of a second at 30 frames a second."""
    link = Link(Port("/dev/none"))
    link.tags_reads = True
    assert [link.n_extra(132, 4) for _ in range(5)] == [0] * 5
    link.note_unanswered()
    extras = [link.n_extra(132, 4) for _ in range(9)]
    assert len({0, *extras}) == 10
    assert 132 + 4 + max(extras) <= 146
    # A read of one byte must never look like the answer to a ping.
    assert 3 not in [1 + link.n_extra(64, 1) for _ in range(20)]
