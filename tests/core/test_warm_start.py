# SPDX-License-Identifier: Apache-2.0
"""A script that starts from a warm process runs as `subprocess.run` runs it."""

import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import warm_start

SCRIPT = """
import os, signal, sys, threading, time
assert sys.stdin.read() == ""
ours = [name for name in sys.modules if name.startswith("lerobot")]
print(__name__, __file__, sys.argv, os.getcwd(), os.environ["LEROBOT_OF_A_TEST"], ours, flush=True)
print(sys.path[:2], sys.modules["__main__"].__file__, threading.active_count())
print(signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGCHLD))
sys.stderr.write("e")
if sys.argv[1] == "kill":
    os.kill(os.getpid(), 9)
if sys.argv[1] == "interrupt":
    os.kill(os.getpid(), 2)
if sys.argv[1] == "sleep":
    print(os.getpid(), flush=True)
    time.sleep(1000)
if sys.argv[1] == "raise":
    raise ValueError("bad")
if sys.argv[1] == "much":
    print("x" * 1_000_000)
sys.exit(sys.argv[1] if sys.argv[1].isalpha() else int(sys.argv[1]))
"""
SPAWNS = """
import multiprocessing, os

def work(queue):
    queue.put((__name__, os.getcwd()))

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=work, args=(queue,))
    process.start()
    print(queue.get(timeout=60))
    process.join()
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Runs a script; what is imported before is not what is looked at here."""
    monkeypatch.setattr(warm_start, "NO_HUB", ("json",))
    servers = OrderedDict()
    monkeypatch.setattr(warm_start, "_servers", servers)
    (tmp_path / "there").mkdir()

    def run(word, text=SCRIPT, **options):
        (tmp_path / "script.py").write_text(text)
        env = {**os.environ, "LEROBOT_OF_A_TEST": word, "HF_HOME": str(tmp_path), "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, tmp_path / "script.py", word, "--more"]
        return warm_start.run(command, env=env, cwd=tmp_path / "there", **options)

    yield run
    for server in servers.values():
        server.end()


@pytest.mark.parametrize("word", ["0", "3", "kill", "interrupt", "much", "text"])
def test_it_ends_and_says_what_it_does_otherwise(start, word):
    warm, real = start(word), start(word, real=True)
    assert warm.returncode == real.returncode
    assert (warm.stdout, warm.stderr.splitlines()[-1:]) == (real.stdout, real.stderr.splitlines()[-1:])
    assert warm.stdout.startswith("__main__ ") or word == "kill"


def test_an_error_leaves_its_traceback(start):
    failed = start("raise")
    assert failed.returncode == 1
    assert failed.stderr.endswith("ValueError: bad\n")


def test_what_it_spawns_finds_its_file_and_folder(start):
    warm = start("0", SPAWNS)
    assert warm.returncode == 0, warm.stderr
    assert warm.stdout == start("0", SPAWNS, real=True).stdout


def test_one_that_takes_too_long_is_killed(start):
    with pytest.raises(subprocess.TimeoutExpired) as told:
        start("sleep", timeout=3)
    process = int(told.value.output.split()[-1])
    told_dead = Path(f"/proc/{process}/stat")
    assert not told_dead.exists() or told_dead.read_text().split()[2] in "ZX"


def test_the_one_that_was_used_longest_ago_makes_place(start, monkeypatch):
    monkeypatch.setattr(warm_start, "SERVERS", 1)
    start("0")
    [first] = warm_start._servers.values()
    monkeypatch.setenv("ANOTHER_TEST", "1")
    assert start("3").returncode == 3
    [second] = warm_start._servers.values()
    assert first._process.poll() is not None
    assert second._process.poll() is None


def test_another_environment_gets_another_process():
    first = warm_start._fixed({"A": "1", "LEROBOT_EXT_POOL": "x", "HF_HOME": "a"}, warm_start.FREE)
    assert first == ("A=1", "HF_HOME=a")
    without_hub = warm_start.FREE + warm_start.FREE_WITHOUT_HUB
    assert warm_start._fixed({"A": "1", "HF_HOME": "a", "OMP_NUM_THREADS": "1"}, without_hub) == (
        "A=1",
        "OMP_NUM_THREADS=1",
    )


@pytest.mark.parametrize(
    ("module", "said"), [("lerobot", "imported .'lerobot"), ("runs_a_thread", "threads ")]
)
def test_what_would_take_part_in_a_fork_is_refused(tmp_path, module, said):
    (tmp_path / "runs_a_thread.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    with pytest.raises(RuntimeError, match=said):
        warm_start.Server((module,), {**os.environ, "PYTHONPATH": str(tmp_path)})


@pytest.mark.parametrize("command", [[sys.executable, "-c"], ["/bin/ls"], ["/etc/profile"]])
def test_what_is_no_script_of_this_environment_is_refused(command):
    with pytest.raises(ValueError, match=r"Python script|of this environment"):
        warm_start.run(command)
