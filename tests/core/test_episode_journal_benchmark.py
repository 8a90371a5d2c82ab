# SPDX-License-Identifier: Apache-2.0
"""`benchmarks/episode_journal.py`: a tiny run measures every shape on both sides."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "episode_journal.py"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words],
        capture_output=True,
        text=True,
        timeout=200,
        env=dict(os.environ),
    )


def test_the_quick_run_measures_every_shape(tmp_path):
    done = run("--quick", "--folder", str(tmp_path), "--json", str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stderr[-3000:]
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["about"]["lerobot"]
    assert len(content["results"]) == 3
    for row in content["results"].values():
        assert 0 < row["journal_ms"] < 2 * row["save_journaled_ms"]
        assert row["ratio"] > 0
    assert done.stdout.strip().splitlines()[-1].startswith("episode_journal: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json"], "nothing is left behind"


def test_a_wrong_number_of_episodes_is_named():
    done = run("--episodes", "0")
    assert done.returncode == 2
    assert "--episodes (0) must be at least 1" in done.stderr
