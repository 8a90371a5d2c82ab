# SPDX-License-Identifier: Apache-2.0
"""A script that starts from a warm process runs as `subprocess.run` runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import warm_start

SCRIPT = """
import os, sys, time
assert sys.stdin.read() == ""
ours = [name for name in sys.modules if name.startswith("lerobot")]
print(__name__, sys.argv[1:], os.getcwd(), os.environ["LEROBOT_OF_A_TEST"], ours, flush=True)
sys.stderr.write("e")
if sys.argv[1] == "kill":
    os.kill(os.getpid(), 9)
if sys.argv[1] == "sleep":
    print(os.getpid(), flush=True)
    time.sleep(1000)
if sys.argv[1] == "raise":
    raise ValueError("bad")
if sys.argv[1] == "much":
    print("x" * 1_000_000)
sys.exit(sys.argv[1] if sys.argv[1].isalpha() else int(sys.argv[1]))
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.setattr(warm_start, "NO_HUB", ("json",))  # what is imported is not what is looked at here
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "there").mkdir()

    def run(word, **options):
        env = {**os.environ, "LEROBOT_OF_A_TEST": word, "HF_HOME": str(tmp_path)}
        command = [sys.executable, tmp_path / "script.py", word, "--more"]
        return warm_start.run(command, env=env, cwd=tmp_path / "there", **options)

    return run


@pytest.mark.parametrize("word", ["0", "3", "kill", "much", "text"])
def test_it_ends_and_says_what_it_does_otherwise(start, word):
    warm, real = start(word), start(word, real=True)
    assert warm.returncode == real.returncode
    assert (warm.stdout, warm.stderr) == (real.stdout, real.stderr)
    assert warm.stdout.startswith("__main__ ")


def test_an_error_leaves_its_traceback(start):
    failed = start("raise")
    assert failed.returncode == 1
    assert failed.stderr.endswith("ValueError: bad\n")


def test_one_that_takes_too_long_is_killed(start):
    with pytest.raises(subprocess.TimeoutExpired) as told:
        start("sleep", timeout=3)
    process = int(told.value.output.split()[-1])
    told_dead = Path(f"/proc/{process}/stat")
    assert not told_dead.exists() or told_dead.read_text().split()[2] in "ZX"


def test_another_environment_gets_another_process():
    first = warm_start._fixed({"A": "1", "LEROBOT_EXT_POOL": "x", "HF_HOME": "a"}, warm_start.FREE)
    assert first == ("A=1", "HF_HOME=a")
    without_hub = warm_start.FREE + warm_start.FREE_WITHOUT_HUB
    assert warm_start._fixed({"A": "1", "HF_HOME": "a", "OMP_NUM_THREADS": "1"}, without_hub) == (
        "A=1",
        "OMP_NUM_THREADS=1",
    )


def test_what_would_take_part_in_a_fork_is_refused():
    with pytest.raises(RuntimeError, match=r"imported \['lerobot"):
        warm_start.Server(("lerobot",), dict(os.environ))
