# SPDX-License-Identifier: Apache-2.0
"""Record end-effector poses while teleoperating in joints, and drive the arm by them again.

What you will see: a virtual Koch starts; stock `lerobot-record` teleoperates it with a leader in joints, and
the dataset holds poses; stock `lerobot-replay` sends those poses back, through inverse kinematics, and the
cube is lifted a second time. With `--policy`, `lerobot-train` trains a (far too) small ACT on the poses, and
`lerobot-rollout` drives the arm with it. One file of processor steps does it all:
`LEROBOT_EXT_PIPELINES=poses.json`.

    uv run python examples/koch_end_effector.py

The last line is `End-effector example: … frames recorded as poses, replayed through inverse kinematics, …
lifted.` On your own arm: the same commands, with your ports and ids, and without the first step.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
START_S = 180.0

TO_POSES = "lerobot_ext_joints_to_end_effector"
STEPS = {
    # Leader to dataset: joints become poses.
    "teleop_action": [(TO_POSES, {"convert": "action"})],
    # Follower to dataset and policy.
    "robot_observation": [(TO_POSES, {"convert": "observation"})],
    # Dataset, leader or policy to follower: poses become joints, within bounds. The limiter comes last.
    "robot_action": [
        ("lerobot_ext_workspace_bounds", {"floor": 0.005, "radius": [0.03, 0.26]}),
        ("lerobot_ext_end_effector_to_joints", {}),
        ("lerobot_ext_motion_limits", {"velocity": 600.0, "acceleration": 20000.0, "jerk": 1000000.0}),
    ],
}


def write_pipelines(path: Path) -> None:
    """LeRobot's own saved-pipeline format, three of them under names."""
    pipelines = {
        name: {"name": name, "steps": [{"registry_name": step, "config": config} for step, config in steps]}
        for name, steps in STEPS.items()
    }
    path.write_text(json.dumps(pipelines, indent=2), encoding="utf-8")


def run(home: Path, *words: str) -> None:
    """Run a stock command as you would, and show it."""
    print("\n$ LEROBOT_EXT_PIPELINES=poses.json", *words, flush=True)
    environment = os.environ | {
        "LEROBOT_EXT_PIPELINES": str(home / "poses.json"),
        "HF_LEROBOT_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
    }
    log = home / f"{words[0]}.log"
    with log.open("w", encoding="utf-8") as out:
        done = subprocess.run(
            [str(BIN / words[0]), *words[1:]],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    if done.returncode:
        raise SystemExit(
            f"{words[0]} ended with {done.returncode}:\n{log.read_text(encoding='utf-8')[-3000:]}"
        )


@contextmanager
def virtual_arms(home: Path) -> Iterator[dict[str, Any]]:
    """A leader and a follower without hardware, in a process of their own; says where they are."""
    ready = home / "ready.json"
    words = ["sim", "--fresh", "--calibrated", "--calibration-dir", str(home / "calibration")]
    words += [
        "--run-dir",
        str(home / "sim"),
        "--base-port",
        "0",
        "--cameras",
        "top",
        "--ready-file",
        str(ready),
    ]
    with (home / "sim.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen([str(BIN / "lerobot-ext"), *words], stdout=log, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + START_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"The virtual arms did not start:\n{(home / 'sim.log').read_text()}")
            time.sleep(0.1)
        yield json.loads(ready.read_text(encoding="utf-8"))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def arm_words(role: str, type_: str, port: str, id_: str) -> list[str]:
    """Options of one arm; `give_up_ms` is patient, for a busy machine."""
    return [
        f"--{role}.{k}={v}" for k, v in {"type": type_, "port": port, "id": id_, "give_up_ms": 3000}.items()
    ]


def main(argv: list[str] | None = None) -> None:
    """Record, show, replay, and with `--policy` train and roll out."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the episode")
    parser.add_argument("--policy", action="store_true", help="also train a tiny ACT and roll it out")
    parser.add_argument("--home", type=Path, help="folder for all files; a temporary one by default")
    args = parser.parse_args(argv)
    if args.home is not None:
        args.home.mkdir(parents=True, exist_ok=True)
        show(args.home.resolve(), args.seconds, args.policy)
        return
    with tempfile.TemporaryDirectory(prefix="koch-poses-") as folder:
        show(Path(folder), args.seconds, args.policy)


def show(home: Path, seconds: float, policy: bool) -> None:
    """The whole example, with its files in a folder."""
    from lerobot_env_koch.bench.command import camera_argument
    from lerobot_env_koch.bench.control import BenchClient

    write_pipelines(home / "poses.json")
    dataset = ["--dataset.repo_id=me/koch_poses", f"--dataset.root={home / 'dataset'}"]
    with virtual_arms(home) as ready, BenchClient(ready["control_socket"]) as bench:
        calibrations = home / "calibration"
        follower = arm_words("robot", "koch_follower", ready["ports"]["follower"], "sim_follower")
        follower += [f"--robot.calibration_dir={calibrations / 'robots' / 'koch_follower'}"]
        cameras = [f"--robot.cameras={camera_argument(ready)}"]
        leader = arm_words("teleop", "koch_leader", ready["ports"]["leader"], "sim_leader")
        leader += [f"--teleop.calibration_dir={calibrations / 'teleoperators' / 'koch_leader'}"]

        bench.request("reset", seed=3)
        run(
            home,
            "lerobot-record",
            *follower,
            *cameras,
            *leader,
            *dataset,
            "--dataset.single_task=Lift the red cube.",
            "--dataset.num_episodes=1",
            f"--dataset.episode_time_s={seconds:g}",
            "--dataset.reset_time_s=0",
            "--dataset.video=false",
            "--dataset.push_to_hub=false",
            "--play_sounds=false",
        )
        frames = describe(home / "dataset")

        # The same cube at the same place: only the recorded poses tell the arm where it is.
        before = int(bench.request("reset", seed=3) and bench.request("status")["lifts"])
        run(home, "lerobot-replay", *follower, *dataset, "--dataset.episode=0", "--play_sounds=false")
        lifted = int(bench.request("status")["lifts"]) - before
        if policy:
            roll_out(home, [*follower, *cameras], dataset)
    print(
        f"\nEnd-effector example: {frames} frames recorded as poses, replayed through inverse kinematics, "
        f"{'the cube was' if lifted else 'no cube was'} lifted."
    )


def describe(root: Path) -> int:
    """Print what the dataset holds; returns its number of frames."""
    import numpy as np
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("me/koch_poses", root=root, video_backend="pyav")
    for key in ("observation.state", "action"):
        print(f"{key:>18}: {', '.join(dataset.features[key]['names'])}")
    rows = dataset.hf_dataset.with_format("numpy")
    way = np.ptp(np.stack(rows["action"])[:, :3], axis=0) * 100
    print(f"{dataset.num_frames} frames; the tip was led over {way[0]:.0f} x {way[1]:.0f} x {way[2]:.0f} cm.")
    return int(dataset.num_frames)


def roll_out(home: Path, follower: list[str], dataset: list[str]) -> None:
    """Train on poses and act in poses: too little training to be of use, all of the way."""
    run(
        home,
        "lerobot-train",
        *dataset,
        "--policy.type=act",
        "--policy.device=cpu",
        "--policy.push_to_hub=false",
        "--policy.dim_model=32",
        "--policy.n_heads=2",
        "--policy.dim_feedforward=32",
        "--policy.n_encoder_layers=1",
        "--policy.chunk_size=10",
        "--policy.n_action_steps=10",
        "--policy.pretrained_backbone_weights=null",
        f"--output_dir={home / 'train'}",
        "--steps=5",
        "--batch_size=2",
        "--num_workers=0",
        "--env_eval_freq=0",
        "--wandb.enable=false",
    )
    run(
        home,
        "lerobot-rollout",
        "--strategy.type=base",
        f"--policy.path={home / 'train' / 'checkpoints' / 'last' / 'pretrained_model'}",
        "--policy.device=cpu",
        *follower,
        "--task=Lift the red cube.",
        "--fps=30",
        "--duration=2",
    )
    print("The policy took poses and gave poses; the arm followed in joints.")


if __name__ == "__main__":
    main()
