# SPDX-License-Identifier: Apache-2.0
"""The benchmark adds up its cells, skips those that are done, and says what it found."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "offline_rl.py"


@pytest.fixture
def benchmark(monkeypatch):
    spec = importlib.util.spec_from_file_location("offline_rl_benchmark", FILE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


def cells(method, *successes):
    return [
        {"method": method, "seed": seed, "successes": count, "episodes": 100, "train_s": 60.0}
        for seed, count in enumerate(successes)
    ]


def test_seeds_are_added_up_with_their_interval(benchmark):
    found = benchmark.summary([*cells("bc", 20, 30, 10), *cells("lapo", 90, 95, 85)])
    assert found["bc"]["success"] == pytest.approx(20)
    assert found["bc"]["by_seed"] == [20, 30, 10]
    assert found["bc"]["low"] < 20 < found["bc"]["high"]
    lines = benchmark.markdown(found).splitlines()
    assert lines[2].startswith("| lapo | 90.0 % |")
    assert "| 20, 30, 10 | 60 |" in lines[3]


@pytest.mark.parametrize(("lapo", "word"), [(90, "wins"), (5, "loses"), (42, "not apart by their intervals")])
def test_the_verdict_is_that_of_the_intervals(benchmark, lapo, word):
    found = benchmark.summary([*cells("bc", 40), *cells("lapo", lapo)])
    assert benchmark.verdict(found).endswith(f"LAPO {word}")


def test_a_cell_that_is_done_is_not_run_again(benchmark, tmp_path, monkeypatch):
    plan = benchmark.Plan("lift", 6, 20, 100, tmp_path)
    monkeypatch.setattr(benchmark, "run", lambda *_, **__: pytest.fail("it ran"))
    plan.cell("bc", 1).parent.mkdir()
    plan.cell("bc", 1).write_text(json.dumps(cells("bc", 7)[0]))
    assert benchmark.run_cell(plan, "bc", 1)["successes"] == 7


def test_results_of_other_settings_are_not_mixed_in(benchmark, tmp_path, monkeypatch):
    (tmp_path / "settings.json").write_text("{}")
    monkeypatch.setattr(sys, "argv", ["offline_rl.py", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="other settings"):
        benchmark.main()


@pytest.fixture
def done(benchmark, tmp_path):
    """A folder with results of two methods."""
    plan = benchmark.Plan("lift", 3, 20, 100, tmp_path)
    (tmp_path / "settings.json").write_text(json.dumps(plan.settings()))
    (plan.data / "meta").mkdir(parents=True)
    episodes = [{"skill": skill, "success": skill == "expert", "frames": 9} for skill in ("expert", "noisy")]
    (plan.data / "meta" / "lerobot_env_koch.json").write_text(json.dumps({"episodes": episodes}))
    plan.cell("bc", 0).parent.mkdir()
    for cell in [*cells("bc", 20, 30), *cells("lapo", 90, 95)]:
        plan.cell(cell["method"], cell["seed"]).write_text(json.dumps(cell))
    return plan


def test_a_report_runs_nothing_and_fills_the_readme(benchmark, done, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "run", lambda *_, **__: pytest.fail("it ran"))
    readme = done.out / "README.md"
    readme.write_text(f"before\n{benchmark.BEGIN}\nold\n{benchmark.END}\nafter\n")
    monkeypatch.setattr(benchmark, "README", readme)
    monkeypatch.setattr(sys, "argv", ["x", "--report", "--write-readme", "--out", str(done.out)])
    benchmark.main()
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| LAPO | 92.5 % |" in text
    assert "LAPO wins against cloning by 68 points." in text
    assert "succeeded: expert 1 of 1, noisy 0 of 1" in text
    assert str(done.out) not in text
    assert capsys.readouterr().out.splitlines()[-1] == "lapo 92.5 % against bc 25.0 %: LAPO wins"
    written = json.loads((done.out / "offline_rl.json").read_text())
    assert len(written["cells"]) == 4
    assert written["settings"]["steps"] == 20
    assert (done.out / "offline_rl.png").stat().st_size > 1000


def test_a_report_of_nothing_is_refused(benchmark, tmp_path):
    with pytest.raises(SystemExit, match="holds no results"):
        benchmark.reported(tmp_path)


def test_other_defaults_of_the_policy_are_other_settings(benchmark, done, monkeypatch):
    changed = {**benchmark.policy_defaults(), "kl_beta": 7.0}
    monkeypatch.setattr(benchmark, "policy_defaults", lambda: changed)
    words = ["x", "--demos=3", "--steps=20", "--episodes=100", "--out", str(done.out)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="other settings"):
        benchmark.main()


def test_the_readme_has_what_the_benchmark_writes(benchmark, monkeypatch):
    """Its block names every method, and a command that the benchmark understands."""
    text = benchmark.README.read_text().partition(benchmark.BEGIN)[2].partition(benchmark.END)[0]
    assert all(f"| {title} |" in text for title in benchmark.TITLES.values())
    command = text.partition("`")[2].partition("`")[0].split()
    assert command[:4] == ["uv", "run", "python", "benchmarks/offline_rl.py"]
    monkeypatch.setattr(sys, "argv", command[3:])
    assert benchmark.parse().seeds == 3
