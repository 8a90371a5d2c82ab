# SPDX-License-Identifier: Apache-2.0
"""Episodes, terminals and rewards from a dataset's columns."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lerobot_ext.offline_rl.labels import (
    batch_rewards,
    best_episodes,
    episodes_from_columns,
    good_episodes,
    read_episodes,
)

# Episode 0: succeeds after 3 frames. 1: cut off after 4. 2: ends badly after 2.
COLUMNS = {
    "index": np.arange(9),
    "episode_index": np.array([0, 0, 0, 1, 1, 1, 1, 2, 2]),
    "next.reward": np.array([0, 0, 1, 0.5, 0, 0, 0, 0, -1.0]),
    "next.success": np.array([0, 0, 1, 0, 0, 0, 0, 0, 0], bool),
    "next.done": np.array([0, 0, 1, 0, 0, 0, 1, 0, 1], bool),
    "next.truncated": np.array([0, 0, 0, 0, 0, 0, 1, 0, 0], bool),
}


def test_ends_are_terminal_as_the_mode_says():
    episodes = episodes_from_columns(COLUMNS)
    assert episodes.start.tolist() == [0, 3, 7]
    assert episodes.end.tolist() == [3, 7, 9]
    assert episodes.terminal("success").tolist() == [True, False, False]
    assert episodes.terminal("done_flag").tolist() == [True, False, True]
    assert episodes.terminal("episode_end").tolist() == [True, True, True]
    assert episodes.terminal("never").tolist() == [False, False, False]
    with pytest.raises(ValueError, match="sometimes"):
        episodes.terminal("sometimes")


@pytest.mark.parametrize(
    ("columns", "mode"),
    [(("next.success", "next.done"), "success"), (("next.done",), "done_flag"), ((), "episode_end")],
)
def test_the_automatic_mode_uses_the_columns_that_are_there(columns, mode):
    episodes = episodes_from_columns({k: COLUMNS[k] for k in ("index", "episode_index", *columns)})
    assert episodes.automatic_mode == mode
    assert episodes.terminal("auto").tolist() == episodes.terminal(mode).tolist()


def test_a_missing_column_is_named_with_what_needs_it():
    episodes = episodes_from_columns({k: COLUMNS[k] for k in ("index", "episode_index")})
    with pytest.raises(ValueError, match=r"next\.success.*'sparse_success'"):
        episodes.rewards_by("sparse_success")
    with pytest.raises(ValueError, match=r"next\.reward"):
        episodes.rewards_by("next.reward")
    with pytest.raises(ValueError, match=r"next\.done.*'done_flag'"):
        episodes.terminal("done_flag")


def test_rewards_of_a_batch_are_those_of_the_episodes():
    episodes = episodes_from_columns(COLUMNS)
    for source, expected in (
        ("sparse_success", [[0, 0, 1], [0] * 4, [0] * 2]),
        ("step_cost", [[-1, -1, 0], [-1] * 4, [-1] * 2]),
    ):
        assert [rewards.tolist() for rewards in episodes.rewards_by(source)] == expected
        index = torch.arange(9)
        episode = torch.from_numpy(COLUMNS["episode_index"])
        end = torch.from_numpy(episodes.end)[episode]
        success = torch.from_numpy(episodes.success)[episode]
        chunks = batch_rewards(source, index, 4, end, success)
        flat = [reward for rewards in expected for reward in rewards]
        for frame in range(9):
            left = flat[frame : int(end[frame])][:4]
            assert chunks[frame].tolist() == left + [0] * (4 - len(left))


def test_the_best_episodes_are_those_of_largest_return():
    episodes = episodes_from_columns(COLUMNS)
    assert best_episodes(episodes, "next.reward", 0.3).tolist() == [True, False, False]
    assert best_episodes(episodes, "next.reward", 0.67).tolist() == [True, True, False]
    assert best_episodes(episodes, "step_cost", 0.67).tolist() == [True, False, True]
    assert best_episodes(episodes, "next.reward", 1.0).all()


def test_good_episodes_are_counted_from_the_worst_to_the_best_return():
    rewards = [[0.0, 1.0], [-1.0, 0.0], [2.0, 1.0], [0.0, 0.0], [0.5, 0.5]]  # returns 1, -1, 3, 0, 1
    columns = {
        "episode_index": np.repeat(np.arange(5), 2),
        "index": np.arange(10),
        "next.reward": np.array(rewards).flatten(),
    }
    episodes = episodes_from_columns(columns)
    assert good_episodes(episodes, "next.reward", 0.0).all()
    assert good_episodes(episodes, "next.reward", 0.5).tolist() == [True, False, True, False, True]
    assert good_episodes(episodes, "next.reward", 0.51).tolist() == [False, False, True, False, False]
    assert good_episodes(episodes, "next.reward", 1.0).tolist() == [False, False, True, False, False]


def test_where_success_is_rewarded_the_good_episodes_are_those_that_succeeded():
    episodes = episodes_from_columns(COLUMNS)
    for source in ("sparse_success", "step_cost"):
        assert good_episodes(episodes, source, 0.5)[episodes.success].all()
    assert good_episodes(episodes, "sparse_success", 0.5).tolist() == episodes.success.tolist()
    alike = episodes_from_columns({**COLUMNS, "next.success": np.ones(9, bool)})
    assert good_episodes(alike, "sparse_success", 1.0).all(), "nothing sets them apart"


def test_columns_are_read_from_the_files_of_a_dataset(tmp_path):
    data = tmp_path / "data" / "chunk-000"
    data.mkdir(parents=True)
    columns = {name: pa.array(values) for name, values in COLUMNS.items()}
    columns["next.reward"] = pa.array([[value] for value in COLUMNS["next.reward"]])
    table = pa.table({**columns, "action": pa.array(np.zeros(9))})
    pq.write_table(table.slice(0, 5), data / "file-000.parquet")
    pq.write_table(table.slice(5), data / "file-001.parquet")
    read = read_episodes(SimpleNamespace(root=tmp_path))
    expected = episodes_from_columns(COLUMNS)
    for name in ("start", "end", "success", "done", "truncated"):
        assert getattr(read, name).tolist() == getattr(expected, name).tolist()
    assert [r.tolist() for r in read.rewards] == [r.tolist() for r in expected.rewards]


def test_a_dataset_without_files_has_no_episodes_to_read(tmp_path):
    assert read_episodes(SimpleNamespace(root=tmp_path)) is None
    assert read_episodes(SimpleNamespace()) is None


def test_interleaved_episodes_are_refused():
    with pytest.raises(ValueError, match="side by side"):
        episodes_from_columns({"index": np.arange(3), "episode_index": np.array([0, 1, 0])})
