# SPDX-License-Identifier: Apache-2.0
"""What there is to measure: a suite is one benchmark with its command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1]
QUICK, FULL = "quick", "full"
OUT = ("--out", "{out}")


@dataclass(frozen=True)
class Suite:
    """A benchmark, and how it is run.

    Args:
        name (`str`): Its script without `.py`.
        measures (`str`): What it tells, for a table.
        minutes (`int | None`): How long a full run takes on two shared cores, as far as that is known.
        note (`str`): What the minutes are of, where they are not of the plain command.
        unknown (`str`): What of a full run they leave out.
        full (`tuple[str, ...]`): Words of a full run; `{out}` stands for the suite's folder, `{jobs}` for the
            processes that it may use.
        quick (`tuple[str, ...]`): Words of a run that only shows that it works.
        parts (`tuple[str, ...]`): Folders beside the script that it is made of.
        packages (`tuple[str, ...]`): Import packages whose code it measures.
        figures (`str`): The JSON files that it writes, as a pattern, where it is not one by the suite's
            name; each is kept under what the `*` stands for.
    """

    name: str
    measures: str
    minutes: int | None
    note: str = ""
    unknown: str = ""
    full: tuple[str, ...] = OUT
    quick: tuple[str, ...] = ("--quick", *OUT)
    parts: tuple[str, ...] = ()
    packages: tuple[str, ...] = ("lerobot_ext",)
    figures: str = ""

    @property
    def about(self) -> str:
        """How long a full run takes, in words."""
        if self.minutes is None:
            return "not known"
        said = " ".join([duration(self.minutes), *filter(None, [self.note])])
        return f"{said}; {self.unknown}: not known" if self.unknown else said

    @property
    def script(self) -> Path:
        """The benchmark."""
        return BENCHMARKS / f"{self.name}.py"

    def words(self, size: str, out: Path | str, jobs: int = 1) -> list[str]:
        """What follows `python` on the command line."""
        chosen = self.quick if size == QUICK else self.full
        return [str(self.script), *(word.format(out=out, jobs=jobs, name=self.name) for word in chosen)]

    def command(self, jobs: int = 1) -> str:
        """The full run as a user types it, into a folder of its own choice."""
        words = [word.format(out="DIR", jobs=jobs, name=self.name) for word in self.full]
        return " ".join(["uv run python", f"benchmarks/{self.name}.py", *words])


def duration(minutes: int) -> str:
    """`1 h 5 min`."""
    hours, rest = divmod(minutes, 60)
    return " ".join([*([f"{hours} h"] if hours else []), *([f"{rest} min"] if rest or not hours else [])])


def cost(suites: Sequence[Suite]) -> str:
    """What all of them take one after the other, and what of that is not known."""
    known = [suite.minutes for suite in suites if suite.minutes is not None]
    said = f"{len(known)} of {len(suites)} suites take {duration(sum(known))} together, one after the other"
    left = [f"`{suite.name}`" for suite in suites if suite.minutes is None]
    left += [f"{suite.unknown} of `{suite.name}`" for suite in suites if suite.unknown]
    return f"{said}; not known: {', '.join(left)}." if left else f"{said}."


_JSON = ("--json", "{out}/{name}.json")
_SIDE_BY_SIDE = ("--jobs", "{jobs}")
_RL = ("hierarchical_parts", "rl_parts")
_POLICY = "lerobot_policy_"

SUITES: tuple[Suite, ...] = (
    Suite(
        "koch_policies",
        "LeRobot's policies and ours on expert, clumsy and mixed data, from poses and from cameras",
        750,
        "of one shared core, 550 of them with cameras, by what expert data took",
        full=(*_SIDE_BY_SIDE, *OUT),
        parts=("hierarchical_parts", "koch_policies_parts", "rl_parts"),
        packages=tuple(
            f"{_POLICY}{name}" for name in ("act_plus", "hierarchical_diffusion", "lapo", "q_chunking")
        ),
    ),
    Suite(
        "hierarchical",
        "layers of `hierarchical_diffusion`: success, losses without a layer, safety, budget, speed",
        180,
        "of one core",
        full=("--seeds", "3", *_SIDE_BY_SIDE, *OUT),
        parts=("hierarchical_parts",),
        packages=(f"{_POLICY}hierarchical_diffusion",),
    ),
    Suite(
        "act_plus",
        "flags of `act_plus` beside stock ACT: delays, instructions, several ways, mixed data",
        220,
        "of one core, added up from its trainings",
        full=(*_SIDE_BY_SIDE, *OUT),
        parts=("act_plus_parts",),
        packages=(f"{_POLICY}act_plus",),
    ),
    Suite(
        "offline_rl",
        "`lapo`, `q_chunking`, cloning, IQL, diffusion on logs of mixed quality",
        100,
        "of one shared core",
        full=(*_SIDE_BY_SIDE, *OUT),
        parts=_RL,
        packages=(f"{_POLICY}lapo", f"{_POLICY}q_chunking", "lerobot_ext"),
        figures="offline_rl_*.json",
    ),
    Suite(
        "online_rl",
        "what learning in the environment adds to a policy from logs",
        130,
        "of one shared core",
        full=(*_SIDE_BY_SIDE, *OUT),
        parts=_RL,
        packages=(f"{_POLICY}q_chunking", f"{_POLICY}lapo", "lerobot_ext"),
    ),
    Suite(
        "q_chunking",
        "training steps and chunks of `q_chunking` beside its own cloning",
        10,
        parts=_RL,
        packages=(f"{_POLICY}q_chunking",),
    ),
    Suite(
        "inference_speed",
        "chunks of `hierarchical_diffusion` beside stock diffusion's, exact speed-ups",
        30,
        "with one round of stock's 100 steps",
        full=("--stock-rounds", "1", *OUT),
        packages=(f"{_POLICY}hierarchical_diffusion",),
    ),
    Suite(
        "koch_bus",
        "recordings, frames and connections of a Koch on a bus with faults",
        60,
        parts=("koch_bus_parts",),
        packages=("lerobot_robot_koch", "lerobot_env_koch"),
    ),
    Suite(
        "recording",
        "stock `lerobot-record` of three cameras, as it comes and with our flags",
        10,
        parts=("recording_parts",),
    ),
    Suite(
        "data_path",
        "random frames, items, loaders, training steps: stock PyAV, torchcodec, ours",
        25,
        parts=("data_path_parts",),
        packages=("lerobot_camera_pyav", "lerobot_ext"),
    ),
    Suite(
        "memory_pool",
        "samples of three cameras from a warm memory pool",
        10,
        parts=("data_path_parts",),
        packages=("lerobot_camera_pyav", "lerobot_ext"),
    ),
    Suite(
        "ram_reader",
        "items of a dataset through columns in RAM",
        1,
        full=_JSON,
        quick=("--quick", *_JSON),
    ),
    Suite("convert", "HDF5 to LeRobotDataset beside a loop of `add_frame`", 10),
    Suite(
        "episode_journal",
        "what the journal of a recording costs",
        5,
        full=_JSON,
        quick=("--quick", *_JSON),
    ),
    Suite(
        "processors",
        "processor steps on a robot's frame and on a policy's batch",
        2,
        full=("--calls", "1000", *OUT),
        packages=("lerobot_robot_processors",),
    ),
    Suite("trainer_overhead", "our comforts in the stock trainer's loop", 1),
    Suite("async_inference", "messages to a policy server beside LeRobot's pickle", 1),
    Suite(
        "hub_push",
        "pushes of a checkpoint, whole and cut off, beside LeRobot's own",
        2,
        parts=("hub_push_parts",),
    ),
    Suite("startup", "what our plugins add to the start of a stock command", 4),
)


def chosen(names: Sequence[str]) -> list[Suite]:
    """The suites of these names, in the table's order.

    Raises:
        ValueError: One is none.
    """
    known = {suite.name: suite for suite in SUITES}
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"no suite is called {', '.join(unknown)}; choose from {', '.join(known)}")
    return [suite for name, suite in known.items() if name in names]
