# SPDX-License-Identifier: Apache-2.0
"""One client drives at a time; a dead one loses its turn."""

import pytest

from lerobot_ext.serving.lease import Lease, NotYours, Taken


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_second_client_is_refused_and_told_who_drives(clock):
    lease = Lease(10, clock=clock)
    assert lease.acquire("a")
    clock.now = 3
    with pytest.raises(Taken, match=r"another client drives since 3 s.*--clients=queue") as caught:
        lease.acquire("b")
    assert caught.value.ahead is None
    assert not lease.acquire("a")  # again, by the one that has it
    lease.release("a")
    assert lease.acquire("b")


def test_the_lease_ends_without_signs_of_life(clock):
    lease = Lease(10, clock=clock)
    lease.acquire("a")
    clock.now = 9
    lease.renew("a")
    clock.now = 18
    assert lease.holder == "a"
    clock.now = 19.5
    assert lease.holder is None
    with pytest.raises(NotYours, match="join again"):
        lease.renew("a")
    assert lease.acquire("b")


def test_work_for_the_holder_keeps_the_lease(clock):
    lease = Lease(10, clock=clock)
    lease.acquire("a")
    with lease.at_work("a"):
        clock.now = 500
        assert lease.holder == "a"
        with pytest.raises(NotYours):
            lease.acquire("b")
    clock.now = 509
    assert lease.holder == "a"
    clock.now = 511
    assert lease.holder is None


def test_waiting_clients_come_in_turn(clock):
    lease = Lease(10, "queue", clock=clock)
    lease.acquire("a")
    for ahead, name in enumerate("bc"):
        with pytest.raises(Taken) as caught:
            lease.acquire(name)
        assert caught.value.ahead == ahead
    lease.release("a")
    with pytest.raises(Taken) as caught:
        lease.acquire("c")  # not its turn, although nobody drives
    assert caught.value.ahead == 1
    assert lease.acquire("b")
    assert lease.n_waiting == 1


def test_a_waiting_client_that_dies_loses_its_place(clock):
    lease = Lease(10, "queue", clock=clock)
    lease.acquire("a")
    for name in "bc":
        with pytest.raises(NotYours):
            lease.acquire(name)
    for clock.now in (6, 12):
        lease.renew("a")
        with pytest.raises(Taken) as caught:
            lease.acquire("c")
    assert caught.value.ahead == 0


def test_the_queue_has_an_end(clock):
    lease = Lease(10, "queue", max_waiting=1, clock=clock)
    lease.acquire("a")
    with pytest.raises(NotYours):
        lease.acquire("b")
    with pytest.raises(NotYours, match="queue is full"):
        lease.acquire("c")


def test_releasing_what_one_does_not_hold_changes_nothing(clock):
    lease = Lease(10, clock=clock)
    lease.acquire("a")
    lease.release("b")
    assert lease.holder == "a"
