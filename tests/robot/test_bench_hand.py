# SPDX-License-Identifier: Apache-2.0
import json
import signal

import numpy as np
import pytest
from lerobot_env_koch.bench.assembly import BenchConfig
from lerobot_env_koch.bench.calibration import CalibrationWatch, Phase
from lerobot_env_koch.bench.control import BenchClient
from lerobot_env_koch.bench.hand import (
    HAND_SPEED_RAD_S,
    SWEEP_S,
    Hand,
    HandMode,
    Recording,
    sweep_pose,
)
from lerobot_env_koch.constants import FULL_TURN_JOINTS, JOINT_NAMES
from lerobot_env_koch.units import LOWER_RAD, MID_RAD, UPPER_RAD, rad_to_units

from lerobot_ext.cli.main import main

IDS = [1, 2, 3, 4, 5, 6]
SWEPT = np.array([name not in FULL_TURN_JOINTS for name in JOINT_NAMES])


@pytest.fixture
def clock():
    return [100.0]


@pytest.fixture
def watch(clock) -> CalibrationWatch:
    return CalibrationWatch(IDS, clock=lambda: clock[0])


def home_all(watch: CalibrationWatch) -> None:
    for id_ in IDS:
        watch.on_write(id_, "Homing_Offset", 7, limp=True)


def reset_all(watch: CalibrationWatch) -> None:
    for id_ in IDS:
        watch.on_write(id_, "Homing_Offset", 0, limp=True)
        watch.on_write(id_, "Min_Position_Limit", 0, limp=True)
        watch.on_write(id_, "Max_Position_Limit", 4095, limp=True)


def test_a_repeated_homing_write_is_not_taken_for_the_end(watch, clock):
    """Its acknowledgement was lost, so the client wrote it once more."""
    reset_all(watch)
    home_all(watch)
    assert watch.phase is Phase.SWEEP
    watch.on_write(IDS[-1], "Homing_Offset", 7, limp=True)
    assert watch.phase is Phase.SWEEP
    watch.finish_sweep()
    watch.on_write(IDS[0], "Homing_Offset", 7, limp=True)
    assert watch.phase is Phase.DONE


def test_the_whole_calibration_is_recognised(watch, clock):
    for id_ in IDS:
        watch.on_write(id_, "Operating_Mode", 4, limp=True)
    assert watch.update(limp=True, is_open=True) is Phase.FREE
    clock[0] += 0.2
    assert watch.update(limp=True, is_open=True) is Phase.MIDDLE
    reset_all(watch)
    assert watch.phase is Phase.MIDDLE
    home_all(watch)
    assert watch.phase is Phase.SWEEP
    clock[0] += 4
    assert watch.elapsed_s == 4
    watch.finish_sweep()
    assert watch.phase is Phase.SWEPT
    watch.on_write(1, "Homing_Offset", 7, limp=True)
    watch.on_write(1, "Min_Position_Limit", 700, limp=True)
    assert watch.phase is Phase.DONE
    assert watch.update(limp=True, is_open=False) is Phase.FREE


def test_a_hasty_enter_still_finds_the_arm_in_the_middle(watch):
    assert watch.on_write(1, "Homing_Offset", 0, limp=True) is True
    assert watch.phase is Phase.MIDDLE


def test_configuring_is_not_taken_for_calibration(watch, clock):
    for id_ in IDS:
        watch.on_write(id_, "Operating_Mode", 4, limp=True)
    clock[0] += 0.05
    watch.on_write(1, "Torque_Enable", 1, limp=False)
    assert watch.update(limp=False, is_open=True) is Phase.FREE
    clock[0] += 1
    assert watch.update(limp=False, is_open=True) is Phase.FREE


def test_writing_a_calibration_file_does_not_start_a_sweep(watch):
    for id_ in IDS:
        watch.on_write(id_, "Homing_Offset", 12, limp=True)
        watch.on_write(id_, "Min_Position_Limit", 700, limp=True)
        watch.on_write(id_, "Max_Position_Limit", 3000, limp=True)
    assert watch.phase is Phase.DONE


def test_a_sweep_reaches_both_stops_of_every_joint_from_anywhere():
    q, dt = UPPER_RAD.copy(), 0.01
    seen_low, seen_high = q.copy(), MID_RAD.copy()
    for t in np.arange(0, SWEEP_S, dt):
        step = HAND_SPEED_RAD_S * dt
        q += np.clip(sweep_pose(t) - q, -step, step)
        seen_low, seen_high = np.minimum(seen_low, q), np.maximum(seen_high, q)
    np.testing.assert_allclose(seen_low[SWEPT], LOWER_RAD[SWEPT], atol=1e-9)
    np.testing.assert_allclose(seen_high[SWEPT], UPPER_RAD[SWEPT], atol=1e-9)


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_recording_is_interpolated_and_repeats(tmp_path, suffix):
    q = np.stack([LOWER_RAD, UPPER_RAD, MID_RAD])
    path = tmp_path / f"hand{suffix}"
    if suffix == ".npy":
        np.save(path, rad_to_units(q))
    else:
        path.write_text(json.dumps({"fps": 30, "actions": rad_to_units(q).tolist()}))
    recording = Recording(path)
    np.testing.assert_allclose(recording.at(0.0), LOWER_RAD, atol=1e-9)
    np.testing.assert_allclose(recording.at(0.5 / 30), MID_RAD, atol=1e-9)
    np.testing.assert_allclose(recording.at(3 / 30), LOWER_RAD, atol=1e-6)


def test_bad_recordings_are_refused_by_name(tmp_path):
    path = tmp_path / "hand.npy"
    with pytest.raises(ValueError, match="cannot be read"):
        Recording(path)
    np.save(path, np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"shape \(4, 5\).*\(frames, 6\)"):
        Recording(path)


@pytest.mark.parametrize("text", ["wave", "replay", "replay:", "auto:x"])
def test_an_unknown_hand_is_named(text):
    with pytest.raises(ValueError, match="choose auto, idle, expert, clock or replay:FILE"):
        HandMode.parse(text)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"task": "juggle"}, "task"),
        ({"cameras": ("front",)}, "cameras"),
        ({"camera_height": 4}, "camera_height"),
        ({"camera_fps": 0}, "camera_fps"),
        ({"base_port": 80}, "base_port"),
    ],
)
def test_bad_bench_settings_name_the_field(fields, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        BenchConfig(**fields)


def test_idle_hand_lets_the_follower_fall():
    hand = Hand(HandMode("idle"), "lift", MID_RAD, np.random.default_rng(0))
    assert hand.hold_follower(None, Phase.MIDDLE) is None


def test_control_socket_answers_and_refuses(start_bench):
    bench = start_bench(seed=5)
    with BenchClient(bench.control.path) as client:
        status = client.request("status")
        assert (status["task"], status["hand"], status["lifts"]) == ("lift", "auto", 0)
        assert client.request("hand", mode="idle") == {"hand": "idle"}
        assert client.request("fault", spec="drop=0.5", arm="leader")["faults"] == {
            "follower": "none",
            "leader": "drop=0.5",
        }
        assert client.request("reset", task="place", seed=3)["task"] == "place"
        first = client.request("status")["environment_state"]
        client.request("reset", seed=3)
        again = client.request("status")["environment_state"]
        assert again["goal_x"] == first["goal_x"]
        client.request("reset", seed=4)
        assert client.request("status")["environment_state"]["goal_x"] != first["goal_x"]
        for command, fields, message in [
            ("dance", {}, "the bench knows"),
            ("hand", {"mode": "wave"}, "choose auto"),
            ("fault", {"spec": "fire=1"}, "write drop=P"),
            ("fault", {"arm": "third"}, "`arm`"),
            ("reset", {"task": "juggle"}, "`task`"),
            ("reset", {"seed": -1}, "`seed`"),
            ("snapshot", {"path": "x.png"}, "--cameras"),
        ]:
            with pytest.raises(RuntimeError, match=message):
                client.request(command, **fields)


def test_a_run_directory_serves_one_bench_at_a_time(start_bench, tmp_path):
    run_dir = tmp_path / "shared"
    bench = start_bench(run_dir=run_dir)
    assert (run_dir / "follower").is_symlink()
    (run_dir / "pid").write_text("1")  # somebody else's, alive
    with pytest.raises(OSError, match=r"process id 1 already uses .*--run-dir"):
        start_bench(run_dir=run_dir)
    bench.stop()
    assert not (run_dir / "follower").is_symlink()


def test_permanent_memory_survives_a_restart_unless_fresh(start_bench, tmp_path):
    run_dir = tmp_path / "kept"
    bench = start_bench(run_dir=run_dir)
    register = bench.arms["leader"].servos[2].model.registers["Drive_Mode"]
    bench.arms["leader"].servos[2].write(register.address, b"\x01")
    bench.stop()
    assert start_bench(run_dir=run_dir).arms["leader"].servos[2].get("Drive_Mode") == 1
    (run_dir / "pid").unlink()
    assert start_bench(run_dir=run_dir, fresh=True).arms["leader"].servos[2].get("Drive_Mode") == 0


def test_cameras_publish_what_the_stock_camera_reads(start_bench, tmp_path):
    from lerobot.cameras.zmq import ZMQCamera, ZMQCameraConfig

    bench = start_bench(cameras=("top", "wrist"), camera_height=48, camera_width=64)
    settings = dict(bench.ready()["cameras"]["top"])
    assert settings.pop("type") == "zmq"
    camera = ZMQCamera(ZMQCameraConfig(**settings))
    camera.connect()
    frame = camera.read()
    camera.disconnect()
    assert frame.shape == (48, 64, 3)
    # The cube is red on a table that is not: colours come out in RGB order.
    redness = frame[..., 0].astype(int) - frame[..., 2]
    assert redness.max() > 60
    picture = tmp_path / "wrist.png"
    with BenchClient(bench.control.path) as client:
        client.request("snapshot", camera="wrist", path=str(picture))
        with pytest.raises(RuntimeError, match="cannot write"):
            client.request("snapshot", camera="wrist", path=str(tmp_path / "no" / "x.png"))
    assert picture.stat().st_size > 200


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "juggle"], "reach, lift, place"),
        (["--cameras", "front"], "top, wrist"),
        (["--camera-size", "big"], "WIDTHxHEIGHT"),
        (["--fault", "fire=1"], "drop=P"),
        (["--hand", "wave"], "replay:FILE"),
        (["--status", "--run-dir", "nowhere"], "lerobot-ext sim"),
    ],
)
def test_bad_sim_options_are_one_clear_line(capsys, words, message):
    assert main(["sim", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_sim_says_how_to_reach_it_and_ends_in_order(capsys, tmp_path, monkeypatch):
    # The test's own thread must not keep the priority that the command asks for.
    monkeypatch.setattr("lerobot_env_koch.bench.priority.prefer_this_thread", lambda: None)
    run_dir = tmp_path / "sim"
    words = ["sim", "--duration", "0.1", "--cameras", "none", "--base-port", "0", "--run-dir", str(run_dir)]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        assert main(words) == 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    text = capsys.readouterr().out
    assert f"--robot.port={run_dir / 'follower'}" in text
    assert f"--teleop.port={run_dir / 'leader'}" in text
    assert "0 successes in 0 attempts" in text
    assert sorted(path.name for path in run_dir.iterdir()) == []
