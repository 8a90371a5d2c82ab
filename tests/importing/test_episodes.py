# SPDX-License-Identifier: Apache-2.0
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lerobot_ext.importing.episodes import cut, segments


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.data())
def test_every_row_is_in_one_episode_and_episodes_end_where_a_flag_fires(done, data):
    truncated = data.draw(st.lists(st.booleans(), min_size=len(done), max_size=len(done)))
    flags = {"done": np.array(done), "truncated": np.array(truncated)}

    episodes = cut(0, "", len(done), flags, flat=True)

    rows = [row for each in episodes for row in range(each.start, each.start + each.length)]
    assert rows == list(range(len(done)))
    ends = [i for i, (a, b) in enumerate(zip(done, truncated, strict=True)) if a or b]
    assert [each.start + each.length - 1 for each in episodes if not each.open_end] == ends
    assert [each.open_end for each in episodes[:-1]] == [False] * (len(episodes) - 1)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.integers(1, 120))
def test_segments_hold_every_frame_once_in_order(lengths, frames):
    made = list(segments(lengths, frames))

    held = [
        (piece.episode, frame)
        for segment in made
        for piece in segment.pieces
        for frame in range(piece.start, piece.start + piece.length)
    ]
    assert held == [(episode, frame) for episode, length in enumerate(lengths) for frame in range(length)]
    assert [segment.index for segment in made] == list(range(len(made)))
    assert made[-1].whole
    # No more than twice the length, and a bit: an episode below twice is not cut.
    assert all(segment.n_frames < 3 * frames for segment in made)
    for segment, following in pairwise(made):
        assert segment.whole == (following.pieces[0].start == 0)
