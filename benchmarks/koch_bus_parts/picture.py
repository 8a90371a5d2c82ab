# SPDX-License-Identifier: Apache-2.0
"""The results as one picture: recordings that survived, bus work of a frame, true age of a value."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from koch_bus_parts import paced
from koch_bus_parts.contestants import CONTESTANTS
from koch_bus_parts.store import Store

COLOURS: Final = {"stock": "tab:red", "naive": "tab:orange", "ours": "tab:blue"}
CASE: Final = "drop 5 %"


def draw(store: Store, summary: dict[str, Any], raw: Path, path: Path) -> None:
    """Write the picture; parts that were not measured stay empty.

    Args:
        store (`Store`): The measurements.
        summary (`dict`): What `tables.summarise` made of them.
        raw (`Path`): Folder of the per-frame arrays.
        path (`Path`): PNG file.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (bars, work, age) = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    _draw_recordings(bars, summary["cli"])
    for contestant in CONTESTANTS:
        results = [result for _, result in store.results("paced", CASE, contestant)]
        if not results:
            continue
        arrays = paced.load(raw, results)
        label = f"{contestant}, {len(arrays['work_ms'])} frames"
        _draw_tail(work, arrays["work_ms"], COLOURS[contestant], label)
        _draw_tail(age, arrays["age_ms"].ravel(), COLOURS[contestant], contestant)
    work.axvline(1000 / paced.FPS, color="grey", ls=":", lw=1)
    work.set(xlabel="bus work of a frame, ms", title="5 % loss, paced at 30 fps")
    age.set(xlabel="true age of a value, ms", title="5 % loss, paced at 30 fps")
    for axes in (work, age):
        axes.set(ylabel="share above", yscale="log", ylim=(2e-5, 1), xlim=(0, 100))
        axes.grid(alpha=0.3)
    if work.lines[:-1]:
        work.legend(fontsize=7)
    figure.suptitle("Koch on a simulated bad bus", fontsize=11)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _draw_recordings(axes: Any, part: dict[str, Any]) -> None:
    """Share of `lerobot-record` runs that ended in order, by fault."""
    width = 0.8 / len(CONTESTANTS)
    for i, contestant in enumerate(CONTESTANTS):
        rows = [(n, row[contestant]) for n, row in enumerate(part.values()) if contestant in row]
        if not rows:
            continue
        kept = [100 * (1 - r["aborted"] / r["runs"]) for _, r in rows]
        # A bar of nothing is shown as a line, so that it is not taken for a missing one.
        heights = [max(share, 1) for share in kept]
        places = [n + (i - 1) * width for n, _ in rows]
        axes.barh(places, heights, width, color=COLOURS[contestant], label=contestant)
    axes.set_yticks(range(len(part)), list(part), fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="recordings completed, %", xlim=(0, 100), title="lerobot-record, 20 s")
    if part:
        axes.legend(fontsize=7, loc="lower right")


def _draw_tail(axes: Any, values: NDArray[np.float64], colour: str, label: str) -> None:
    """Share of values above x."""
    if values.size == 0:
        return
    ordered = np.sort(values)
    above = 1 - np.arange(1, len(ordered) + 1) / (len(ordered) + 1)
    keep = np.unique(np.geomspace(1, len(ordered), 2000).astype(int))  # a point for each pixel is enough
    axes.plot(ordered[-keep][::-1], above[-keep][::-1], color=colour, label=label, lw=1.5)
