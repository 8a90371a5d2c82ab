# SPDX-License-Identifier: Apache-2.0
"""`benchmarks/run.py --engine ray` with the real Ray where that is installed: the project does without.

uv pip install ray && uv run --no-sync pytest tests/benchmarks/test_run_on_ray.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(find_spec("ray") is None, reason="no Ray here; test_run.py has a stand-in for it")
def test_a_suite_runs_as_a_task_of_a_cluster(tmp_path):
    out = tmp_path / "out"
    patient = {"RAY_raylet_start_wait_time_s": "240", "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    words = ["--suite", "quick", "--only", "processors", "--out", str(out)]
    ended = subprocess.run(
        [sys.executable, "benchmarks/run.py", *words, "--engine", "ray", "--ray-address", "local"],
        cwd=ROOT,
        env=os.environ | patient,
        capture_output=True,
        text=True,
        check=False,
    )
    if "timed out during startup" in ended.stderr:
        pytest.skip("Ray gives its own processes 15 s to start; this machine is too busy for them")
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    assert ended.stdout.strip().splitlines()[-1] == "run: 1 of 1 suites done"
    kept = json.loads((out / "done" / "quick.processors.json").read_text(encoding="utf-8"))["result"]
    assert kept["last_line"].startswith("processors: ")
