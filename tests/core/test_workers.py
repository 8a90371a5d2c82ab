# SPDX-License-Identifier: Apache-2.0
"""How the tests are spread over worker processes."""

import os
import subprocess
import sys
from pathlib import Path

import workers

HELPERS = Path(__file__).parents[1] / "helpers"
CONFTEST = """
import pytest, workers

@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return workers.scheduler(config, log)
"""
TESTS = """
import os, pytest

@pytest.mark.parametrize("number", range(8))
def test_it(number):
    with open("workers.txt", "a") as file:
        file.write(f"{__file__} {os.environ['PYTEST_XDIST_WORKER']}\\n")
"""


def test_xdist_keeps_the_tests_of_a_file_in_one_worker_and_all_benches(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "tests" / "robot").mkdir(parents=True)
    for name in ("robot/test_a", "robot/test_b", "test_c", "test_d"):
        (tmp_path / "tests" / f"{name}.py").write_text(TESTS)
    words = ["-q", "-n2", "--dist=loadfile", "--no-loadscope-reorder", "-p", "no:cacheprovider"]
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=tmp_path,
        env={**outer, "PYTHONPATH": str(HELPERS)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "32 passed" in ran.stdout
    pairs = set((tmp_path / "workers.txt").read_text().splitlines())
    worker = {Path(file).stem: name for file, name in (pair.split() for pair in pairs)}
    assert len(worker) == len(pairs) == 4, pairs
    assert worker["test_a"] == worker["test_b"]
    assert len(set(worker.values())) == 2


def test_benches_are_one_group_and_begin_then_what_takes_longest():
    bench, quick, slow = "tests/robot/x.py::test_a", "tests/core/x.py::test_a", "tests/cli/y.py"
    assert workers.group_of(bench) == workers.group_of("tests/cli/test_koch_cli.py::test_b[1]") == "bench"
    tests = [(quick, False), (quick, False), (f"{slow}::test_a", True), (bench, False)]
    assert workers.longest_first(tests) == ["bench", slow, "tests/core/x.py"]


def test_every_place_of_a_bench_is_there():
    root = Path(__file__).parents[2]
    assert [place for place in workers.BENCH if not (root / place.partition("::")[0]).exists()] == []
