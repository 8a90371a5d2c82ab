# SPDX-License-Identifier: Apache-2.0
"""The plan of faults and the injector that carries it out, without a bus."""

import itertools

import pytest
from lerobot_env_koch.bench.fate import Fate
from lerobot_env_koch.bench.fault_injector import FaultInjector
from lerobot_env_koch.bench.faults import Alert, Burst, FaultPlan, Silence, Stall, check_ids
from lerobot_env_koch.bench.instructions import Answer, Reply
from lerobot_env_koch.bench.protocol import encode_fast_parts, encode_status

PACKET = encode_status(1, 0, b"\x01\x02\x03\x04")
EVERYTHING = (
    "drop=0.05,drop_every=7,burst=0.02@4:0.8,crc=0.01,noise=0.03,truncate=0.04,late_ms=40@0.02,txdrop=0.06,"
    "silent=3:200,silent=4:100@2s,stall=300,stall=50@1.5s,chain,latency_timer=16,alert=2:overload,"
    "alert=5:voltage,unplug@3s"
)


def sync_read(ids=(1, 2, 3, 4, 5, 6), *, fast: bool = False) -> Answer:
    raws = [encode_status(id_, 0, bytes(4)) for id_ in ids]
    if fast:
        raws = encode_fast_parts([(id_, 0, bytes(4)) for id_ in ids])
    replies = [
        Reply(id_, raw, is_part=fast and i > 0) for i, (id_, raw) in enumerate(zip(ids, raws, strict=True))
    ]
    return Answer(replies, sync_read=True, fast=fast)


def fates_of(injector: FaultInjector, n: int, now: float = 0.0) -> list[Fate]:
    return [injector.replies(Answer([Reply(1, PACKET)]), now)[0] for _ in range(n)]


# --- the text


def test_a_plan_reads_its_own_text():
    plan = FaultPlan.parse(EVERYTHING)
    assert str(plan) == EVERYTHING
    assert FaultPlan.parse(str(plan)) == plan
    assert plan.silent == (Silence(3, 200), Silence(4, 100, 2.0))
    assert plan.stalls == (Stall(300), Stall(50, 1.5))
    assert plan.alerts == (Alert(2, "overload"), Alert(5, "voltage"))
    assert plan.unplug_s == 3
    assert FaultPlan.parse("silent=3:200ms@1, unplug") == FaultPlan(
        silent=(Silence(3, 200, 1.0),), unplug_s=0.0
    )
    assert FaultPlan.parse("burst=0.05@3").burst == Burst(0.05, 3.0, 1.0)
    assert (str(FaultPlan.parse("")), FaultPlan.parse("")) == ("none", FaultPlan())


@pytest.mark.parametrize(
    "text",
    [
        "drop",
        "drop=x",
        "late_ms=40",
        "silent=3",
        "fire=1",
        "burst=0.1",
        "chain=1",
        "stall",
        "unplug=3",
        "alert=3",
        "silent=3:5@soon",
        "latency_timer",
    ],
)
def test_a_fault_that_is_not_understood_is_named(text):
    with pytest.raises(ValueError, match=r"fault .*(write drop=P|kind '')"):
        FaultPlan.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drop=1.5", "`drop` .*probability"),
        ("crc=-1", "`crc` .*probability"),
        ("txdrop=nan", "`txdrop` .*probability"),
        ("late_ms=nan@0.1", "`late_ms` .*negative"),
        ("burst=0.9@3:0.5", "`burst` rate"),
        ("burst=0.9@0.5", "`burst` length"),
        ("burst=0.9@2", "`burst` length"),
        ("burst=0.1@3:0", "`burst` loses"),
        ("silent=3:-1", "silent=3:-1"),
        ("stall=-1", "stall=-1"),
        ("alert=3:hunger", "'hunger' .*voltage, overheating, encoder, shock, overload"),
        ("unplug@-1s", "`unplug`"),
    ],
)
def test_an_impossible_fault_says_why(text, message):
    with pytest.raises(ValueError, match=message):
        FaultPlan.parse(text)


def test_a_fault_for_a_servo_that_is_not_there_is_refused():
    check_ids(FaultPlan.parse("silent=3:5"), [1, 2, 3])
    with pytest.raises(ValueError, match=r"alert=9:shock.* servo 9; this bus has ids 1, 2, 3"):
        check_ids(FaultPlan.parse("alert=9:shock"), [1, 2, 3])


# --- rates


def test_rates_are_met_and_repeat_with_the_seed():
    plan = FaultPlan.parse("drop=0.05,crc=0.01,late_ms=40@0.02,noise=0.03,truncate=0.04")
    first, second = FaultInjector(plan, seed=3), FaultInjector(plan, seed=3)
    fates = fates_of(first, 20_000)
    assert fates == fates_of(second, 20_000)
    assert fates != fates_of(FaultInjector(plan, seed=4), 20_000)
    counts = first.counts
    assert 900 < counts.dropped < 1100
    assert 140 < counts.corrupted < 250
    assert 500 < counts.noisy < 650
    assert 680 < counts.truncated < 850
    assert sum(fate.late_ms == 40 for fate in fates) == counts.delayed > 300


def test_adding_a_kind_leaves_the_others_as_they_were():
    alone = fates_of(FaultInjector(FaultPlan.parse("drop=0.1"), seed=1), 2000)
    joined = fates_of(FaultInjector(FaultPlan.parse("drop=0.1,crc=0.3,burst=0.1@5"), seed=1), 2000)
    assert [fate.lost == "drop" for fate in alone] == [fate.lost == "drop" for fate in joined]


@pytest.mark.parametrize(
    ("rate", "length", "loss"), [(0.05, 4, 1.0), (0.01, 10, 1.0), (0.1, 6, 0.5), (0.3, 1, 1.0)]
)
def test_bursts_have_the_rate_and_the_length_asked_for(rate, length, loss):
    n = 200_000
    injector = FaultInjector(FaultPlan(burst=Burst(rate, length, loss)), seed=5)
    lost = [fate.lost == "burst" for fate in fates_of(injector, n)]
    # Losses come in clumps: the long-run share scatters by about the root of twice the burst length more.
    scatter = 4 * (rate * (1 - rate) * 2 * length / n) ** 0.5
    assert abs(sum(lost) / n - rate) < scatter
    runs = [len(list(group)) for is_lost, group in itertools.groupby(lost) if is_lost]
    if loss == 1:
        assert abs(sum(runs) / len(runs) / length - 1) < 0.1
    else:
        # A packet after a lost one is lost if the burst goes on and strikes again.
        again = sum(a and b for a, b in itertools.pairwise(lost)) / sum(lost)
        assert abs(again - (1 - 1 / length) * loss - rate / length / length) < 0.03
    assert injector.counts.burst_lost == sum(lost)


def test_every_nth_packet_is_lost_counted_from_the_setting():
    injector = FaultInjector(FaultPlan.parse("drop_every=3"), seed=0)
    fates_of(injector, 2)
    injector.set_plan(FaultPlan.parse("drop_every=3"))
    assert [fate.name for fate in fates_of(injector, 6)] == ["ok", "ok", "drop"] * 2


# --- what a fate does to the bytes


def test_fates_change_the_bytes_and_survive_json():
    damaged = Fate(flip=(9, 3), noise=b"\x01\x02", late_ms=4.5)
    assert damaged.name == "crc+noise+late"
    assert damaged.apply(PACKET) == b"\x01\x02" + PACKET[:9] + bytes([PACKET[9] ^ 8]) + PACKET[10:]
    assert Fate(keep=5).apply(PACKET) == PACKET[:5]
    assert Fate(lost="drop").apply(PACKET) == b""
    for fate in (damaged, Fate(keep=5), Fate(lost="chain"), Fate()):
        assert Fate.from_json(fate.as_json()) == fate
    assert Fate(keep=99, flip=(99, 0)).apply(PACKET) == PACKET[:-1]


@pytest.mark.parametrize(
    "fields", [{"flip": [3]}, {"keep": "x"}, {"lots": 1}, {"flip": [1, 9]}, {"late_ms": -1}]
)
def test_a_malformed_fate_is_refused(fields):
    with pytest.raises(ValueError, match="no fate of a packet"):
        Fate.from_json(fields)


# --- one servo after the other


@pytest.mark.parametrize(("spec", "fast"), [("chain", False), ("", True)], ids=["chain", "fast"])
@pytest.mark.parametrize("loss", ["silent=3:200", "drop_every=3"])
def test_a_lost_answer_silences_those_behind_it(spec, fast, loss):
    injector = FaultInjector(FaultPlan.parse(f"{loss},{spec}"), seed=0)
    kind = loss.partition("=")[0].partition("_")[0]
    assert [fate.name for fate in injector.replies(sync_read(fast=fast), 0.0)] == ["ok", "ok", kind] + [
        "chain"
    ] * 3
    assert injector.counts.chained == 3


def test_without_chain_the_others_answer():
    injector = FaultInjector(FaultPlan.parse("silent=3:200"), seed=0)
    names = [fate.name for fate in injector.replies(sync_read(), 0.0)]
    assert names == ["ok", "ok", "silent", "ok", "ok", "ok"]


def test_a_truncated_part_of_a_fast_answer_silences_those_behind_it():
    injector = FaultInjector(FaultPlan.parse("truncate=1"), seed=0)
    assert [fate.name for fate in injector.replies(sync_read(fast=True), 0.0)] == ["truncate"] + ["chain"] * 5


# --- time


def test_a_silent_servo_speaks_again_from_its_first_request_on():
    injector = FaultInjector(FaultPlan.parse("silent=3:200"), seed=0)
    answer = Answer([Reply(3, PACKET)])
    assert fates_of(injector, 1, now=5.0) == [Fate()]
    assert [injector.replies(answer, now)[0].name for now in (10.0, 10.19, 10.21)] == [
        "silent",
        "silent",
        "ok",
    ]


def test_starts_count_from_the_first_request():
    injector = FaultInjector(FaultPlan.parse("silent=3:200@1s,stall=50@2s,unplug@3s"), seed=0)
    answer = Answer([Reply(3, PACKET)])
    assert not injector.take_unplug(99.0)
    assert injector.instruction(10.0) == Fate()
    assert [injector.replies(answer, now)[0].name for now in (10.9, 11.1, 11.3)] == ["ok", "silent", "ok"]
    assert injector.instruction(12.01).late_ms == pytest.approx(40)
    assert injector.instruction(12.06) == Fate()
    assert [injector.take_unplug(now) for now in (12.9, 13.0, 13.1)] == [False, True, False]


def test_neighbouring_stalls_hold_a_packet_through_both():
    injector = FaultInjector(FaultPlan.parse("stall=50@1.04s,stall=50@1s"), seed=0)
    injector.instruction(0.0)
    assert injector.hold(Fate(late_ms=1), 1.02).late_ms == pytest.approx(71)
    assert injector.counts.stalled == 1


def test_lost_instructions_are_counted():
    injector = FaultInjector(FaultPlan.parse("txdrop=0.5"), seed=0)
    lost = sum(injector.instruction(0.0).lost == "txdrop" for _ in range(1000))
    assert 430 < lost < 570
    assert injector.counts.instructions_lost == lost


def test_alerts_are_raised_once():
    injector = FaultInjector(FaultPlan.parse("alert=2:overload"), seed=0)
    assert injector.take_alerts() == [Alert(2, "overload")]
    assert injector.take_alerts() == []
