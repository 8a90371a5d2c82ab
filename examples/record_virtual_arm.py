# SPDX-License-Identifier: Apache-2.0
"""Record a dataset on the virtual Koch, over a bus that loses packets.

What you will see: a virtual leader and follower start in a process of their own; stock `lerobot-record`
teleoperates them while 5 % of all packets are lost; then what is in the dataset, and what the bus did.

    uv run python examples/record_virtual_arm.py

The last line is `Recording example: … frames in … episodes over a bus that lost … packets.` On your own arm:
the same `lerobot-record` with your ports and ids (`docs/koch.md`).
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


@contextmanager
def virtual_arms(home: Path, fault: str) -> Iterator[dict[str, Any]]:
    """A calibrated leader and follower without hardware; says where they are."""
    ready = home / "ready.json"
    words = ["sim", "--fresh", "--calibrated", "--cameras=top", "--base-port=0", f"--fault={fault}"]
    words += [f"--run-dir={home / 'bench'}", f"--ready-file={ready}"]
    environment = os.environ | {"HF_LEROBOT_HOME": str(home / "lerobot")}
    with (home / "sim.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen([BIN / "lerobot-ext", *words], stdout=log, stderr=log, env=environment)
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


def main(argv: list[str] | None = None) -> None:
    """Start the arms, record, look at the dataset."""
    from lerobot_env_koch.bench.command import camera_argument
    from lerobot_env_koch.bench.control import BenchClient

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--home", type=Path, help="folder for all files; a temporary one by default")
    parser.add_argument("--episodes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of an episode")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="koch-recording-") as folder:
        home = (args.home or Path(folder)).resolve()
        home.mkdir(parents=True, exist_ok=True)
        with (
            virtual_arms(home, "drop=0.05") as ready,
            BenchClient(ready["control_socket"]) as bench,
        ):
            words = [
                "--robot.type=koch_follower", f"--robot.port={ready['ports']['follower']}",
                "--robot.id=sim_follower", f"--robot.cameras={camera_argument(ready)}",
                "--teleop.type=koch_leader", f"--teleop.port={ready['ports']['leader']}",
                "--teleop.id=sim_leader", "--robot.give_up_ms=3000", "--teleop.give_up_ms=3000",
                "--dataset.repo_id=me/virtual_lift", f"--dataset.root={home / 'dataset'}",
                "--dataset.single_task=Lift the red cube.", f"--dataset.num_episodes={args.episodes}",
                f"--dataset.episode_time_s={args.seconds:g}", "--dataset.reset_time_s=1",
                "--dataset.push_to_hub=false", "--play_sounds=false",
            ]  # fmt: skip
            print("$ lerobot-record", *words, flush=True)
            environment = os.environ | {"HF_LEROBOT_HOME": str(home / "lerobot"), "HF_HUB_OFFLINE": "1"}
            subprocess.run(
                [BIN / "lerobot-record", *words], env=environment, stdin=subprocess.DEVNULL, check=True
            )
            status = bench.request("status")
        info = json.loads((home / "dataset/meta/info.json").read_text(encoding="utf-8"))
        for name, feature in info["features"].items():
            print(f"{name:>24}: {feature['dtype']} {feature['shape']}")
    lost = sum(bus["faults"]["dropped"] for bus in status["buses"].values())
    print(
        f"\nRecording example: {info['total_frames']} frames in {info['total_episodes']} episodes "
        f"over a bus that lost {lost} packets."
    )


if __name__ == "__main__":
    main()
