# SPDX-License-Identifier: Apache-2.0
"""`benchmarks/offline_rl.py` adds up its cells, skips those that are done, and says what it found."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark():
    return importlib.import_module("offline_rl")


@pytest.fixture
def cells(benchmark):
    return benchmark.cells


class Pretending:
    """Stands for `Commands`: leaves what the stock scripts would leave."""

    def __init__(self, success=40.0):
        self.names, self.words, self.success = [], [], success

    def run(self, name, words, *, append=False, pool=False):
        self.names.append(name)
        self.words.append(words)
        given = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--"))
        out = Path(given["output_dir"])
        out.mkdir(parents=True, exist_ok=True)
        if words[0] == "lerobot-eval":
            (out / "eval_info.json").write_text(json.dumps({"overall": {"pc_success": self.success}}))
        return ""


def cell(method, seed, successes):
    return {
        "method": method,
        "seed": seed,
        "successes": successes,
        "episodes": 100,
        "train_s": 60.0,
        "measured": "2026-11-21T20:00:00",
    }


def some(method, *successes):
    return [cell(method, seed, count) for seed, count in enumerate(successes)]


# ---- figures


def test_seeds_are_added_up_with_their_interval(benchmark):
    found = benchmark.tables.by_method([*some("bc", 20, 30, 10), *some("lapo", 90, 95, 85)])
    assert found["bc"]["success"] == pytest.approx(20)
    assert found["bc"]["by_seed"] == [20, 30, 10]
    assert found["bc"]["low"] < 20 < found["bc"]["high"]
    lines = benchmark.tables.offline_table(found).splitlines()
    assert lines[2].startswith("| LAPO | 90.0 % |")
    assert "| 20, 30, 10 | 60 |" in lines[3]


@pytest.mark.parametrize(("mine", "word"), [(90, "wins"), (5, "loses"), (42, "not apart by their intervals")])
def test_the_verdict_is_that_of_the_intervals(benchmark, mine, word):
    every = [*some("bc", 40), *some("lapo", mine), *some("qc_bc", 40), *some("qc", mine)]
    said = benchmark.tables.offline_verdict(benchmark.tables.by_method(every)).split("; ")
    assert said[0].endswith(f"LAPO {word}")
    assert said[1].endswith(f"Q-chunking {word}")


# ---- cells and their books


def test_a_cell_that_is_done_is_not_run_again(benchmark, cells, tmp_path):
    conditions, commands = cells.Conditions(), Pretending()
    assert cells.run(conditions, "qc", 1, tmp_path, commands)["successes"] == 40
    assert commands.names == ["lift.qc.seed1.train", "lift.qc.seed1.eval"]
    assert cells.run(conditions, "qc", 1, tmp_path, commands)["successes"] == 40
    assert len(commands.names) == 2


def test_another_recipe_of_one_method_leaves_the_others(benchmark, cells, tmp_path, monkeypatch):
    """Neither a new method nor another default of a policy touches cells of others."""
    from rl_parts import methods

    conditions, commands = cells.Conditions(), Pretending()
    for method in ("lapo", "qc"):
        cells.run(conditions, method, 0, tmp_path, commands)
    changed = dataclasses.replace(
        methods.METHODS["qc"], words=(*methods.METHODS["qc"].words, "--policy.alpha=3")
    )
    monkeypatch.setitem(methods.METHODS, "qc", changed)
    for method in ("lapo", "qc"):
        cells.run(conditions, method, 0, tmp_path, commands)
    assert commands.names[4:] == ["lift.qc.seed0.train", "lift.qc.seed0.eval"]
    assert "--policy.alpha=3" in commands.words[4]


def test_a_recipe_holds_the_defaults_of_its_policy(benchmark, cells):
    from lerobot_policy_q_chunking import QChunkingConfig

    found = cells.recipe(cells.Conditions(), "qc_awr", 2)["policy"]
    assert found["type"] == "q_chunking"
    assert found["extraction"] == "awr"
    assert found["inverse_temperature"] == QChunkingConfig.inverse_temperature
    assert "device" not in found
    assert json.loads(json.dumps(found)) == found


def test_diffusion_acts_by_fewer_steps_than_it_learned(benchmark, cells, tmp_path):
    commands = Pretending()
    cells.run(cells.Conditions(), "diffusion", 0, tmp_path, commands)
    trained, played = commands.words
    assert "--policy.num_inference_steps=10" not in trained
    assert "--policy.num_inference_steps=10" in played


# ---- report


@pytest.fixture
def done(benchmark, cells, tmp_path):
    """A folder with results of two pairs of methods."""
    conditions = cells.Conditions(demos=3, steps=20)
    meta = benchmark.stages.data_folder(tmp_path, "lift", 3) / "meta"
    meta.mkdir(parents=True)
    episodes = [{"skill": skill, "success": skill == "expert", "frames": 9} for skill in ("expert", "noisy")]
    (meta / "lerobot_env_koch.json").write_text(json.dumps({"episodes": episodes}))
    store = cells.Store(tmp_path / "cells")
    for one in [*some("bc", 20, 30), *some("lapo", 90, 95), *some("qc", 70, 60), *some("qc_bc", 20, 30)]:
        recipe = cells.recipe(conditions, one["method"], one["seed"])
        store.save(cells.name(conditions, one["method"], one["seed"]), recipe, one)
    return tmp_path


def test_a_report_runs_nothing_and_fills_the_readmes(benchmark, done, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "measure", lambda _: pytest.fail("it ran"))
    readmes = {}
    for mine, (_, block, methods) in benchmark.BLOCKS.items():
        readmes[mine] = done / f"{mine}.md"
        begin, end = benchmark.blocks.markers(block)
        readmes[mine].write_text(f"before\n{begin}\nold\n{end}\nafter\n")
        monkeypatch.setitem(benchmark.BLOCKS, mine, (readmes[mine], block, methods))
    monkeypatch.setattr(sys, "argv", ["x", "--report", "--write-readme", "--out", str(done)])
    benchmark.main()
    lapo, qc = readmes["lapo"].read_text(), readmes["qc"].read_text()
    assert lapo.startswith("before\n")
    assert lapo.endswith("after\n")
    assert "old" not in lapo
    assert "| LAPO | 92.5 % |" in lapo
    assert "LAPO wins against cloning by 68 points." in lapo
    assert "flow" not in lapo
    assert "succeeded: expert 1 of 1, noisy 0 of 1" in lapo
    assert "--seeds 2 --methods lapo,bc`, 2026-11-21:" in lapo
    assert str(done) not in lapo
    assert "Q-chunking, `distill` wins against flow cloning by 40 points." in qc
    assert "| LAPO | 92.5 % |" in qc
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("lapo 92.5 % against bc 25.0 %: LAPO wins; qc 65.0 % against qc_bc")
    written = json.loads((done / "offline_rl_lift.json").read_text())
    assert len(written["cells"]) == 8
    assert written["conditions"]["steps"] == 20
    assert (done / "offline_rl_lift.png").stat().st_size > 1000


def test_a_report_of_nothing_is_refused(cells, tmp_path):
    with pytest.raises(SystemExit, match="holds no results"):
        cells.found(tmp_path, {})


def test_results_of_other_conditions_are_not_mixed_in(cells, done):
    conditions = cells.Conditions(demos=3, steps=40)
    cells.Store(done / "cells").save("lift.iql.seed0", cells.recipe(conditions, "iql", 0), cell("iql", 0, 50))
    with pytest.raises(SystemExit, match=r"different steps.*--steps"):
        cells.found(done, {})
    [(chosen, every)] = cells.found(done, {"steps": 20})
    assert chosen.steps == 20
    assert len(every) == 8


def test_seeds_of_an_older_recipe_are_left_out_and_named(cells, done, capsys):
    conditions = cells.Conditions(demos=3, steps=20)
    recipe = cells.recipe(conditions, "qc", 1)
    recipe["policy"] = {**recipe["policy"], "alpha": 7.0}
    newer = {**cell("qc", 1, 99), "measured": "2026-11-21T21:00:00"}
    cells.Store(done / "cells").save(cells.name(conditions, "qc", 1), recipe, newer)
    [(_, every)] = cells.found(done, {})
    assert [one["successes"] for one in every if one["method"] == "qc"] == [99]
    assert "qc of seeds [0]" in capsys.readouterr().out


def test_the_readmes_have_what_the_benchmark_writes(benchmark):
    """A block names its methods, and commands that the benchmark understands."""
    for mine, (readme, block, shown) in benchmark.BLOCKS.items():
        text = benchmark.blocks.read_block(readme, block)
        commands = [line for line in text.splitlines() if line.startswith("`uv run")]
        assert commands or mine == "qc"
        for line in commands:
            words = line.partition("`")[2].partition("`")[0].split()
            assert words[:4] == ["uv", "run", "python", "benchmarks/offline_rl.py"]
            asked = benchmark.parse(words[4:])
            assert asked.seeds == 3
            assert all(f"| {benchmark.METHODS[method].title} |" in text for method in asked.methods)
            assert set(asked.methods) <= set(shown)


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--methods=lapoo"], "lapoo"), (["--quick", "--write-readme"], "--quick measures")],
)
def test_what_cannot_be_meant_is_refused(benchmark, capsys, words, message):
    with pytest.raises(SystemExit):
        benchmark.parse(words)
    assert message in capsys.readouterr().err
