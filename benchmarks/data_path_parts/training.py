# SPDX-License-Identifier: Apache-2.0
"""A training step of the quickstart through the stock `lerobot-train`, with and without our data path."""

import csv
import os
import statistics
import subprocess
import sys
from pathlib import Path

from data_path_parts.contestants import Cost

STOCK, OURS = "LeRobot's data path", "ours"
SWITCHES = {
    STOCK: {"LEROBOT_EXT_COLUMNS": "off", "LEROBOT_EXT_VIDEO": "off"},
    OURS: {"LEROBOT_EXT_COLUMNS": "on", "LEROBOT_EXT_VIDEO": "on"},
}
IMAGES = ["--with-images", "--image-size=96", "--no-environment-state"]
# What `lerobot-ext quickstart` gives its commands, and the same with LeRobot's default, videos.
CASES: dict[str, tuple[list[str], int, int, int]] = {
    "state only": ([], 64, 0, 24),
    "--with-images": ([*IMAGES, "--image-format=image"], 32, 1, 6),
    "--with-images, as videos": ([*IMAGES, "--image-format=video"], 32, 1, 6),
}
ROUNDS = 2


def step(folder: Path, case: str, *, quick: bool) -> dict[str, Cost]:
    """Milliseconds of a step: waiting for data, and computing; medians of the runs, in turns."""
    made, batch, workers, steps = CASES[case]
    root = folder / f"demos {case}".replace(" ", "_")
    if not (root / "meta" / "info.json").exists():
        _run(
            [
                "lerobot-ext",
                "demos",
                "--repo_id=local/koch_lift",
                f"--root={root}",
                f"--episodes={2 if quick else 10}",
                "--seed=0",
                *made,
            ],
            {},
        )
    rows: dict[str, list[Cost]] = {side: [] for side in SWITCHES}
    for number in range(1 if quick else ROUNDS):
        for side, switches in SWITCHES.items():
            out = folder / "runs" / f"{case} {number} {side}".replace(" ", "_")
            rows[side].append(_train(root, out, batch, workers, 2 if quick else steps, switches))
    return {
        side: {key: statistics.median(row[key] for row in seen) for key in seen[0]}
        for side, seen in rows.items()
    }


def _train(root: Path, out: Path, batch: int, workers: int, steps: int, switches: dict[str, str]) -> Cost:
    """One run of the stock trainer; the first half of its steps does not count."""
    import shutil

    shutil.rmtree(out, ignore_errors=True)
    _run(
        [
            "lerobot-train",
            "--dataset.repo_id=local/koch_lift",
            f"--dataset.root={root}",
            "--dataset.video_backend=pyav",
            "--policy.type=hierarchical_diffusion",
            "--policy.device=cpu",
            "--policy.push_to_hub=false",
            f"--batch_size={batch}",
            f"--steps={steps}",
            "--log_freq=1",
            "--save_checkpoint=false",
            f"--num_workers={workers}",
            "--env_eval_freq=0",
            "--seed=0",
            f"--output_dir={out}",
            "--wandb.enable=false",
        ],
        switches,
    )
    with (out / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[steps // 2 :]
    data = statistics.mean(float(row["dataloading_s"]) for row in rows) * 1e3
    update = statistics.mean(float(row["update_s"]) for row in rows) * 1e3
    return {"data_ms": data, "update_ms": update, "step_ms": data + update}


def _run(command: list[str], switches: dict[str, str]) -> None:
    """A console script beside this Python.

    Raises:
        SystemExit: It failed; its last lines say why.
    """
    script = Path(sys.executable).parent / command[0]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | switches
    environment.pop("LD_LIBRARY_PATH", None)  # what was lent to torchcodec
    ran = subprocess.run([str(script), *command[1:]], capture_output=True, text=True, env=environment)
    if ran.returncode:
        raise SystemExit(f"{' '.join(command)}\nended with {ran.returncode}:\n{ran.stderr[-2000:]}")
