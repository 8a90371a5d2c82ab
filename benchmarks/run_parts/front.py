# SPDX-License-Identifier: Apache-2.0
"""The table of results on the README: LeRobot alone beside ours, made of the figures that are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl_parts import blocks

from run_parts import kept

README = Path(__file__).parents[2] / "README.md"
NAME = "results"
Figures = Any
Cells = tuple[str, str, str]
"""What was measured, LeRobot alone, ours."""
_CELL = ("task", "variant", "mode", "delay_ms")


@dataclass(frozen=True)
class Line:
    """One row.

    Args:
        suite (`str`): Whose figures.
        page (`str`): Where there is more.
        cells (`Callable`): Of the figures; none where they hold nothing of it.
    """

    suite: str
    page: str
    cells: Callable[[Figures], Cells | None]


def table(folder: Path = kept.RESULTS) -> str:
    """The rows of all suites of which figures are kept."""
    lines = ["| what | LeRobot alone | with ours | measured by |", "|---|---|---|---|"]
    for line in LINES:
        entry = kept.read(line.suite, folder)
        cells = line.cells(entry["figures"]) if entry else None
        if entry is None or cells is None:
            continue
        what, alone, ours = cells
        by = f"[`benchmarks/{line.suite}.py`](docs/results/{line.suite}.json), {entry['measured']}"
        lines.append(f"| [{what}]({line.page}) | {alone} | {ours} | {by} |")
    return "\n".join(lines)


def write(readme: Path = README) -> None:
    """Put the table into the README."""
    blocks.write_block(readme, NAME, table())


def _percent(values: Sequence[float]) -> str:
    *most, last = [f"{value:.0f}" for value in values]
    return f"{', '.join(most)} and {last} %" if most else f"{last} %"


def _marked(value: float, ours: float) -> str:
    """Per cent, bold where ours is no better."""
    return f"**{value:.0f} %**" if value >= ours else f"{value:.0f} %"


# ---- a function a suite


def _koch_bus(figures: Figures) -> Cells:
    faults = ("drop 0.1 %", "drop 1 %", "drop 5 %")
    cells = figures["summary"]["cli"]

    def aborted(side: str) -> str:
        found = [cells[fault][side] for fault in faults]
        return f"{sum(one['aborted'] for one in found)} of {sum(one['runs'] for one in found)}"

    what = "recordings of a Koch that end too early, on a bus that loses 0.1 to 5 % of its packets"
    return what, aborted("stock"), aborted("ours")


def _koch_policies(observation: str) -> Callable[[Figures], Cells | None]:
    def cells(figures: Figures) -> Cells | None:
        from koch_policies_parts.cells import DATA

        found = figures["summary"].get(f"lift, {observation}")
        if found is None:
            return None
        steps = next(row["steps"] for row in figures["rows"] if row["observation"] == observation)
        kinds = [kind for kind in DATA if any(kind in of_policy for of_policy in found.values())]

        def rates(*policies: str) -> str:
            measured = [policy for policy in policies if len(found.get(policy, ())) == len(kinds)]
            return "; ".join(
                f"`{policy}` {_percent([found[policy][kind]['success'] for kind in kinds])}"
                for policy in measured
            )

        data = " and ".join(", ".join(DATA[kind] for kind in kinds).rsplit(", ", 1))
        seen = {"state": "poses", "image": "two cameras"}[observation]
        what = f"lifts after {steps} steps on {data} data, from {seen}"
        return what, rates("act", "diffusion"), rates("hierarchical_diffusion", "lapo", "q_chunking")

    return cells


def _hierarchical(figures: Figures) -> Cells:
    def last(method: str) -> str:
        *_, rate = figures["success"]["lift_cameras"][method]["points"].values()
        return f"{100 * rate['rate']:.0f} %"

    *_, step = figures["success"]["lift_cameras"]["ours"]["points"]
    return (
        f"lifts from two cameras after {step} steps",
        f"`diffusion` {last('stock')}",
        f"`hierarchical_diffusion` {last('ours')}; its denoiser without the layers {last('flat')}",
    )


def _offline_rl(figures: Figures) -> Cells:
    rates = {method: one["success"] for method, one in figures["lift"]["summary"].items()}
    cloned = _marked(rates["filtered_bc"], rates["lapo"])
    return (
        "lifts from logs of mixed quality",
        f"`diffusion` {rates['diffusion']:.0f} %",
        f"`lapo` {rates['lapo']:.0f} %, `q_chunking` by `awr` {rates['qc_awr']:.0f} %, by `distill` "
        f"{rates['qc']:.0f} %; the networks of `lapo` cloning all {rates['bc']:.0f} %, cloning what "
        f"succeeded {cloned}",
    )


def _online_rl(figures: Figures) -> Cells:
    def both(task: str) -> Iterator[str]:
        [found] = figures[task]["summary"].values()
        yield from (f"{found[stage]['success']:.0f}" for stage in ("offline", "online"))

    said = [f"`{task}` {' to '.join(both(task))} %" for task in figures]
    return "what practice in the environment adds to `q_chunking`", "", "; ".join(said)


Cell = tuple[str, str, str, int]
"""Of `act_plus`: task, variant, mode, delay in ms."""


def _act_plus(what: str, alone: Cell, *ours: Cell) -> Callable[[Figures], Cells]:
    def cells(figures: Figures) -> Cells:
        def rate(cell: Cell) -> float:
            rows = [row for row in figures["rows"] if tuple(row[key] for key in _CELL) == cell]
            return 100 * float(rows[0]["success"])

        said = ", ".join(f"`{cell[1]}` {rate(cell):.0f} %" for cell in ours)
        return what, f"`act` {_marked(rate(alone), rate(ours[0]))}", said

    return cells


def _data_path(figures: Figures) -> Cells:
    costs = figures["sections"]["items"]["AV1"]
    alone, ours = (f"{costs[side]['cpu_ms']:.0f} ms" for side in ("stock pyav", "ours + columns in RAM"))
    return "CPU of a training sample with three cameras, as AV1", alone, ours


def _recording(figures: Figures) -> Cells:
    png, av1, ours = (f"{row['hz']:.1f} Hz" for row in figures["rows"].values())
    cameras = f"{figures['cameras']} cameras of {figures['size']}"
    what = f"`lerobot-record` of {cameras}, asked for {figures['fps']} Hz"
    return (
        what,
        f"{png}, {av1} when it encodes meanwhile",
        f"{ours}, by the flags that are found for the machine",
    )


def _convert(figures: Figures) -> Cells:
    import statistics

    size, rates = list(figures["frames_per_s"].items())[-1]
    loop, *_, ours = (f"{statistics.median(each):.0f} frames/s" for each in rates.values())
    return f"HDF5 logs with three cameras of {size}x{size} into a dataset", loop, ours


def _hub_push(figures: Figures) -> Cells:
    places = {
        one["side"]: f"{one['found']['mixture']} of {sum(one['found'].values())}"
        for one in figures["cut_off"]
        if one["over"] == "nothing"
    }
    what = "places where a push that is cut off leaves half a checkpoint in a new repository"
    return what, places["stock"], places["ours"]


def _startup(figures: Figures) -> Cells:
    alone, ours = (f"{figures[f'{side}_cpu_least_s']:.1f} s" for side in ("without", "with"))
    return "CPU of the start of `lerobot-train`, all plugins installed", alone, ours


_POLICY = "policies/lerobot_policy_"
_STOCK = "ACT (stock)"
_FLAGS = (
    _act_plus(
        "lifts of a cube on a belt, 300 ms late",
        ("belt", _STOCK, "sync", 300),
        ("belt", "act_rtc", "rtc", 300),
    ),
    _act_plus(
        "the instruction alone says which side",
        ("choose", _STOCK, "sync", 0),
        ("choose", "act_language", "sync", 0),
    ),
    _act_plus(
        "demonstrators went one of three ways",
        ("around", _STOCK, "sync", 0),
        ("around", "act_flow", "sync", 0),
    ),
    _act_plus(
        "demonstrators went one of two ways",
        ("either", _STOCK, "sync", 0),
        ("either", "act_flow", "sync", 0),
        ("either", "act_flow_draws", "sync", 0),
        ("either", "act_flow_draft", "sync", 0),
    ),
)
LINES = (
    Line("koch_bus", "robots/lerobot_robot_koch#what-it-is-worth", _koch_bus),
    Line("koch_policies", "docs/policies.md", _koch_policies("state")),
    Line("koch_policies", "docs/policies.md", _koch_policies("image")),
    Line("hierarchical", f"{_POLICY}hierarchical_diffusion#recipes", _hierarchical),
    *(Line("act_plus", f"{_POLICY}act_plus#what-each-flag-is-worth", cells) for cells in _FLAGS),
    Line("offline_rl", f"{_POLICY}lapo#results", _offline_rl),
    Line("online_rl", f"{_POLICY}q_chunking#results", _online_rl),
    Line("data_path", "robots/lerobot_camera_pyav#what-it-is-worth", _data_path),
    Line("recording", "docs/recording.md#figures", _recording),
    Line("convert", "docs/offline_data.md", _convert),
    Line("hub_push", "docs/hub.md", _hub_push),
    Line("startup", "docs/results/README.md", _startup),
)
"""In the order of the README."""
