# SPDX-License-Identifier: Apache-2.0
"""`benchmarks/act_plus.py`: delays in simulated time, the arithmetic of its figures, and a quick run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


class Counting:
    """Plans `100 * plan + step` as the only joint, so that an action tells where it comes from."""

    def __init__(self, chunk: int, run: int, rtc: bool) -> None:
        self.config = SimpleNamespace(chunk_size=chunk, n_action_steps=run)
        self.rtc, self.asked, self.queue = rtc, [], []

    def supports_rtc(self):
        return self.rtc

    def reset(self):
        self.queue = []

    def predict_action_chunk(self, batch, inference_delay=None, prev_chunk_left_over=None):
        self.asked.append((inference_delay, prev_chunk_left_over))
        return (100.0 * len(self.asked) + torch.arange(self.config.chunk_size))[None, :, None]

    def select_action(self, batch):
        if not self.queue:
            self.queue = list(self.predict_action_chunk(batch)[0, : self.config.n_action_steps])
        return self.queue.pop(0)[None]


def told(controller, ticks):
    answers = [controller.tick({}) for _ in range(ticks)]
    return [None if a is None else int(a) for a, _ in answers], [
        n for n, (_, begins) in enumerate(answers) if begins
    ]


def unchanged(batch):
    return batch


def test_a_loop_that_waits_holds_still_while_it_plans():
    from act_plus_parts.playing import Sync

    actions, seams = told(Sync(Counting(6, 3, False), unchanged, unchanged, 2), 11)
    assert actions == [None, None, 100, 101, 102, None, None, 200, 201, 202, None]
    assert seams == [2, 7]


@pytest.mark.parametrize("rtc", [True, False])
def test_a_loop_that_does_not_wait_drops_what_has_passed(rtc):
    from act_plus_parts.playing import Rtc

    policy = Counting(8, 4, rtc)
    actions, seams = told(Rtc(policy, unchanged, unchanged, 2), 12)
    # The first plan is waited for. With 4 left it plans again, runs 2 more, and drops the 2 that have passed.
    assert actions == [None, None, 100, 101, 102, 103, 104, 105, 202, 203, 204, 205]
    assert seams == [2, 8]
    if rtc:
        assert [delay for delay, _ in policy.asked] == [2, 2, 2][: len(policy.asked)]
        assert policy.asked[0][1] is None
        assert policy.asked[1][1].flatten().tolist() == [104.0, 105, 106, 107, 0, 0, 0, 0, 0, 0]
    else:
        assert policy.asked[1] == (None, None)


def test_without_delay_both_loops_run_the_same_actions():
    from act_plus_parts.playing import Rtc, Sync

    sync = told(Sync(Counting(8, 4, False), unchanged, unchanged, 0), 9)
    assert sync == told(Rtc(Counting(8, 4, False), unchanged, unchanged, 0), 9)


class Still:
    """An environment in which nothing moves, for so many frames."""

    task_description = ""

    def __init__(self, frames: int) -> None:
        self.left = frames

    def reset(self, seed):
        return self._seen(), {}

    def _seen(self):
        return {"agent_pos": np.zeros(1, np.float32), "environment_state": np.zeros(7, np.float32)}

    def step(self, command):
        self.left -= 1
        return self._seen(), 0.0, self.left == 0, False, {"is_success": True}

    def close(self):
        pass


@pytest.mark.parametrize(
    ("mode", "delay", "seams"), [("sync", 0, [4, 8]), ("sync", 2, [8]), ("rtc", 0, [4, 8]), ("rtc", 2, [8])]
)
def test_the_first_chunk_starts_the_arm_and_is_no_boundary(mode, delay, seams):
    """With a delay the arm holds still until the first chunk: that step was counted as the chunk's seam."""
    from act_plus_parts.playing import play

    policy = Counting(8, 4, True)
    [played] = play(policy, unchanged, unchanged, lambda: Still(10), [0], mode, delay)
    assert played.seams == seams


def test_boundary_jerk_is_that_of_the_step_at_a_seam():
    from act_plus_parts.playing import FPS, Played, boundary_jerk

    commands = [np.full(6, float(frame), dtype=np.float32) for frame in range(12)]
    smooth = Played(commands=commands, seams=[6])
    assert boundary_jerk([smooth]) == pytest.approx([0.0], abs=1e-3)
    stepped = Played(commands=[c + (n >= 6) for n, c in enumerate(commands)], seams=[6])
    assert boundary_jerk([stepped]) == pytest.approx([2 * FPS**3])  # 1, -2, 1 of a step by 1
    gripper = [c.copy() for c in commands]
    for frame in range(6, 12):
        gripper[frame][5] += 50  # the gripper snaps shut: no jerk of the arm
    assert boundary_jerk([Played(commands=gripper, seams=[6])]) == pytest.approx([0.0], abs=1e-3)


def test_demonstrations_make_batches_as_the_data_loader_does():
    from act_plus_parts.demonstrations import record

    demos = record("choose", 3, seed=0)
    batch = demos.batch(64, 5, torch.Generator().manual_seed(0))
    assert batch["action"].shape == (64, 5, 6)
    assert len(set(batch["task"])) == len(demos.tasks.tasks.index)
    padded = batch["action_is_pad"]
    assert padded.any()
    assert not padded[:, 0].any()
    first = int(padded[:, -1].nonzero()[0])
    last = int((~padded[first]).sum()) - 1
    assert torch.equal(batch["action"][first, last], batch["action"][first, -1])


def test_pictures_of_demonstrations_are_what_the_player_shows(monkeypatch):
    from act_plus_parts import playing
    from act_plus_parts.demonstrations import COLOUR, DEPTH, features, make_env, record
    from lerobot_env_koch.environment import KochEnv

    seen, observe = [], KochEnv._observe
    monkeypatch.setattr(KochEnv, "_observe", lambda env: seen.append(observe(env)) or seen[-1])
    demos = record("reach", 1, seed=0, picture=24)
    monkeypatch.setattr(demos, "ends", demos.ends[:1])  # batches of the first frame
    batch = demos.batch(2, 5, torch.Generator().manual_seed(0))
    shown = playing.preprocess_observation(playing._stacked(seen[:1] * 2))
    for name, feature in features(24, depth=True)["input_features"].items():
        assert torch.equal(batch[name], shown[name]), name
        assert batch[name].shape == (2, *feature.shape)
    assert 300 < batch[DEPTH].max() < 1000, "millimetres"
    stats = demos.statistics(5, relative=False)
    assert stats[COLOUR]["mean"].flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert float(stats[DEPTH]["mean"]) == pytest.approx(demos.columns[DEPTH].float().mean())
    assert make_env("reach").observation_space.keys() == {"agent_pos", "environment_state"}


def test_stock_act_cannot_read_depth():
    from act_plus_parts.demonstrations import DEPTH, features
    from act_plus_parts.training import config_of
    from lerobot.policies.act.modeling_act import ACTPolicy

    config = config_of("depth", "ACT (stock)")
    assert DEPTH not in config.input_features
    config.input_features |= features(64, depth=True)["input_features"]
    policy = ACTPolicy(config).eval()
    batch = {name: torch.zeros(1, *feature.shape) for name, feature in config.input_features.items()}
    with pytest.raises(RuntimeError, match="to have 3 channels, but got 1 channels"):
        policy.select_action(batch)


def test_of_mixed_demonstrators_the_quick_and_successful_have_an_advantage():
    from act_plus_parts.demonstrations import ADVANTAGE, record

    demos = record("lift", 9, seed=0, skill="mixed")
    ends = sorted(set(demos.ends.tolist()))
    lengths = dict(zip(ends, np.diff([0, *ends]), strict=True))
    assert len(ends) == 9
    assert max(lengths.values()) == 150, "an episode that failed is kept"
    advantage = dict(zip(demos.ends.tolist(), demos.columns[ADVANTAGE][:, 0].tolist(), strict=True))
    median = np.median(list(lengths.values()))
    assert advantage == {end: median - length for end, length in lengths.items()}
    assert 0 < sum(value > 0 for value in advantage.values()) < 9


def cell(task, variant, mode, delay, done, jerk=(), seed=0):
    return {
        "task": task,
        "variant": variant,
        "seed": seed,
        "mode": mode,
        "delay_ms": delay,
        "episodes": 10,
        "successes": [number < done for number in range(10)],
        "frames": [50] * 10,
        "jerk": list(jerk),
        "latency_p50_ms": 0.2,
        "latency_p95_ms": 2.0,
        "measured": "2026-11-22T04:00:00",
    }


def test_seeds_are_pooled_by_episodes_and_seams():
    from act_plus_parts.report import pooled

    cells = [
        cell("belt", "act_rtc", "rtc", 300, done, jerk, seed)
        for seed, (done, jerk) in enumerate([(10, [3, 4]), (4, [5])])
    ]
    (row,) = pooled(cells)
    assert (row["success"], row["by_seed"], row["seeds"], row["episodes"]) == (0.7, [1.0, 0.4], 2, 20)
    assert row["low"] < 0.7 < row["high"]
    assert row["jerk_rms"] == pytest.approx((50 / 3) ** 0.5)
    assert (row["seams"], round(row["jerk_p99"], 2)) == (3, 4.98)


def test_the_claims_are_said_by_intervals_and_by_the_same_loop():
    from act_plus_parts.report import pooled, readme_block, sentences, summary, tables

    cells = [
        cell("belt", "ACT (stock)", "sync", 0, 9, [8000]),
        cell("belt", "ACT (stock)", "sync", 300, 0, [8000]),
        cell("belt", "ACT (stock)", "rtc", 300, 9, [8000]),
        cell("belt", "act_rtc", "rtc", 300, 10, [2000]),
        cell("either", "ACT (stock)", "sync", 0, 5),
        cell("either", "act_flow", "sync", 0, 6),
        cell("depth", "ACT (stock)", "sync", 0, 1),
        cell("depth", "act_group", "sync", 0, 2),
        cell("depth", "act_depth_early", "sync", 0, 9),
    ]
    rows = pooled(cells)
    belt, either, depth = sentences(rows)
    assert "as in `lerobot-rollout`, 0 % [0, 28]: better beyond both intervals" in belt
    assert "90 % [60, 98]: not apart by their intervals, and its boundary jerk is 4.0 times" in belt
    assert either.endswith("not apart by their intervals")
    assert depth.startswith("`depth`: act_depth_early 90 % [60, 98], act_group 20 % [6, 51]: better beyond")
    shown = tables(rows).splitlines()
    assert shown[0].startswith(
        "| `belt`: success [95 %] | waits, 0 ms | waits, 100 ms | waits, 300 ms | goes on"
    )
    # Without delay the loops are the same for what is not handed anything: that one cell stands in both.
    assert shown[2].count("90 % [60, 98]") == 3
    assert summary(rows).startswith("belt, 300 ms: act_rtc 100 %, stock ACT that waits 0 %; boundary")
    block = readme_block(rows, "command --here")
    assert block.startswith("`command --here`, 2026-11-22: 1 seeds, 10 episodes each")


def test_rows_of_an_earlier_run_fill_up_what_was_not_measured_and_keep_their_day(tmp_path):
    from act_plus import earlier_rows
    from act_plus_parts.report import completed, pooled, readme_block, sentences, when

    old = pooled([cell("belt", "act_rtc", "rtc", 300, 1, [1]), cell("choose", "act_language", "sync", 0, 5)])
    file = tmp_path / "kept.json"
    without_day = [{key: value for key, value in row.items() if key != "measured"} for row in old]
    file.write_text(json.dumps({"measured": "2026-11-20", "figures": {"rows": without_day}}))
    new = pooled([cell("belt", "ACT (stock)", "rtc", 300, 9), cell("belt", "act_rtc", "rtc", 300, 9, [3])])
    wanted = [("belt", name, "rtc", 300) for name in ("ACT (stock)", "act_rtc", "act_blend")]
    rows = completed(new, earlier_rows(file), [*wanted, ("choose", "act_language", "sync", 0)])
    assert [(row["variant"], row["success"], row["measured"]) for row in rows] == [
        ("ACT (stock)", 0.9, "2026-11-22"),
        ("act_rtc", 0.9, "2026-11-22"),
        ("act_language", 0.5, "2026-11-20"),
    ]
    assert when(rows) == "`belt` 2026-11-22; `choose` 2026-11-20"
    assert when(rows[:2]) == "2026-11-22"
    assert readme_block(rows, "c").startswith("`c`, `belt` 2026-11-22; `choose` 2026-11-20: 1 seeds, 10 ep")
    assert earlier_rows(None) == []
    # stock ACT's row has no seams: its jerk is not compared
    assert not sentences([*rows, {**rows[0], "mode": "sync"}])[0].count("jerk")


def test_several_texts_name_cells():
    from act_plus_parts.variants import cells

    found = {(each.task, each.variant) for each in cells(1, "belt__act_rtc,choose__act_index")}
    assert found == {("belt", "act_rtc"), ("choose", "act_index")}


def test_every_flag_is_played_and_only_in_ways_that_can_differ():
    from act_plus_parts.variants import SETTINGS, VARIANTS, cells, ways

    names = [each.name for each in cells(1)]
    assert len(names) == len(set(names))
    assert {policy for setting in SETTINGS.values() for policy in setting.policies} <= set(VARIANTS)
    assert ("rtc", 0) not in ways(SETTINGS["belt"], "ACT (stock)")
    assert ("rtc", 0) in ways(SETTINGS["belt"], "act_rtc")
    assert ways(SETTINGS["choose"], "act_language") == [("sync", 0)]


def test_a_cell_made_otherwise_is_not_taken_for_one_of_now(tmp_path, monkeypatch):
    from act_plus_parts import variants
    from act_plus_parts.measuring import cell_recipe, found
    from hierarchical_parts.store import Store

    one = variants.Cell("choose", "act_language", 0, "sync", 0)
    Store(tmp_path / "cells").save(one.name, cell_recipe(one, 5, 1.0), {"successes": []})
    assert one in found([one], tmp_path, 5, 1.0)
    assert not found([one], tmp_path, 6, 1.0)
    monkeypatch.setitem(variants.SIZE, "dim_model", 256)
    assert not found([one], tmp_path, 5, 1.0)


def test_the_readme_has_the_block_that_the_benchmark_writes_and_its_picture():
    from act_plus_parts.report import BLOCK
    from rl_parts.blocks import IMAGES, POLICIES, read_block

    block = read_block(POLICIES / "lerobot_policy_act_plus" / "README.md", BLOCK)
    assert "benchmarks/act_plus.py --seeds 3 --episodes 100" in block
    assert "docs/images/act_plus.png" in block
    assert 5_000 < (IMAGES / "act_plus.png").stat().st_size < 120_000


@pytest.mark.slow
def test_the_quick_run_writes_its_figures_and_goes_on_where_it_was(tmp_path):
    words = [str(BENCHMARKS / "act_plus.py"), "--quick", "--only", "choose", "--out", str(tmp_path)]
    for more in ([], ["--report"]):
        done = subprocess.run(
            [sys.executable, *words, *more],
            env=os.environ | {"COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    assert "choose__" not in done.stderr  # nothing was measured again
    content = json.loads((tmp_path / "act_plus.json").read_text())
    assert [row["variant"] for row in content["rows"]] == ["ACT (stock)", "act_language", "act_index"]
    assert all(row["latency_p95_ms"] >= row["latency_p50_ms"] > 0 for row in content["rows"])
    assert (tmp_path / "act_plus.png").stat().st_size > 1000
    assert done.stdout.splitlines()[-1].startswith("choose: act_language ")
