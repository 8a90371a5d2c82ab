# SPDX-License-Identifier: Apache-2.0
"""`benchmarks/koch_policies.py`: which policies take part in what, what it tells, and that it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from koch_policies_parts import cells, policies, report

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def row(policy, data, seed, successes, observation="state"):
    cell = {"task": "lift", "observation": observation, "data": data, "policy": policy, "seed": seed}
    return cell | {
        "demos": 9, "steps": 4, "batch": 8, "episodes": 100, "successes": successes,
        "parameters": 1_500_000, "train_s": 10.0 + 4 * seed,
    }  # fmt: skip


def test_a_policy_takes_part_in_what_it_can_see():
    made = cells.cells(["lift"], ["state", "image"], ["expert"], [*policies.POLICIES], 2)
    assert {cell.observation for cell in made if cell.policy == "vqbet"} == {"image"}
    assert {cell.observation for cell in made if cell.policy == "tdmpc"} == {"state"}
    assert {cell.policy for cell in made if cell.observation == "state"} == {*policies.POLICIES} - {"vqbet"}
    assert [cell.seed for cell in made] == sorted(cell.seed for cell in made)
    assert len({cell.name for cell in made}) == len(made)


@pytest.mark.parametrize(
    ("policy", "observation"),
    [
        (policy, observation)
        for policy, observation in product(policies.POLICIES, ("state", "image"))
        if observation not in policies.POLICIES[policy].not_with
    ],
)
def test_the_recipe_names_the_policy_with_all_its_fields(policy, observation):
    made = cells.Cell("lift", observation, "mixed", policy, 0)
    recipe = cells.recipe(made, cells.QUICK)
    assert recipe["policy"]["type"] in (policy, "act_plus")
    assert len(recipe["policy"]) > 15
    assert json.loads(json.dumps(recipe))["cell"]["observation"] == observation


def test_seeds_are_put_together_and_data_stand_side_by_side():
    rows = [row("act", "expert", 1, 60), row("act", "expert", 0, 80), row("lapo", "mixed", 0, 50)]
    found = report.groups(rows)["lift", "state"]
    assert found["act"]["expert"]["success"] == 70
    assert found["act"]["expert"]["by_seed"] == [80, 60]
    assert report.summary(rows) == {"lift, state": found}
    table = report.tables(rows)
    assert "| LeRobot's `act` | 1.5 | 70 % (63 to 76) |  | 10 |" in table
    assert "| `lapo` | 1.5 |  | 50 % (40 to 60) | 10 |" in table
    assert "`vqbet` does not take part: it needs a camera." in table
    assert report.last_line({"rows": rows}) == (
        "lift, state, expert: act 70 % of 1 policies; lift, state, mixed: lapo 50 % of 1 policies"
    )


def test_the_picture_has_a_panel_for_each_observation(tmp_path):
    rows = [row("act", "expert", 0, 80), row("vqbet", "expert", 0, 10, "image")]
    report.picture(rows, tmp_path / "bars.png")
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_quick_run_writes_everything_and_the_next_one_trains_nothing(tmp_path):
    words = [sys.executable, BENCHMARKS / "koch_policies.py", "--quick", "--out", tmp_path]
    done = subprocess.run(
        [*words, "--policies=act"], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("reach, state, expert: act ")
    folder = tmp_path / "quick"
    rows = json.loads((folder / "koch_policies.json").read_text())["rows"]
    assert {(r["policy"], r["data"]) for r in rows} == {("act", "expert"), ("act", "mixed")}
    assert all(r["parameters"] > 10_000 and 0 <= r["successes"] <= 2 for r in rows)
    assert (folder / "koch_policies.png").stat().st_size > 5_000
    again = subprocess.run([*words, "--report"], capture_output=True, text=True, timeout=200, check=False)
    assert again.returncode == 0, again.stderr
    assert json.loads((folder / "koch_policies.json").read_text())["rows"] == rows
