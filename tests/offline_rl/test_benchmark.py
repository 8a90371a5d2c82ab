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
