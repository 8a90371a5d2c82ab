# SPDX-License-Identifier: Apache-2.0
"""What a quickstart run leaves to look at: a table, a JSON summary and a picture."""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lerobot_ext.intervals import wilson_interval

# "step:50 smpl:3K ep:65 epch:1.30 loss:0.512 …": large steps are abbreviated ("2K"), so points are counted.
_LOSS = re.compile(r"step:\S+ .*?\bloss:([-+0-9.eE]+|nan|inf)")


@dataclass
class Results:
    """The figures of one run, filled step by step.

    Args:
        seconds (`dict[str, float]`): Wall-clock seconds of each step.
        recorded_episodes (`int`), recorded_frames (`int`): What came through the simulated bus.
        demo_episodes (`int`), demo_frames (`int`): The expert's data.
        losses (`list[float]`): Training loss at each log line.
        successes (`int`), episodes (`int`): Evaluation in the gym environment.
        pushed_bytes (`int`), pulled_bytes (`int`): Sizes on the loopback Hub and back.
        rollout_lifts (`int`), rollout_s (`float`): Lifts of the pulled policy on the virtual arm, its time.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    recorded_episodes: int = 0
    recorded_frames: int = 0
    demo_episodes: int = 0
    demo_frames: int = 0
    losses: list[float] = field(default_factory=list)
    successes: int = 0
    episodes: int = 0
    pushed_bytes: int = 0
    pulled_bytes: int = 0
    rollout_lifts: int = 0
    rollout_s: float = 0.0


def read_losses(train_log: Path) -> list[float]:
    """The training losses in a `lerobot-train` log, one a log line."""
    return [float(m[1]) for m in _LOSS.finditer(train_log.read_text(errors="replace"))]


def read_dataset_size(root: Path) -> tuple[int, int]:
    """Episodes and frames of a LeRobotDataset on disk."""
    info = json.loads((root / "meta" / "info.json").read_text())
    return int(info["total_episodes"]), int(info["total_frames"])


def read_successes(eval_dir: Path) -> tuple[int, int]:
    """Successes and episodes in the `eval_info.json` that `lerobot-eval` wrote."""
    info = json.loads((eval_dir / "eval_info.json").read_text())
    successes = [bool(s) for task in info["per_task"] for s in task["metrics"]["successes"]]
    return sum(successes), len(successes)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder, the Hub client's own cache left out."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and ".cache" not in p.parts)


def success_text(results: Results) -> str:
    """Successes of the evaluation with their 95 % interval."""
    low, high = wilson_interval(results.successes, results.episodes)
    return f"{results.successes}/{results.episodes} (95 % interval {100 * low:.0f}-{100 * high:.0f} %)"


def print_table(results: Results, console: Console) -> None:
    """Print the closing table."""
    table = Table(title="Quickstart (simulated arm, simulated bus)", title_justify="left", show_header=False)
    table.add_row(
        "recorded through the bus", f"{results.recorded_episodes} episodes, {results.recorded_frames} frames"
    )
    table.add_row("demonstrations", f"{results.demo_episodes} episodes, {results.demo_frames} frames")
    table.add_row("training loss", f"{results.losses[0]:.3f} first, {results.losses[-1]:.3f} last")
    table.add_row("lift success", success_text(results))
    table.add_row(
        "lifts on the virtual arm",
        f"{results.rollout_lifts} in {results.rollout_s:.0f} s by the pulled policy",
    )
    table.add_row(
        "pushed / pulled", f"{results.pushed_bytes / 1e6:.1f} MB / {results.pulled_bytes / 1e6:.1f} MB"
    )
    total = sum(results.seconds.values())
    table.add_row(
        "seconds", ", ".join(f"{k} {v:.0f}" for k, v in results.seconds.items()) + f"; total {total:.0f}"
    )
    console.print(table)


def write_summary(results: Results, path: Path, **extra: object) -> None:
    """Write the figures as JSON."""
    low, high = wilson_interval(results.successes, results.episodes)
    data = {**extra, **asdict(results), "success_rate_95": [low, high]}
    path.write_text(json.dumps(data, indent=2) + "\n")


def draw_picture(results: Results, eval_dir: Path, log_freq: int, path: Path) -> None:
    """Draw the learning curve beside frames of an evaluated episode, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    frames = _video_frames(eval_dir, count=4)
    figure = plt.figure(figsize=(11, 4.2), layout="constrained")
    columns = figure.add_gridspec(2, 4)
    curve = figure.add_subplot(columns[:, :2])
    curve.plot([log_freq * (i + 1) for i in range(len(results.losses))], results.losses, color="tab:blue")
    curve.set(xlabel="training step", ylabel="loss", yscale="log", title="Training loss")
    curve.grid(alpha=0.3)
    for index, frame in enumerate(frames):
        panel = figure.add_subplot(columns[index // 2, 2 + index % 2])
        panel.imshow(frame)
        panel.set_axis_off()
    figure.suptitle(f"Lift on the simulated Koch: {success_text(results)}")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _video_frames(eval_dir: Path, count: int) -> list[object]:
    """`count` frames, evenly spaced, of the first evaluation video; empty where no video was written."""
    import av

    videos = sorted(eval_dir.rglob("*.mp4"))
    if not videos:
        return []
    with av.open(str(videos[0])) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    last = len(frames) - 1
    return [frames[round(i * last / (count - 1))] for i in range(count)] if frames else []
