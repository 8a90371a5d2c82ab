# SPDX-License-Identifier: Apache-2.0
"""A Koch on a bad bus: stock LeRobot, naive retries (`num_retry=5` everywhere) and our driver, side by side.

Everything runs against `lerobot-ext sim`: real dynamixel-sdk, pyserial and stock LeRobot code on simulated
servos. Parts, selected by `--only`:

cli        whole recordings through the stock `lerobot-record` under nine kinds of fault
paced      frames paced at 30 fps at 5 % loss: aborts, bus work, true age of each value by the bench's clock
stall      the age of the values after the bus was silent once
connect    connecting and configuring both arms
calibrate  stock `lerobot-calibrate`, driven through a terminal
reads      one read of six positions with and without Fast Sync Read
timer      frames behind an FTDI adapter's latency timer

Prints Markdown tables, writes koch_bus.json (each measurement as soon as it is there; `--resume` goes on),
per-frame arrays and koch_bus.png. Frames that the host disturbed are counted apart: replies the simulator's
own machine delayed by more than 10 ms, and frames whose client waited that long for a processor.
Expected last line: `ours: 0 of 108 recordings aborted; 0 aborts in 30000 paced frames …`.

    uv run python benchmarks/koch_bus.py [--quick] [--only cli,paced] [--jobs 3] [--resume] [--out DIR]
"""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from koch_bus_parts.jobs import Job

PARTS = ("cli", "paced", "stall", "connect", "calibrate", "reads", "timer")
DRIVERS = ("stock", "naive", "ours")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/koch_bus"))
    parser.add_argument("--only", default=",".join(PARTS), help="parts, by commas (default: %(default)s)")
    parser.add_argument("--drivers", default=",".join(DRIVERS), help="by commas (default: %(default)s)")
    parser.add_argument(
        "--jobs", type=int, default=2, help="measurements side by side (default: %(default)s)"
    )
    parser.add_argument("--resume", action="store_true", help="keep what --out holds, measure the rest")
    parser.add_argument("--runs", type=int, default=12, help="recordings of each kind (default: %(default)s)")
    parser.add_argument("--episode-s", type=float, default=20, help="length of one (default: %(default)s)")
    parser.add_argument(
        "--frames", type=int, default=30_000, help="paced frames of ours (default: %(default)s)"
    )
    parser.add_argument(
        "--tries", type=int, default=40, help="connections of each kind (default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="a minute's worth: only shows that it runs")
    args = parser.parse_args()
    args.only, args.drivers = args.only.split(","), args.drivers.split(",")
    for name, chosen, known in (("--only", args.only, PARTS), ("--drivers", args.drivers, DRIVERS)):
        unknown = [item for item in chosen if item not in known]
        if unknown:
            parser.error(f"{name} does not know {', '.join(unknown)}; choose from {', '.join(known)}.")
    if args.jobs < 1:
        parser.error(f"--jobs ({args.jobs}) must be at least 1.")
    return args


def jobs_of(args: argparse.Namespace) -> "list[Job]":
    """What is to be measured."""
    from koch_bus_parts import cli, connect, paced, reads

    quick, drivers = args.quick, args.drivers
    two = ["none", "drop 5 %"]
    runs, episode_s = (1, 1.0) if quick else (args.runs, args.episode_s)
    frames, shard = (60, 60) if quick else (args.frames, 3000)
    tries = 2 if quick else args.tries
    timers = ["timer 16 ms"] if quick else list(reads.TIMER_CASES)
    made: dict[str, Any] = {
        "cli": lambda: cli.jobs(two if quick else list(cli.CASES), drivers, runs, episode_s),
        "paced": lambda: paced.paced_jobs(drivers, frames, shard),
        "stall": lambda: paced.stall_jobs(drivers, 1 if quick else 12, 40 if quick else 150),
        "connect": lambda: connect.connect_jobs(two if quick else list(connect.CASES), drivers, tries),
        "calibrate": lambda: connect.calibrate_jobs(["ours"] if quick else drivers, tries, 5),
        "reads": lambda: reads.read_jobs(50 if quick else 2000) if "ours" in drivers else [],
        "timer": lambda: reads.timer_jobs(timers, drivers, 30 if quick else 600),
    }
    return [job for part in PARTS if part in args.only for job in made[part]()]


def main() -> int:
    """Run the benchmark."""
    args = parse()
    out = args.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    # Before LeRobot is imported, which fixes its folders then; the benches inherit it.
    os.environ.pop("HF_LEROBOT_CALIBRATION", None)
    os.environ |= {"HF_LEROBOT_HOME": str(out / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    from koch_bus_parts import machine, picture, tables
    from koch_bus_parts.jobs import run_jobs
    from koch_bus_parts.store import Store

    warm()
    # Also in the background, where a shell has Ctrl-C ignored: end in order, with all benches.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    store = Store(out / "koch_bus.json", args.resume)
    before = machine.describe()
    with tempfile.TemporaryDirectory(prefix="koch_bus") as tmp:
        n_failed = run_jobs(jobs_of(args), store, args.jobs, Path(tmp), out)
    store.note_machine(before | {"jobs": args.jobs, "only": args.only, "load_after": os.getloadavg()})
    raw = out / "raw"
    summary = tables.summarise(store, raw)
    store.put_summary(summary)
    text = tables.render(summary)
    (out / "koch_bus.md").write_text(text)
    picture.draw(store, summary, raw, out / "koch_bus.png")
    print(text)
    if n_failed:
        print(f"{n_failed} measurements failed to run; see above.")
    print(tables.verdict(summary))
    return 1 if n_failed else 0


def warm() -> None:
    """Import once what every forked measurement needs."""
    from importlib import import_module

    from lerobot.utils.import_utils import register_third_party_plugins

    for script in ("lerobot_calibrate", "lerobot_record"):
        import_module(f"lerobot.scripts.{script}")
    register_third_party_plugins()
    for module in ("lerobot_robot_koch.koch_follower", "lerobot_robot_koch.koch_leader", "matplotlib"):
        import_module(module)


if __name__ == "__main__":
    sys.exit(main())
