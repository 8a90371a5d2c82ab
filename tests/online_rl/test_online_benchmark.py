# SPDX-License-Identifier: Apache-2.0
"""The benchmark adds up its cells and says what it found."""

import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "online_rl.py"


@pytest.fixture
def benchmark(monkeypatch):
    spec = importlib.util.spec_from_file_location("online_rl_benchmark", FILE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


def cell(task, seed, offline, online):
    curve = [(0, offline), (1000, online)]
    return {"task": task, "seed": seed, "offline": offline, "online": online, "episodes": 100, "curve": curve}


@pytest.mark.parametrize(
    ("online", "word"), [(90, "better beyond"), (45, "not apart"), (5, "WORSE beyond both intervals")]
)
def test_stages_are_compared_over_all_seeds(benchmark, online, word, tmp_path):
    cells = [cell("lift", seed, 40, online + seed) for seed in range(3)]
    found = benchmark.summary(cells)
    assert found["lift"]["offline"]["success"] == pytest.approx(40)
    assert found["lift"]["online"]["by_seed"] == [online, online + 1, online + 2]
    assert word in benchmark.verdict(found)
    assert benchmark.markdown(found).splitlines()[2].startswith("| lift | offline | 40.0 % |")
    benchmark.draw(cells, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
