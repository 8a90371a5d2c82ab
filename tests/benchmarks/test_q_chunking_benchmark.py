# SPDX-License-Identifier: Apache-2.0
"""`benchmarks/q_chunking.py` compares steps of the same batch, in turns, and a quick run goes through."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench():
    return importlib.import_module("q_chunking")


def test_sides_run_in_turns_after_one_round_that_does_not_count(bench):
    ran = []
    times = bench.timing.in_turns({"a": lambda: ran.append("a"), "b": lambda: ran.append("b")}, 2)
    assert "".join(ran) == "ab" * 3
    assert [len(values) for values in times.values()] == [2, 2]
    assert bench.timing.median_ratio({"a": [2.0, 9.0, 4.0], "b": [1.0, 3.0, 1.0]}, "a", "b") == 3.0


def test_a_step_trains_actor_and_critics_and_moves_what_is_slow(bench):
    made = bench.training_steps.policy(extraction="distill", hidden_dim=8, actor_hidden_dim=8)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    work = bench.training_steps.step(made, 20)
    work()
    work()
    moved = {
        name.split(".")[0]
        for name, value in made.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert {"actor", "actor_ema", "critic", "critic_target", "train_step"} <= moved


def test_all_sides_see_the_same_frames(bench):
    made = {
        name: bench.training_steps.policy(hidden_dim=8, actor_hidden_dim=8, **fields)
        for name, fields in bench.SIDES.items()
    }
    batches = [bench.training_steps.batch(policy, 20) for policy in made.values()]
    assert {tuple(one["action"].shape) for one in batches} == {(20, 8, 6)}
    assert made[f"distill, {bench.CRITICS} critics"].config.n_critics == 10
    assert made["distill"].config.n_critics == 2


def test_a_target_is_missed_by_the_ratio_and_said(bench):
    times = {"bc": [1.0], "distill": [3.5], f"distill, {bench.CRITICS} critics": [6.3]}
    rows = bench.rows("joints", times)
    assert "<= 3: MISSED" in bench.step_table(rows)
    assert "<= 2: reached" in bench.step_table(rows)
    said = bench.last_line(rows)
    assert (
        said == "q_chunking: distill 3.50 times its bc step, 10 critics 1.80 times 2; 1 of 2 targets reached"
    )


@pytest.mark.slow
def test_a_quick_run_writes_everything(tmp_path):
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "q_chunking.py", "--quick", "--out", tmp_path],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "targets reached" in done.stdout.splitlines()[-1]
    found = json.loads((tmp_path / "q_chunking.json").read_text())
    assert {row["what"].partition(":")[0] for row in found["steps"]} == {"joints", "one camera"}
    assert (tmp_path / "q_chunking.png").stat().st_size > 1000
