# SPDX-License-Identifier: Apache-2.0
"""`benchmarks/koch_bus.py`: a short run of every part, and the arithmetic behind its figures."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PARTS = ("cli", "paced", "stall", "connect", "calibrate", "reads", "timer")


def run(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("HF_LEROBOT_CALIBRATION", "HF_LEROBOT_HOME")}
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / "koch_bus.py"), "--quick", "--out", str(out), *words],
        env=kept | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.mark.slow
def test_the_quick_run_measures_every_part(tmp_path):
    done = run(tmp_path, "--drivers", "stock,ours")
    assert done.returncode == 0, done.stderr[-3000:]
    content = json.loads((tmp_path / "koch_bus.json").read_text())
    summary = content["summary"]
    assert [part for part in PARTS if not summary[part]] == []
    assert content["machine"][0]["versions"]["lerobot"]
    stock, ours = (summary["cli"]["drop 5 %"][name] for name in ("stock", "ours"))
    assert stock["aborted"] == 1, "thirty frames at 5 % loss are too many for stock"
    assert stock["saved_episodes"] == 0
    assert summary["cli"]["none"]["ours"]["frames"] > 15
    if not ours["late_replies"]:
        assert (ours["aborted"], ours["saved_episodes"]) == (0, 1), ours
    paced = summary["paced"]["drop 5 %"]["ours"]
    assert paced["frames"] == 60
    assert 0 <= paced["age_ms"]["p50"] < 1000
    assert (tmp_path / "koch_bus.png").stat().st_size > 5000
    assert "**a. `lerobot-record`" in done.stdout
    assert done.stdout.strip().splitlines()[-1].startswith("ours: ")

    # Nothing is left to do, so that nothing is done.
    again = run(tmp_path, "--drivers", "stock,ours", "--resume")
    assert again.returncode == 0, again.stderr[-3000:]
    assert json.loads((tmp_path / "koch_bus.json").read_text())["cells"] == content["cells"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--only", "cli,nothing"], "--only does not know nothing"),
        (["--drivers", "best"], "--drivers does not know best"),
        (["--jobs", "0"], "--jobs (0) must be at least 1"),
    ],
)
def test_wrong_options_are_named(tmp_path, words, text):
    done = run(tmp_path, *words)
    assert done.returncode == 2
    assert text in done.stderr


def test_ages_are_read_off_the_bench_clock():
    from koch_bus_parts.frames import JOINTS, ages_ms

    # The clock showed 4090 ticks and now shows 4: ten milliseconds, across its end.
    ticks = dict.fromkeys(JOINTS, 4090)
    ticks["gripper"] = 2
    values = {f"{joint}.pos": 200 * tick / 4095 - 100 for joint, tick in ticks.items()}
    values["gripper.pos"] = 100 * ticks["gripper"] / 4095
    now_s = (7 * 4096 + 4) / 1000
    np.testing.assert_allclose(ages_ms(values, now_s), [10.0] * 5 + [2.0], atol=1e-6)


def test_delays_of_the_host_are_found_in_the_frames_they_touched():
    from koch_bus_parts.frames import count_within

    spans = np.array([[1.0, 1.01], [2.0, 2.01], [3.0, 3.05]])
    delays = {(0.9, 1.005), (2.5, 2.6), (3.01, 3.03), (3.04, 3.2)}
    assert count_within(delays, spans).tolist() == [1, 0, 2]
    assert count_within(set(), spans).tolist() == [0, 0, 0]


def test_the_canary_notices_when_the_host_holds_it_up():
    from koch_bus_parts.canary import Canary, worst_ms

    canary = Canary()
    try:
        time.sleep(0.3)  # it has begun
        begin_s = time.monotonic()
        os.kill(canary.pid, signal.SIGSTOP)
        time.sleep(0.25)
        os.kill(canary.pid, signal.SIGCONT)
        time.sleep(0.3)
        end_s = time.monotonic()
        delays = canary.delays(begin_s)
    finally:
        canary.stop()
    assert worst_ms(delays, begin_s, end_s) > 200
    assert worst_ms(delays, end_s + 1, end_s + 2) == 0
    assert canary.delays(end_s + 1) == set()


def test_frames_the_host_disturbed_are_counted_apart():
    from koch_bus_parts.paced import summarise

    arrays = {
        "work_ms": np.array([5.0, 5.0, 50.0, 40.0]),
        "age_ms": np.full((4, 12), 3.0),
        "stale": np.array([0, 0, 6, 0]),
        "wait_ms": np.array([0.0, 0.1, 0.0, 30.0]),
        "late": np.array([0, 0, 1, 0]),
    }
    figures = summarise([{"aborts": [], "sessions": 1}], arrays)
    assert figures["frames_hit_by_host"] == 2
    assert figures["work_ms"]["max"] == 50.0
    assert figures["work_ms_undisturbed"]["max"] == 5.0
    assert figures["over_frame_percent"] == 50.0
    assert figures["stale_percent"] == pytest.approx(100 * 6 / 48)


def test_a_result_with_other_settings_is_measured_again(tmp_path):
    from koch_bus_parts.store import Store

    path = tmp_path / "koch_bus.json"
    Store(path, resume=False).put("cli/none/ours/0", {"episode_s": 1.0}, {"n": 1})
    kept = Store(path, resume=True)
    assert kept.holds("cli/none/ours/0", {"episode_s": 1.0})
    assert not kept.holds("cli/none/ours/0", {"episode_s": 20.0})
    assert not Store(path, resume=False).holds("cli/none/ours/0", {"episode_s": 1.0})


def test_the_naive_bus_retries_every_call(monkeypatch):
    import inspect

    from koch_bus_parts.naive import NUM_RETRY, NaiveBus
    from lerobot.motors.dynamixel import DynamixelMotorsBus

    retried = {
        name
        for name, function in inspect.getmembers(DynamixelMotorsBus, inspect.isfunction)
        if "num_retry" in inspect.signature(function).parameters
    }
    # What is not raised itself must end in a call that is.
    ends_in_others = {"broadcast_ping", "disable_torque", "enable_torque", "_disable_torque", "_sync_read"}
    ends_in_others |= {"_sync_write"}
    assert retried - ends_in_others == {"ping", "read", "write", "sync_read", "sync_write", "_read", "_write"}
    bus = NaiveBus("/dev/none", {}, {})
    asked = []
    monkeypatch.setattr(DynamixelMotorsBus, "_write", lambda *_, num_retry, **__: asked.append(num_retry))
    bus._write(0, 1, 1, 0, num_retry=0)
    assert asked == [NUM_RETRY]
