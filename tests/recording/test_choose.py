# SPDX-License-Identifier: Apache-2.0
"""What is recommended, over invented measurements."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerobot_ext.recording import choose
from lerobot_ext.recording.candidates import STOCK, Candidate, candidates, queue_for
from lerobot_ext.recording.choose import Row, first_that_holds, lighter, ranked, shortfall
from lerobot_ext.recording.load import Load
from lerobot_ext.recording.trial import Effort, Pace

THREE = Load(3, 640, 480, 30)

efforts = st.builds(
    Effort,
    frames_per_s=st.floats(1, 1000),
    cpu_ms=st.floats(1, 100),
    kb=st.floats(0.5, 100),
    psnr=st.floats(20, 50),
    decode_cpu_ms=st.none() | st.floats(1, 100),
)
rows = st.lists(
    st.builds(
        Row,
        candidate=st.builds(Candidate, vcodec=st.just("h264"), preset=st.text(max_size=3), crf=st.just(23)),
        effort=efforts,
        why_not=st.sampled_from(["", "3 of 90 late"]),
    ),
    max_size=8,
)
loads = st.builds(
    Load,
    cameras=st.integers(1, 6),
    width=st.integers(32, 640).map(lambda n: 2 * n),
    height=st.integers(32, 540).map(lambda n: 2 * n),
    fps=st.integers(1, 120),
)


@given(rows, st.floats(20, 50))
def test_only_what_holds_and_can_be_read_is_recommended(tried, reference):
    best = ranked(tried, reference)
    able = [row for row in tried if row.holds and row.effort.decode_cpu_ms is not None]
    assert len(best) == len(able)
    assert all(row in able for row in best)


@given(rows, st.floats(20, 50))
def test_the_best_is_as_good_as_stock_if_any_is(tried, reference):
    best = ranked(tried, reference)
    if any(row.effort.psnr >= reference - choose.PSNR_LOSS_DB for row in best):
        assert best[0].effort.psnr >= reference - choose.PSNR_LOSS_DB
    elif best:
        assert best[0].effort.psnr == max(row.effort.psnr for row in best)


@given(rows, st.floats(20, 50))
def test_no_smaller_one_is_as_good_and_as_fast_to_decode(tried, reference):
    best = ranked(tried, reference)
    for other in best[1:]:
        assert not (
            other.effort.kb < best[0].effort.kb
            and other.effort.psnr >= best[0].effort.psnr
            and other.effort.decode_cpu_ms <= best[0].effort.decode_cpu_ms
        )


@given(rows, st.floats(20, 50))
def test_the_order_of_trying_does_not_matter(tried, reference):
    unique = list({row.candidate.name: row for row in tried}.values())
    assert ranked(unique, reference) == ranked(unique[::-1], reference)


def test_what_training_pays_for_weighs_more_than_size():
    small = Row(
        Candidate("h264", "veryfast", 23), Effort(140, 7, kb=8.6, psnr=31.5, decode_cpu_ms=8.1), why_not=""
    )
    quick = Row(
        Candidate("h264", "ultrafast", 26), Effort(256, 4, kb=11.7, psnr=31.5, decode_cpu_ms=3.6), why_not=""
    )
    assert ranked([small, quick], 31.7) == [quick, small]


def test_of_equals_the_smaller_file_wins():
    big = Row(
        Candidate("h264", "ultrafast", 20), Effort(250, 4, kb=21.5, psnr=31.9, decode_cpu_ms=4.9), why_not=""
    )
    little = Row(
        Candidate("h264", "ultrafast", 26), Effort(250, 4, kb=11.7, psnr=31.5, decode_cpu_ms=4), why_not=""
    )
    assert ranked([big, little], 31.7)[0] is little


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"dropped": 1}, "1 frames dropped"),
        ({"late": 2}, "2 of 100 late"),
        ({"kept_up": 0.9}, "falls behind (90%)"),
        ({"fullest": 0.6}, "queue 60% full"),
    ],
)
def test_each_way_of_not_holding_is_told(changed, said):
    fed = Pace(fps=37.5, ticks=100, late=1, dropped=0, kept_up=1.0, fullest=0.1, cpu_ms=20)
    assert shortfall(replace(fed, **changed)) == said


@given(loads)
def test_lighter_loads_are_lighter_and_ever_more_so(load):
    for what, lowered in lighter(load).items():
        heaviest_first = [load, *lowered]
        for heavy, light in zip(heaviest_first, lowered, strict=False):
            assert heavy.covers(light), what
            assert not light.covers(heavy), what


@given(loads, st.floats(1e4, 1e9), st.integers(0, 5))
def test_the_first_lighter_load_that_holds_is_found(load, pixels_per_s, nth):
    for lowered in lighter(load).values():
        tried = []

        def holds(one, tried=tried):
            tried.append(one)
            return len(tried) > nth

        found = first_that_holds(lowered, pixels_per_s, holds)
        assert len(tried) <= 4
        assert found is None or (found is tried[-1] and len(tried) == nth + 1)
        assert all(one.frames_per_s * one.width * one.height <= pixels_per_s for one in tried)


@given(loads)
def test_a_load_survives_its_word(load):
    assert Load.parse(load.word) == load


@pytest.mark.parametrize(
    "word", ["", "3", "640x480@30", "3x640x480", "0x640x480@30", "3x641x480@30", "3x640x480@30 "]
)
def test_a_word_that_names_no_load_is_refused(word):
    with pytest.raises(ValueError, match="must be"):
        Load.parse(word)


@given(loads)
def test_a_queue_stays_within_memory_and_is_never_tiny(load):
    queue = queue_for(load)
    assert 4 <= queue <= max(4, 2 * load.fps)
    assert queue == 4 or queue * load.cameras * load.frame_bytes <= 512 * 2**20


def test_flags_are_those_that_stock_parses():
    draccus = pytest.importorskip("draccus")
    from lerobot.configs.dataset import DatasetRecordConfig

    for candidate in [*candidates(THREE, []), Candidate("h264", None, 24)]:
        words = [flag.replace("--dataset.", "--") for flag in candidate.flags()]
        parsed = draccus.parse(DatasetRecordConfig, args=words)
        assert parsed.streaming_encoding
        assert parsed.rgb_encoder == candidate.encoder()
        assert (parsed.encoder_threads, parsed.encoder_queue_maxsize) == (candidate.threads, candidate.queue)


def test_stock_is_tried_first_and_is_what_stock_does():
    from lerobot.configs.dataset import DatasetRecordConfig

    default = DatasetRecordConfig()
    assert candidates(THREE, [])[0] is STOCK
    assert STOCK.encoder() == default.rgb_encoder
    assert (STOCK.threads, STOCK.queue) == (default.encoder_threads, default.encoder_queue_maxsize)
