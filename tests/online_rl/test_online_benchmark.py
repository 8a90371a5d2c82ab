# SPDX-License-Identifier: Apache-2.0
"""`benchmarks/online_rl.py` adds up its cells, goes on where it was stopped, and says what it found."""

from __future__ import annotations

import importlib
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark():
    return importlib.import_module("online_rl")


@pytest.fixture
def cells(benchmark):
    return benchmark.online_cells


class Pretending:
    """Stands for `Commands`: leaves what the console scripts would leave."""

    def __init__(self, dies=()):
        self.names, self.words, self.dies = [], [], dies

    def run(self, name, words, *, append=False, pool=False):
        from hierarchical_parts.commands import CommandError

        self.names.append(f"{name}{' again' if append else ''}")
        self.words.append(words)
        given = dict(word.removeprefix("--").split("=", 1) for word in words if "=" in word)
        out = Path(given["output_dir"])
        (out / "checkpoints" / "last" / "pretrained_model").mkdir(parents=True, exist_ok=True)
        if self.names[-1] in self.dies:
            raise CommandError(name)
        if words[0] == "lerobot-eval":
            (out / "eval_info.json").write_text(json.dumps({"overall": {"pc_success": 40.0}}))
        elif words[1] == "train-online":
            (out / "online.csv").write_text("step,env/pc_success\n0,40\n100,60\n")
        return ""


def half(successes, curve=()):
    measured = "2026-11-21T20:00:00"
    return {"successes": successes, "episodes": 100, "measured": measured, "curve": list(curve)}


def cell(task, seed, offline, online, method="qc"):
    curve = [(0, offline), (1000, online)]
    return {
        "task": task,
        "method": method,
        "seed": seed,
        "offline": half(offline),
        "online": half(online, curve),
    }


@pytest.mark.parametrize(
    ("online", "word"), [(90, "better beyond"), (45, "not apart"), (5, "WORSE beyond both intervals")]
)
def test_stages_are_compared_over_all_seeds(benchmark, online, word, tmp_path):
    every = [cell("lift", seed, 40, online + seed) for seed in range(3)]
    found = benchmark.tables.by_stage(every)
    assert found["qc", "lift"]["offline"]["success"] == pytest.approx(40)
    assert found["qc", "lift"]["online"]["by_seed"] == [online, online + 1, online + 2]
    [verdict] = benchmark.tables.online_verdict(found)
    assert verdict.startswith("lift: offline 40.0 %, online ")
    assert word in verdict
    line = benchmark.tables.online_table(found).splitlines()[2]
    assert line.startswith("| Q-chunking, `distill` | lift | offline | 40.0 % |")
    benchmark.pictures.success_curves(every, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_what_is_done_is_not_done_again(cells, tmp_path):
    conditions, commands = cells.Conditions("lift"), Pretending()
    found = cells.run(conditions, "qc", 0, tmp_path, commands)
    assert found["online"]["curve"] == [(0, 40.0), (100, 60.0)]
    assert len(commands.names) == 4
    cells.run(conditions, "qc", 0, tmp_path, commands)
    assert len(commands.names) == 4


def test_other_online_settings_go_on_from_the_offline_policy_that_is_there(cells, tmp_path):
    conditions, commands = cells.Conditions("lift"), Pretending()
    cells.run(conditions, "qc", 0, tmp_path, commands)
    cells.run(replace(conditions, online=("--utd", "2")), "qc", 0, tmp_path, commands)
    assert commands.names[4:] == ["online.lift.qc.seed0.train", "online.lift.qc.seed0.eval"]
    assert commands.words[4][-2:] == ["--utd", "2"]


def test_an_online_run_that_was_stopped_goes_on(cells, tmp_path):
    from hierarchical_parts.commands import CommandError

    conditions, commands = cells.Conditions("lift"), Pretending(dies=["online.lift.qc.seed0.train"])
    with pytest.raises(CommandError):
        cells.run(conditions, "qc", 0, tmp_path, commands)
    cells.run(conditions, "qc", 0, tmp_path, commands)
    assert commands.names[3] == "online.lift.qc.seed0.train again"
    assert commands.words[3][-1] == "--resume=true"


def test_a_stopped_run_of_other_settings_begins_anew(cells, tmp_path):
    from hierarchical_parts.commands import CommandError

    conditions, commands = cells.Conditions("lift"), Pretending(dies=["online.lift.qc.seed0.train"])
    with pytest.raises(CommandError):
        cells.run(conditions, "qc", 0, tmp_path, commands)
    commands.dies = ()
    cells.run(replace(conditions, online_steps=800), "qc", 0, tmp_path, commands)
    assert "--resume=true" not in commands.words[3]


def test_a_report_fills_the_readme(benchmark, cells, tmp_path, monkeypatch, capsys):
    commands = Pretending()
    conditions = cells.Conditions("lift", demos=2, online=("--utd", "2"))
    for seed in range(2):
        cells.run(conditions, "qc", seed, tmp_path, commands)
    meta = benchmark.stages.data_folder(tmp_path, "lift", 2) / "meta"
    meta.mkdir(parents=True)
    episodes = [{"skill": "expert", "success": True, "frames": 9}]
    (meta / "lerobot_env_koch.json").write_text(json.dumps({"episodes": episodes}))
    readme, images = tmp_path / "README.md", tmp_path / "images"
    images.mkdir()
    begin, end = benchmark.blocks.markers(benchmark.BLOCK)
    readme.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    monkeypatch.setattr(benchmark.blocks, "Q_CHUNKING", readme)
    monkeypatch.setattr(benchmark.blocks, "IMAGES", images)
    monkeypatch.setattr(benchmark, "measure", lambda _: pytest.fail("it ran"))
    monkeypatch.setattr(sys, "argv", ["x", "--report", "--write-readme", "--out", str(tmp_path)])
    benchmark.main()
    text = readme.read_text()
    assert "old" not in text
    assert "--policy qc --tasks lift --seeds 2 --demos 2" in text
    assert '--online="--utd 2"' in text
    words = shlex.split(text.partition("online_rl.py ")[2].partition("`")[0])
    assert benchmark.parse(words).online == "--utd 2"
    assert "- lift: offline 40.0 %, online 40.0 %: not apart by their intervals" in text
    assert str(tmp_path) not in text
    assert (images / benchmark.PICTURE).stat().st_size > 1000
    assert capsys.readouterr().out.splitlines()[-1].startswith("lift: offline 40.0 %, online 40.0 %")
    kept = json.loads((tmp_path / "online_rl.json").read_text())
    from run_parts import reports

    assert reports.online_block(kept) in text
    assert reports.of("online_rl", kept).last_line.startswith("lift: offline 40.0 %, online 40.0 %")


def test_cells_of_a_task_have_one_recipe_and_tasks_may_differ(benchmark, cells, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark.stages, "skills_of", lambda folder: {})
    made = [cells.Conditions("lift"), cells.Conditions("place", online_steps=5)]
    every = [cell("lift", 0, 40, 60), cell("place", 0, 10, 20)]
    found = benchmark.by_task(made, every, tmp_path)
    assert [part["conditions"]["online_steps"] for part in found.values()] == [20_000, 5]
    assert benchmark.cells_of(found) == every
    with pytest.raises(SystemExit, match="on lift of different online_steps"):
        benchmark.by_task([*made, cells.Conditions("lift", online_steps=5)], every, tmp_path)


def test_only_what_learns_values_goes_on_online(benchmark, capsys):
    assert benchmark.parse(["--policy=lapo,qc"]).methods == ["lapo", "qc"]
    with pytest.raises(SystemExit):
        benchmark.parse(["--policy=qc_bc"])
    assert "learn no values" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["lift", "place"])
def test_without_options_it_measures_what_is_kept(benchmark, task):
    kept = json.loads((BENCHMARKS.parent / "docs" / "results" / "online_rl.json").read_text())["figures"]
    conditions, methods = benchmark.recipe(task, benchmark.parse([]))
    assert json.loads(json.dumps(benchmark.asdict(conditions))) == kept[task]["conditions"]
    assert methods == list(kept[task]["summary"])
    assert benchmark.parse([]).tasks == list(kept)


def test_options_replace_the_settings_of_a_task(benchmark):
    args = benchmark.parse(
        ["--tasks=place,reach", "--policy=qc,lapo", "--demos=9", "--online=--utd=1", "--train="]
    )
    place, methods = benchmark.recipe("place", args)
    assert (place.demos, place.batch, place.online, place.train) == (9, 256, ("--utd=1",), ())
    assert sorted(methods) == ["lapo", "qc"]
    assert benchmark.recipe("reach", args)[0] == benchmark.Conditions("reach", demos=9, online=("--utd=1",))
    assert benchmark.recipe("reach", benchmark.parse([])) == (benchmark.Conditions("reach"), ["qc"])


def test_the_command_of_a_task_gives_its_settings_again(benchmark):
    args = benchmark.parse(["--tasks=place", "--train=", "--demos=9"])
    conditions, _ = benchmark.recipe("place", args)
    part = {"conditions": benchmark.asdict(conditions), "cells": [cell("place", 0, 1, 2, "qc_awr")]}
    words = shlex.split(benchmark.command(part).partition("online_rl.py ")[2])
    assert benchmark.recipe("place", benchmark.parse(words)) == (conditions, ["qc_awr"])
