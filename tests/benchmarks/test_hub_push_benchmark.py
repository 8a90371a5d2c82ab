# SPDX-License-Identifier: Apache-2.0
"""`benchmarks/hub_push.py`: its tables tell what was counted, and what a reader finds has its name."""

import hub_push
import pytest
from hub_push_parts.breaks import MIXTURE, NEW, NOTHING, OLD, OURS, STOCK, _called

ROW = {"requests": 4, "commits": 3, "arrived": 5, "lost_once": 12}
FIGURES = {
    "seconds": {STOCK: [2.0, 4.0, 3.0], OURS: [1.0, 1.0, 3.0]},
    "cut_off": [
        {"side": STOCK, "over": NOTHING, "found": {NOTHING: 5, OLD: 0, NEW: 1, MIXTURE: 6}, **ROW},
        {
            "side": OURS,
            "over": NOTHING,
            "found": {NOTHING: 8, OLD: 0, NEW: 1, MIXTURE: 0},
            **ROW,
            "commits": 1,
        },
        {"side": STOCK, "over": OLD, "found": {NOTHING: 0, OLD: 7, NEW: 1, MIXTURE: 4}, **ROW},
        {"side": OURS, "over": OLD, "found": {NOTHING: 0, OLD: 8, NEW: 1, MIXTURE: 0}, **ROW},
    ],
}


@pytest.mark.parametrize(
    ("seen", "old", "found"),
    [
        ({}, {}, NOTHING),
        ({"a": "1"}, {"a": "1"}, OLD),
        ({"a": "2", "b": "2"}, {"a": "1"}, NEW),
        ({"a": "2"}, {"a": "1"}, MIXTURE),
        ({"a": "2"}, {}, MIXTURE),
        ({}, {"a": "1"}, NOTHING),
    ],
)
def test_what_a_reader_finds_has_a_name(seen, old, found):
    assert _called(seen, old, {"a": "2", "b": "2"}) == found


def test_tables_and_last_line_tell_the_counts():
    text = hub_push.table(FIGURES)
    assert "| LeRobot 0.6.1 | 4 | 3 | 3.00 |" in text
    assert "| with our plugins | one with an older checkpoint | 0 | 8 | 1 | 0 | 5 of 12 arrive |" in text
    assert hub_push.last_line(FIGURES) == (
        "hub_push: one push takes 0.50 of stock's time; cut off, a reader finds a mixture after 0 of 18 "
        "pushes, after 10 of 24 of stock's"
    )


def test_the_picture_is_drawn(tmp_path):
    hub_push.draw(FIGURES, tmp_path / "hub_push.png")
    assert (tmp_path / "hub_push.png").stat().st_size > 1000
