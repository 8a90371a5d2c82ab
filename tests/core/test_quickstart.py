# SPDX-License-Identifier: Apache-2.0
"""The quickstart's own machinery: how it runs a command, reads results, and explains a failure."""

import importlib.util
import io
import json
import socket
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest
from rich.console import Console

from lerobot_ext.cli import CommandError
from lerobot_ext.installing import install_command
from lerobot_ext.intervals import wilson_interval
from lerobot_ext.quickstart import runner as runner_module
from lerobot_ext.quickstart.command import QUICKSTART
from lerobot_ext.quickstart.report import (
    Results,
    draw_picture,
    folder_bytes,
    print_table,
    read_losses,
    read_successes,
    success_text,
    write_summary,
)
from lerobot_ext.quickstart.runner import Runner, StepError, tail
from lerobot_ext.quickstart.script import script
from lerobot_ext.quickstart.services import free_ports
from lerobot_ext.quickstart.settings import FAST, Settings


def test_what_is_not_installed_is_named_before_anything_imports_it(tmp_path, monkeypatch):
    # None in `sys.modules` stands for a module that cannot be imported.
    monkeypatch.setitem(sys.modules, "lerobot_ext.quickstart.run", None)
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pexpect" else there(name))
    parser = ArgumentParser()
    QUICKSTART.configure(parser)
    with pytest.raises(CommandError, match=r"packages that are not installed: pexpect\.") as refused:
        QUICKSTART.run(parser.parse_args([f"--workdir={tmp_path / 'run'}"]))
    assert refused.value.remedy.startswith(install_command("pexpect"))
    assert not (tmp_path / "run").exists()


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def run_python(tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch):
    """Runs `python -c code` as a step."""
    monkeypatch.setattr(runner_module, "executable", lambda name: sys.executable)
    runner = Runner(tmp_path, {"QUICKSTART_TEST": "yes"}, console)

    def run(code: str, timeout_s: float = 20.0) -> Path:
        argv = ["python", "-c", code]
        return runner.run("step", argv, remedy="mend it", expected_s=1, timeout_s=timeout_s)

    return run


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Hand-worked from Wilson's formula; 0.8 of 50 is the quickstart's own promise.
    [(40, 50, 0.6696, 0.8876), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (1, 2, 0.0945, 0.9055)],
)
def test_wilson_interval_matches_hand_worked_values(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_wilson_interval_holds_its_rate():
    for trials in range(1, 400):
        for successes in (0, trials // 2, trials):
            low, high = wilson_interval(successes, trials)
            assert 0 <= low <= successes / trials <= high <= 1  # none succeeded of 5: the sum was 3e-17


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (3, 2), (-1, 5)])
def test_wilson_interval_refuses_impossible_counts(successes, trials):
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(successes, trials)


def test_losses_are_read_and_sub_losses_are_not(tmp_path):
    log = tmp_path / "train.log"
    log.write_text(
        "Training: 2%|| 50/2500 [00:01<00:30]INFO step:50 smpl:3K ep:65 loss:0.512 grdn:1.0 lr:1e-4\n"
        "INFO step:2K smpl:128K ep:2K loss:0.031 grdn:0.2 diffusion_loss:0.02 hier/safety_loss:7.0\n"
        "INFO nothing here loss: none\n"
    )
    assert read_losses(log) == [0.512, 0.031]


def test_successes_come_from_the_evaluation_file(tmp_path):
    info = {"per_task": [{"task_id": 0, "metrics": {"successes": [True, False, True]}}]}
    (tmp_path / "eval_info.json").write_text(json.dumps(info))
    assert read_successes(tmp_path) == (2, 3)


def test_a_command_runs_with_the_common_environment_and_is_logged(run_python, tmp_path):
    log = run_python("import os; print('value', os.environ['QUICKSTART_TEST'])")
    assert "value yes" in log.read_text()


def test_a_failing_command_names_command_log_and_remedy(run_python):
    with pytest.raises(StepError, match="exit code 3") as caught:
        run_python("import sys; print('the last words'); sys.exit(3)")
    assert "sys.exit(3)" in caught.value.command
    assert caught.value.remedy == "mend it"
    assert tail(caught.value.log)[-1] == "the last words"


def test_a_command_without_end_is_ended(run_python):
    with pytest.raises(StepError, match="no end after"):
        run_python("import time; time.sleep(60)", timeout_s=0.5)


def test_the_tail_leaves_progress_bars_out(tmp_path):
    log = tmp_path / "x.log"
    log.write_text("first\n 10%|#   | 1/10\r 20%|##  | 2/10\nlast\n")
    assert tail(log) == ["first", "last"]


def test_table_summary_and_picture_hold_the_figures(tmp_path, console):
    results = Results(
        seconds={"train": 12.0},
        losses=[1.0, 0.1],
        successes=45,
        episodes=50,
        recorded_episodes=3,
        recorded_frames=9,
    )
    print_table(results, console)
    assert "45/50" in console.file.getvalue()
    write_summary(results, tmp_path / "summary.json", seed=7)
    assert json.loads((tmp_path / "summary.json").read_text())["seed"] == 7
    draw_picture(results, tmp_path, 50, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert success_text(results) == "45/50 (95 % interval 79-96 %)"


def test_folder_bytes_leaves_the_clients_cache_out(tmp_path):
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "big").write_bytes(b"x" * 100)
    (tmp_path / "model").write_bytes(b"x" * 7)
    assert folder_bytes(tmp_path) == 7


def parse(*argv: str):
    parser = ArgumentParser()
    QUICKSTART.configure(parser)
    return parser.parse_args(argv)


def test_a_folder_of_somebody_else_is_never_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(CommandError, match="not a quickstart's"):
        QUICKSTART.run(parse("--workdir", str(tmp_path), "--overwrite"))
    assert (tmp_path / "thesis.tex").exists()


def test_an_earlier_run_is_kept_unless_told(tmp_path):
    (tmp_path / ".lerobot_ext_quickstart").touch()
    with pytest.raises(CommandError, match="earlier run") as caught:
        QUICKSTART.run(parse("--workdir", str(tmp_path)))
    assert "--overwrite" in caught.value.remedy


def test_a_missing_plugin_is_named_with_its_install_line(monkeypatch):
    monkeypatch.setattr(
        "lerobot_ext.quickstart.command._NEEDED", {"lerobot_env_nowhere": "lerobot_env_nowhere", "os": "os"}
    )
    with pytest.raises(CommandError, match="lerobot_env_nowhere") as caught:
        QUICKSTART.run(parse())
    assert caught.value.remedy.startswith(install_command("lerobot_env_nowhere"))


SERVICES = """#!/bin/sh
case "$1" in
sim) echo started > "$READY"; trap 'echo ended >> "$LOG"; exit' TERM; while :; do sleep 0.1; done;;
hub) exec "$PYTHON" -m http.server "${4#--port=}" --bind 127.0.0.1;;
esac
"""


@pytest.fixture
def repeated(tmp_path, monkeypatch):
    """`commands.sh` of a run, with programs that only say what they were called with; its words to that."""
    programs, log = tmp_path / "bin", tmp_path / "log"
    programs.mkdir()
    settings = Settings(tmp_path / "a run", 0, False, FAST)
    for folder in (settings.bench_dir, settings.logs, settings.train):
        folder.mkdir(parents=True)
    (settings.train / "of_before").touch()
    for name in ("lerobot-train", "lerobot-eval", "lerobot-calibrate"):
        (programs / name).write_text(f'#!/bin/sh\nset -e\ntest -e "$READY"\necho {name} "$@" >> "$LOG"\n')
    (programs / "lerobot-ext").write_text(SERVICES)
    for one in programs.iterdir():
        one.chmod(0o755)
    monkeypatch.setenv("READY", str(settings.bench_dir / "ready.json"))
    monkeypatch.setenv("LOG", str(log))
    monkeypatch.setenv("PYTHON", sys.executable)
    said = [
        ("bench", ["lerobot-ext", "sim", "--base-port=5600"]),
        ("calibrate_leader", ["lerobot-calibrate", "--teleop.type=koch_leader"]),
        ("train", ["lerobot-train", "--steps=3"]),
        ("eval", ["lerobot-eval", "--env.task=a task"]),
    ]
    file = settings.workdir / "commands.sh"
    hub = {"HF_ENDPOINT": f"http://127.0.0.1:{free_ports(1)}"}
    file.write_text(script(settings, hub, said, programs))

    def run(*words):
        done = subprocess.run(["bash", file, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return log.read_text().splitlines()

    return settings, run


def test_commands_sh_runs_them_all_with_bench_and_hub_beside_them(repeated):
    settings, run = repeated
    assert run() == [
        "lerobot-calibrate --teleop.type=koch_leader",
        "lerobot-train --steps=3",
        "lerobot-eval --env.task=a task",
        "ended",
    ]
    assert not settings.train.exists()
    assert list(settings.workdir.glob("earlier/*/train/of_before"))


def test_commands_sh_runs_only_what_is_named_and_leaves_the_rest(repeated):
    settings, run = repeated
    assert run("eval") == ["lerobot-eval --env.task=a task", "ended"]
    assert (settings.train / "of_before").exists()


def test_free_ports_are_in_a_row():
    first = free_ports(3)
    for port in range(first, first + 3):
        with socket.socket() as one:
            one.bind(("127.0.0.1", port))
