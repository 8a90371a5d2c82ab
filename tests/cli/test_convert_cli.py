# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext convert` and `label` as console scripts, killed in between too."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from stock_cli import BIN, environment, run

pytestmark = pytest.mark.slow


def test_sample_validate_convert_label_and_train(tmp_path):
    sample = run(tmp_path, "lerobot-ext", "convert", "hdf5", f"{tmp_path}/log.hdf5", "--sample", "250")
    validated = run(
        tmp_path, "lerobot-ext", "convert", "hdf5", f"{tmp_path}/log.hdf5", "--validate", "--json"
    )
    words = [
        "convert",
        "hdf5",
        f"{tmp_path}/log.hdf5",
        "--repo_id",
        "me/log",
        "--fps",
        "30",
        "--vcodec",
        "h264",
    ]
    converted = run(tmp_path, "lerobot-ext", *words)
    labelled = run(tmp_path, "lerobot-ext", "label", "me/log", "--reward", "step_cost", "--in-place")

    assert (sample.returncode, validated.returncode) == (0, 0), sample.stderr + validated.stderr
    said = json.loads(validated.stdout)
    assert (said["layout"], said["episodes"], said["frames"], said["problems"]) == ("lapo", 3, 250, [])
    assert converted.returncode == 0, converted.stderr
    assert "verified 250 rows exactly" in converted.stdout
    assert "x264" not in converted.stderr
    assert labelled.returncode == 0, labelled.stderr
    dataset = LeRobotDataset("me/log", root=tmp_path / "me/log")
    assert (dataset.num_episodes, dataset.num_frames) == (3, 250)
    assert {"next.success", "mc_return"} <= set(dataset.features)

    trained = run(
        tmp_path,
        "lerobot-train",
        "--policy.type=lapo",
        "--dataset.repo_id=me/log",
        f"--dataset.root={tmp_path / 'me/log'}",
        "--policy.device=cpu",
        "--policy.push_to_hub=false",
        "--policy.image_size=[32,32]",
        "--policy.hidden_dim=16",
        "--policy.chunk_size=2",
        "--policy.n_action_steps=2",
        "--steps=2",
        "--batch_size=4",
        "--num_workers=0",
        "--env_eval_freq=0",
        f"--output_dir={tmp_path / 'run'}",
    )
    assert trained.returncode == 0, trained.stderr[-3000:]
    assert "offline RL: 3 episodes" in trained.stdout + trained.stderr
    config = json.loads((tmp_path / "run/checkpoints/last/pretrained_model/config.json").read_text())
    assert len(config["input_features"]) == 4  # three cameras and the joints


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_the_same_command_goes_on_after_a_kill(tmp_path):
    run(tmp_path, "lerobot-ext", "convert", "hdf5", f"{tmp_path}/log.hdf5", "--sample", "4200")
    words = ["lerobot-ext", "convert", "hdf5", f"{tmp_path}/log.hdf5", "--repo_id", "me/log", "--fps", "30"]
    first = subprocess.Popen(
        [str(BIN / words[0]), *words[1:]], env=environment(tmp_path), stderr=subprocess.DEVNULL
    )
    segment = tmp_path / "me/log.converting/segments/000000"
    while not segment.exists() and first.poll() is None:
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL

    again = run(tmp_path, *words)

    assert again.returncode == 0, again.stderr
    assert "went on with" in again.stdout
    assert LeRobotDataset("me/log", root=tmp_path / "me/log").num_frames == 4200
    assert [path.name for path in (tmp_path / "me").iterdir()] == ["log"]


def test_every_problem_is_a_line_and_the_exit_code_says_so(tmp_path):
    (tmp_path / "log.hdf5").write_bytes(b"no HDF5 file at all")

    done = run(tmp_path, "lerobot-ext", "convert", "hdf5", f"{tmp_path}/log.hdf5", "--validate")

    assert done.returncode == 1
    assert "unreadable-file" in done.stdout
    assert "Traceback" not in done.stderr
