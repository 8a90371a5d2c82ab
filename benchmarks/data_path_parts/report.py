# SPDX-License-Identifier: Apache-2.0
"""The measured figures as tables, as a picture, and against what they were to be."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_path_parts.contestants import FLOOR, OURS, OURS_COLUMNS, STOCK, TORCHCODEC, Cost
from data_path_parts.training import OURS as OUR_PATH
from data_path_parts.training import STOCK as STOCK_PATH

Sections = dict[str, dict[str, dict[str, Cost]]]
COLUMNS = {
    "cpu_ms": "CPU ms",
    "wall_ms": "wall ms",
    "samples_per_s": "samples/s",
    "data_ms": "waiting for data, ms",
    "update_ms": "computing, ms",
    "step_ms": "step, ms",
    "least_ms": "least CPU ms",
    "imports_ms": "its imports, ms",
}
TITLES = {
    "decode": "random frame, uint8",
    "items": "dataset[i], 3 cameras, 100 actions",
    "loader": "DataLoader, batch 8, a sample",
    "windows": "item without pictures",
    "pool": "memory pool",
    "step": "training step of the quickstart",
    "startup": "lerobot-train --help",
}


def tables(sections: Sections) -> str:
    """A Markdown table a section: one line a case and contestant, with the ratio to the first one's."""
    return "\n".join(_table(TITLES[name], cases) for name, cases in sections.items() if cases)


def _table(title: str, cases: dict[str, dict[str, Cost]]) -> str:
    keys = [key for key in COLUMNS if any(key in cost for costs in cases.values() for cost in costs.values())]
    head = [f"| {title} | by | {' | '.join(COLUMNS[key] for key in keys)} |", "|---" * (len(keys) + 2) + "|"]
    lines = []
    for case, costs in cases.items():
        first = next(iter(costs.values()))
        for name, cost in costs.items():
            missed = f" (misses {cost['misses']:.0f})" if cost.get("misses") else ""
            cells = [_cell(key, cost, first) for key in keys]
            lines.append(f"| {case} | {name}{missed} | {' | '.join(cells)} |")
    return "\n".join([*head, *lines]) + "\n"


def _cell(key: str, cost: Cost, first: Cost) -> str:
    if key not in cost:
        return ""
    value = f"{cost[key]:.1f}" if cost[key] >= 1 else f"{cost[key]:.2g}"
    if cost is first or not first.get(key) or not cost[key]:
        return value
    better = cost[key] / first[key] if key == "samples_per_s" else first[key] / cost[key]
    return f"{value} ({better:.1f}x)"


def gain(costs: dict[str, Cost], ours: str, theirs: str, key: str = "cpu_ms") -> float | None:
    """How many times less ours costs; `None` where one of the two took no part."""
    if key not in costs.get(ours, {}) or key not in costs.get(theirs, {}) or not costs[ours][key]:
        return None
    return costs[theirs][key] / costs[ours][key]


def targets(sections: Sections) -> list[tuple[str, float, float, bool]]:
    """Name, what it was to be at least, what it is, and whether that is reached."""
    return [(name, least, got, got >= least) for name, least, got in _targets(sections) if got is not None]


def _targets(sections: Sections) -> Iterator[tuple[str, float, float | None]]:
    for case, costs in sections.get("decode", {}).items():
        yield f"random frame, {case}: CPU against stock pyav", 3.0, gain(costs, OURS, STOCK)
        yield f"random frame, {case}: CPU against torchcodec", 1.2, gain(costs, OURS, TORCHCODEC)
    for case, costs in sections.get("items", {}).items():
        yield f"dataset[i], {case}: CPU against stock pyav", 3.0, gain(costs, OURS_COLUMNS, STOCK)
        yield f"dataset[i], {case}: wall", 2.0, gain(costs, OURS_COLUMNS, STOCK, "wall_ms")
    for case, costs in sections.get("loader", {}).items():
        yield f"DataLoader, {case}: CPU against stock pyav", 3.0, gain(costs, OURS_COLUMNS, STOCK)
        yield f"DataLoader, {case}: wall", 3.0, gain(costs, OURS_COLUMNS, STOCK, "wall_ms")
    for case, costs in sections.get("windows", {}).items():
        if case == "100 actions":
            yield "window of 100 actions: wall", 50.0, gain(costs, "columns in RAM", STOCK, "wall_ms")
    for case, costs in sections.get("pool", {}).items():
        rates = [costs.get(name, {}).get("samples_per_s") for name in ("pool 480x640", STOCK)]
        yield f"warm pool, {case}: samples/s", 20.0, rates[0] / rates[1] if all(rates) else None
    for case, costs in sections.get("step", {}).items():
        yield f"training step, {case}", 1.0, gain(costs, OUR_PATH, STOCK_PATH, "step_ms")
    for costs in sections.get("startup", {}).values():
        yield "start-up budget of 50 ms over the plugin's imports", 1.0, 50 / costs["with it"]["imports_ms"]


def target_table(sections: Sections) -> str:
    """The targets as Markdown."""
    lines = ["| wanted | at least | measured | |", "|---|---|---|---|"]
    for name, least, got, reached in targets(sections):
        lines.append(f"| {name} | {least:g}x | {got:.2f}x | {'reached' if reached else 'missed'} |")
    return "\n".join(lines) + "\n"


def summary(sections: Sections) -> str:
    """One line."""
    found = targets(sections)
    said = []
    frames = [got for name, _, got, _ in found if name.startswith("random frame") and "stock" in name]
    if frames:
        said.append(
            f"a random frame costs {min(frames):.1f} to {max(frames):.1f} times less CPU than stock's PyAV"
        )
    for costs in list(sections.get("items", {}).values())[:1]:
        cpu, wall = (gain(costs, OURS_COLUMNS, STOCK, key) or 0 for key in ("cpu_ms", "wall_ms"))
        said.append(f"an item of 3 cameras {cpu:.1f} times less CPU and {wall:.1f} times less time")
    reached = sum(fine for *_, fine in found)
    return f"data_path: {', '.join([*said, f'{reached} of {len(found)} targets reached'])}"


def readme(sections: Sections) -> str:
    """The table of the package's README."""
    lines = [
        "| CPU ms | stock PyAV | torchcodec | this | libav alone | this against stock: CPU, wall "
        "| against torchcodec: CPU |",
        "|---" * 7 + "|",
    ]
    groups: dict[str, list[tuple[str, dict[str, Cost]]]] = {}
    for case, costs in sections.get("decode", {}).items():
        codec, _, gop = case.partition(" g=")
        groups.setdefault(codec, []).append((gop, costs))
    for codec, rows in groups.items():
        gops, columns = " / ".join(gop for gop, _ in rows), [costs for _, costs in rows]
        lines.append(_readme_row(f"random frame, {codec}, keyframe interval {gops}", columns, OURS))
    for section, title in (("items", "`dataset[i]`, 3 cameras, 100 actions"), ("loader", "DataLoader")):
        for case, costs in sections.get(section, {}).items():
            lines.append(_readme_row(f"{title}, {case}", [costs], OURS_COLUMNS))
    return "\n".join(lines) + "\n"


def _readme_row(title: str, cases: list[dict[str, Cost]], ours: str) -> str:
    def together(texts: list[str]) -> str:
        return " / ".join(texts) if set(texts) != {"-"} else "-"

    def cost(name: str) -> str:
        return together([f"{costs[name]['cpu_ms']:.1f}" if name in costs else "-" for costs in cases])

    def times(theirs: str, *keys: str) -> str:
        rows = [[gain(costs, ours, theirs, key) for key in keys] for costs in cases]
        return together([", ".join(f"{got:.1f}x" if got else "-" for got in row) for row in rows])

    cells = [cost(STOCK), cost(TORCHCODEC), cost(ours), cost(FLOOR)]
    cells += [times(STOCK, "cpu_ms", "wall_ms"), times(TORCHCODEC, "cpu_ms")]
    return f"| {title} | {' | '.join(cells)} |"


def draw(sections: Sections, path: Path) -> None:
    """CPU milliseconds of frames, items and samples of a loader, bars side by side."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    parts: list[tuple[str, dict[str, Any]]] = [
        (name, sections[name]) for name in ("decode", "items", "loader") if sections.get(name)
    ]
    if not parts:
        return
    widths = [len(cases) + 1 for _, cases in parts]
    figure = Figure(figsize=(1.1 * sum(widths) + 2, 4), layout="constrained")
    axes = figure.subplots(1, len(parts), width_ratios=widths, squeeze=False)[0]
    names = (STOCK, TORCHCODEC, OURS, OURS_COLUMNS, FLOOR)
    for axis, (section, cases) in zip(axes, parts, strict=True):
        for place, name in enumerate(names):
            bars = [(i, costs[name]["cpu_ms"]) for i, costs in enumerate(cases.values()) if name in costs]
            axis.bar([i + 0.17 * place for i, _ in bars], [ms for _, ms in bars], 0.17, color=f"C{place}")
        axis.set_xticks([i + 0.34 for i in range(len(cases))], [c.replace(" ", "\n") for c in cases], size=8)
        axis.set_title(TITLES[section], size=9)
    axes[0].set_ylabel("CPU ms")
    patches = [Patch(color=f"C{place}") for place in range(len(names))]
    figure.legend(patches, names, loc="outside lower center", ncols=len(names))
    figure.savefig(path, dpi=120)
