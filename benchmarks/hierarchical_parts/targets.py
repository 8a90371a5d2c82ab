# SPDX-License-Identifier: Apache-2.0
"""What the policy was to reach, and what it does reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hierarchical_parts.settings import OURS

Found = dict[str, Any]
Target = tuple[str, str, bool]
SHIPPED = "stock_default"
AUROC, HITS, FASTER = 0.9, 0.95, 10.0


def targets(found: Found) -> Iterator[Target]:
    """Each target that something was measured for: what, measured, reached."""
    yield from _better(found["success"])
    yield from _layers(found["nulling"])
    for task, rows in found["detection"].items():
        worst = min(rows["auroc"].values(), key=lambda area: area["value"])
        said = f"{worst['value']:.3f} for the worst kind"
        yield f"{task}: AUROC of injected violations at least {AUROC:g}", said, worst["value"] >= AUROC
    for task, sides in found["filter"].items():
        if "on" in sides:
            count = sides["on"]["limit"] + sides["on"]["velocity"]
            said = f"{count} of {sides['on']['actions']} actions"
            yield f"{task}: no limit or velocity violated under noise with the filter on", said, count == 0
    yield from _budgets(found["budget"])
    yield from _speed(found["speed"], found["success"])


def _better(tasks: Found) -> Iterator[Target]:
    """Where ours was compared at the end of the trainings."""
    for task, methods in tasks.items():
        for name, method in methods.items():
            points = method["points"]
            by = points[max(points, key=int)].get("ours_better_by")
            if name not in (OURS, "curriculum") and by is not None:
                low, high = 100 * by["low"], 100 * by["high"]
                said = f"{100 * by['value']:+.0f} points ({low:+.0f} to {high:+.0f})"
                yield f"{task}: more success than {name} at equal steps", said, by["low"] > 0


def _layers(tasks: Found) -> Iterator[Target]:
    for task, rows in tasks.items():
        for layer in rows["layers"]:
            rise = rows["rise"][f"without {layer}"]
            low, high = 100 * rise["low"], 100 * rise["high"]
            said = f"{100 * rise['value']:+.1f} % ({low:+.1f} to {high:+.1f})"
            yield f"{task}: nulling {layer} worsens the held-out L_diff", said, rise["low"] > 0


def _budgets(tasks: Found) -> Iterator[Target]:
    for task, rows in tasks.items():
        known = [rows[ms]["success"] for ms in sorted(rows, key=float) if "success" in rows[ms]]
        if known:
            said = ", ".join(f"{100 * point['rate']:.0f}" for point in known) + " %"
            yield f"{task}: success against budget is monotone within its intervals", said, monotone(known)
        hits = {ms: rows[ms]["deadline"]["hit"] for ms in sorted(rows, key=float) if "deadline" in rows[ms]}
        if hits:
            said = ", ".join(f"{100 * hit:.1f} % in {ms} ms" for ms, hit in hits.items())
            yield f"{task}: at least {100 * HITS:.0f} % of deadlines kept", said, min(hits.values()) >= HITS


def monotone(points: list[Found]) -> bool:
    """Whether no later rate lies so low that its interval misses an earlier one's rate."""
    return all(
        later["high"] >= earlier["rate"] for place, later in enumerate(points) for earlier in points[:place]
    )


def _speed(cases: Found, success: Found) -> Iterator[Target]:
    for case, rows in cases.items():
        if SHIPPED not in rows["ms"]:
            continue
        factor = float(np.median(rows["ms"][SHIPPED]) / np.median(rows["ms"][OURS]))
        methods = success.get(rows["task"], {})
        rates = []
        for name in (OURS, "stock"):
            points = methods.get(name, {}).get("points", {})
            if points:
                rates.append(f"{name} {100 * points[max(points, key=int)]['rate']:.0f} % success")
        said = f"{factor:.0f}x" + (f" ({', '.join(rates)})" if rates else "")
        yield f"{case}: a chunk at least {FASTER:g}x faster than stock as it ships", said, factor >= FASTER


def table(found: Found) -> str:
    """The targets as Markdown; empty if nothing was measured."""
    rows = [f"| {what} | {said} | {'yes' if reached else 'no'} |" for what, said, reached in targets(found)]
    return "\n".join(["| wanted | measured | reached |", "|---|---|---|", *rows]) if rows else ""
