# SPDX-License-Identifier: Apache-2.0
"""`benchmarks/run.py --engine ray` with the real Ray, which is no dependency of the project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment(tmp_path):
    """Variables of a process that can import Ray, installed beside this environment where it is not in it."""
    patient = {"RAY_raylet_start_wait_time_s": "240", "RAY_AUTH_MODE": "disabled"}
    found = os.environ | {"OMP_NUM_THREADS": "1", **patient}
    if find_spec("ray") is not None:
        return found
    added = tmp_path / "added"
    install = ["uv", "pip", "install", "--quiet", "--python", sys.executable, "--target", str(added), "ray"]
    installed = subprocess.run(install, cwd=ROOT, capture_output=True, text=True, check=False)
    if installed.returncode:
        assert "CI" not in os.environ, installed.stderr
        pytest.skip(f"ray cannot be installed: {installed.stderr.strip().splitlines()[-1]}")
    path = os.pathsep.join([str(added), *filter(None, [os.environ.get("PYTHONPATH")])])
    return found | {"PYTHONPATH": path}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_suite_runs_as_a_task_of_a_cluster(environment, tmp_path):
    out = tmp_path / "out"
    words = ["--suite", "quick", "--only", "processors", "--out", str(out)]
    ended = subprocess.run(
        [sys.executable, "benchmarks/run.py", *words, "--engine", "ray", "--ray-address", "local"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if "timed out during startup" in ended.stderr and "CI" not in os.environ:
        pytest.skip("Ray gives its own processes 15 s to start; this machine is too busy for them")
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    assert ended.stdout.strip().splitlines()[-1] == "run: 1 of 1 suites done"
    kept = json.loads((out / "done" / "quick.processors.json").read_text(encoding="utf-8"))["result"]
    assert kept["last_line"].startswith("processors: ")
