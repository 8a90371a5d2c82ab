# SPDX-License-Identifier: Apache-2.0
"""What was found, as data, as Markdown and as one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hierarchical_parts import budget, nulling, safety, targets
from hierarchical_parts.methods import METHODS
from hierarchical_parts.settings import OURS, TASKS
from hierarchical_parts.store import Store
from lerobot_ext.bootstrap import difference
from lerobot_ext.intervals import wilson_interval

BEGIN, END = "<!-- benchmarks/hierarchical.py -->", "<!-- /benchmarks/hierarchical.py -->"
Found = dict[str, Any]


# ---- collecting


def collect(store: Store) -> Found:
    """Everything that is in the store, by part and task, with its intervals."""
    found: Found = {
        "success": _success(store),
        "nulling": _nulling(store),
        "detection": _detection(store),
        "filter": _filter(store),
        "budget": _budget(store),
        "speed": {f"{r['task']}, {r['threads']} threads": r for _, _, r in store.all("speed")},
    }
    sources = {result["source"] for kind in ("train", "success") for _, _, result in store.all(kind)}
    return found | {"sources": sorted(sources)}


def _rows(store: Store, kind: str) -> dict[str, list[Found]]:
    """Results by task, in order of their seeds."""
    rows: dict[str, list[Found]] = {}
    for _, _, result in store.all(kind):
        rows.setdefault(result["task"], []).append(result)
    for found in rows.values():
        found.sort(key=lambda result: result["seed"])
    return rows


def _success(store: Store) -> Found:
    tasks: Found = {}
    for task, rows in _rows(store, "success").items():
        each: Found = {}
        for row in rows:
            name = row["method"] + (f".{row['variant']}" if row["variant"] else "")
            points = each.setdefault(name, {"parameters": row["parameters"], "points": {}})["points"]
            points.setdefault(str(row["step"]), []).append(row)
        for method in each.values():
            method["points"] = {
                step: _rate(points)
                for step, points in sorted(method["points"].items(), key=lambda p: int(p[0]))
            }
        for method in (name for name in each if name != OURS):
            for step, point in each[method]["points"].items():
                _compare(point, each.get(OURS, {"points": {}})["points"].get(step))
        tasks[task] = each
    for methods in tasks.values():
        for method in methods.values():
            for point in method["points"].values():
                del point["rows"]
    return tasks


def _rate(rows: list[Found]) -> Found:
    """Success of several trainings; the interval is Wilson's over all episodes."""
    every = [success for row in rows for success in row["successes"]]
    low, high = wilson_interval(sum(every), len(every))
    return {
        "rate": sum(every) / len(every),
        "low": low,
        "high": high,
        "episodes": len(every),
        "each": [sum(row["successes"]) / len(row["successes"]) for row in rows],
        "seeds": [row["seed"] for row in rows],
        "rows": rows,
    }


def _compare(theirs: Found, ours: Found | None) -> None:
    """Note by how much ours is better, over the episodes and seeds that both have."""
    if ours is None:
        return
    by_seed = {row["seed"]: row["successes"] for row in ours["rows"]}
    pairs = [(by_seed[row["seed"]], row["successes"]) for row in theirs["rows"] if row["seed"] in by_seed]
    if pairs and len({len(row) for pair in pairs for row in pair}) == 1:
        mine, other = (np.array([pair[side] for pair in pairs], dtype=np.float64) for side in (0, 1))
        theirs["ours_better_by"] = difference(mine, other).as_dict()


def _nulling(store: Store) -> Found:
    tasks = {}
    for task, found in _rows(store, "nulling").items():
        if len({tuple(one["frames"]) for one in found}) == 1:
            tasks[task] = {
                "layers": found[0]["layers"],
                "loss": nulling.loss_of(found).as_dict(),
                "rise": {name: rise.as_dict() for name, rise in nulling.rises(found).items()},
                "episodes": len(found[0]["frames"]),
            }
    return tasks


def _detection(store: Store) -> Found:
    return {
        task: {
            "auroc": {
                kind: area.as_dict() for kind, area in safety.areas([one["scores"] for one in rows]).items()
            },
            "flagged": [safety.flagged(one["scores"]) for one in rows],
        }
        for task, rows in _rows(store, "detection").items()
    }


def _filter(store: Store) -> Found:
    tasks: Found = {}
    for task, rows in _rows(store, "filter").items():
        for side in ("on", "off"):
            some = [row for row in rows if row["filter"] == side]
            if some:
                totals = {key: sum(row[key] for row in some) for key in ("actions", "limit", "velocity")}
                rate = {key: value for key, value in _rate(some).items() if key != "rows"}
                tasks.setdefault(task, {})[side] = totals | {"success": rate}
    return tasks


def _budget(store: Store) -> Found:
    tasks: Found = {}
    for task, rows in _rows(store, "quality").items():
        for ms in budget.BUDGETS_MS:
            some = [row for row in rows if ms in row["budgets_ms"]]
            if some:
                rate = {key: value for key, value in _rate(some).items() if key != "rows"}
                chosen = sorted({(row["layers"], row["steps"]) for row in some})
                tasks.setdefault(task, {})[f"{ms:g}"] = {"success": rate, "chosen": chosen}
    for task, rows in _rows(store, "deadlines").items():
        for ms in budget.BUDGETS_MS:
            plans = [row["plans"][f"{ms:g}"] for row in rows]
            took = np.concatenate([np.asarray(one["ms"]) for one in plans])
            tasks.setdefault(task, {}).setdefault(f"{ms:g}", {})["deadline"] = {
                "p50_ms": float(np.percentile(took, 50)),
                "p95_ms": float(np.percentile(took, 95)),
                "hit": float(np.mean(took <= ms)),
                "plans": len(took),
                "load": max(row["plans"]["load"] for row in rows),
            }
    return tasks


# ---- Markdown


def markdown(found: Found) -> str:
    """All tables."""
    parts = [
        *_success_tables(found["success"]),
        *_nulling_table(found["nulling"]),
        *_safety_tables(found["detection"], found["filter"]),
        *_budget_table(found["budget"]),
        *_speed_table(found["speed"], found["success"]),
    ]
    wanted = targets.table(found)
    parts += [wanted] if wanted else []
    if len(found["sources"]) > 1:
        parts.append(
            f"These figures come from {len(found['sources'])} states of the policy's code "
            f"({', '.join(found['sources'])})."
        )
    return "\n\n".join(parts) + "\n"


def title(method: str) -> str:
    """A method's name in tables, with its variant."""
    name, _, variant = method.partition(".")
    said = METHODS[name].title
    return f"{said}, 10 DDIM steps" if variant else f"{said}, 100 DDPM steps" if "stock" in name else said


HOW = """\
All policies train on the same demonstrations with the same batches and steps, and meet the same
episodes, whose seeds no demonstration has. Rates have Wilson's interval over all episodes of all
trainings; differences, losses and AUROCs one of a bootstrap over trainings and episodes. Earlier steps
are checkpoints of the same training, within its learning-rate schedule. Stock diffusion has ours'
learning rate (its own hardly moves in so few steps), no averaged weights, and at earlier steps 10 DDIM
steps only."""


def _success_tables(tasks: Found) -> list[str]:
    tables = [HOW] if tasks else []
    for task, methods in tasks.items():
        steps = sorted({int(step) for method in methods.values() for step in method["points"]})
        episodes = sorted({p["episodes"] for m in methods.values() for p in m["points"].values()})
        head = f"**{task}**: success in % after so many steps ({_range(episodes)} episodes; 95 % interval)"
        lines = [head, "", f"| policy | parameters | {' | '.join(map(str, steps))} | ours is better by |"]
        lines.append("|---" * (len(steps) + 3) + "|")
        for name, method in sorted(methods.items(), key=lambda item: (item[0] != OURS, item[0])):
            cells = [_rate_cell(method["points"].get(str(step))) for step in steps]
            last = method["points"][max(method["points"], key=int)]
            lines.append(
                f"| {title(name)} | {method['parameters'] / 1e6:.2f} M | {' | '.join(cells)} "
                f"| {_points(last.get('ours_better_by'))} |"
            )
        if task in TASKS:
            lines += ["", f"Why these steps: {TASKS[task].why}."]
        tables.append("\n".join(lines))
    return tables


def _nulling_table(tasks: Found) -> list[str]:
    tables = []
    for task, found in tasks.items():
        lines = [
            f"**{task}**: rise of the held-out diffusion loss ({_number(found['loss']['value'])}; "
            f"{found['episodes']} episodes, {len(found['loss']['each'])} trainings, paired noise)",
            "",
            "| layers | ΔL_diff, % (95 % interval) | each training | worse |",
            "|---|---|---|---|",
        ]
        for name, rise in found["rise"].items():
            each = ", ".join(f"{100 * value:+.1f}" for value in rise["each"])
            verdict = "yes" if rise["low"] > 0 else "no"
            lines.append(f"| {name} | {_percent(rise)} | {each} | {verdict} |")
        tables.append("\n".join(lines))
    return tables


def _safety_tables(detection: Found, filtered: Found) -> list[str]:
    tables = []
    if detection:
        lines = [
            "| injected violations | AUROC (95 % interval) | clean frames flagged, injected found, at 1 % |"
        ]
        lines.append("|---|---|---|")
        for task, found in detection.items():
            for kind, area in found["auroc"].items():
                shares = [row for row in found["flagged"] if kind in row]
                told = (
                    ""
                    if not shares
                    else (
                        f"{100 * np.mean([row['clean'] for row in shares]):.1f} %, "
                        f"{100 * np.mean([row[kind] for row in shares]):.0f} %"
                    )
                )
                cell = f"{area['value']:.3f} ({area['low']:.3f} to {area['high']:.3f})"
                lines.append(f"| {task}: {kind} | {cell} | {told} |")
        tables.append("\n".join(lines))
    if filtered:
        lines = [
            f"| noise of {safety.NOISE:g} on planned actions (deviation; their range is 2) | actions "
            "| beyond the limits | too fast | success, % |",
            "|---|---|---|---|---|",
        ]
        for task, sides in filtered.items():
            lines += [
                f"| {task}, filter {side} | {row['actions']} | {row['limit']} | {row['velocity']} "
                f"| {_rate_cell(row['success'])} |"
                for side, row in sides.items()
            ]
        tables.append("\n".join(lines))
    return tables


def _budget_table(tasks: Found) -> list[str]:
    tables = []
    for task, rows in tasks.items():
        lines = [
            f"**{task}**: success and deadlines by `latency_budget_ms`",
            "",
            "| budget, ms | layers, steps | success, % | ms of a plan, p50 / p95 | in time | load |",
            "|---|---|---|---|---|---|",
        ]
        for ms in sorted(rows, key=float):
            row = rows[ms]
            chosen = " or ".join(f"{layers}, {steps}" for layers, steps in row.get("chosen", []))
            kept = row.get("deadline")
            cells = ["", "", ""]
            if kept:
                hits = f"{100 * kept['hit']:.1f} % of {kept['plans']}"
                cells = [f"{kept['p50_ms']:.1f} / {kept['p95_ms']:.1f}", hits, f"{kept['load']:.1f}"]
            lines.append(f"| {ms} | {chosen} | {_rate_cell(row.get('success'))} | {' | '.join(cells)} |")
        tables.append("\n".join(lines))
    return tables


def _speed_table(cases: Found, success: Found) -> list[str]:
    if not cases:
        return []
    lines = [
        "| planning a chunk, one robot | ms a chunk, median (p95) | ms an executed action | ours is faster "
        "| success, % |",
        "|---|---|---|---|---|",
    ]
    for case, found in cases.items():
        mine = float(np.median(found["ms"][OURS]))
        for name, values in found["ms"].items():
            ms = float(np.median(values))
            points = success.get(found["task"], {}).get(name, {}).get("points", {})
            last = points.get(max(points, key=int)) if points else None
            lines.append(
                f"| {case}: {title(name)} | {ms:.1f} ({np.percentile(values, 95):.1f}) "
                f"| {ms / found['executed'][name]:.2f} | {'' if name == OURS else f'{ms / mine:.1f}x'} "
                f"| {_rate_cell(last)} |"
            )
        lines.append("| | | | | |")
    return ["\n".join(lines[:-1])]


def summary(found: Found) -> str:
    """One line."""
    said = []
    for task, methods in found["success"].items():
        rates = []
        for name in (OURS, "flat", "stock"):
            if name in methods:
                points = methods[name]["points"]
                rates.append(f"{name} {100 * points[max(points, key=int)]['rate']:.0f}")
        said.append(f"{task} {', '.join(rates)} %")
    reached = [fine for *_, fine in targets.targets(found)]
    said += [f"{sum(reached)} of {len(reached)} targets reached"] if reached else []
    return f"hierarchical: {'; '.join(said) or 'nothing measured'}"


def write_readme(text: str, readme: Path) -> None:
    """Replace what stands between the markers.

    Raises:
        SystemExit: The file has not both of them.
    """
    content = readme.read_text(encoding="utf-8")
    before, begin, rest = content.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{readme} has no block between {BEGIN} and {END}; put both lines where it belongs.")
    readme.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


def _rate_cell(point: Found | None) -> str:
    if point is None:
        return ""
    return f"{100 * point['rate']:.0f} ({100 * point['low']:.0f} to {100 * point['high']:.0f})"


def _points(interval: Found | None) -> str:
    if interval is None:
        return ""
    low, high = 100 * interval["low"], 100 * interval["high"]
    return f"{100 * interval['value']:+.0f} ({low:+.0f} to {high:+.0f})"


def _percent(interval: Found) -> str:
    low, high = 100 * interval["low"], 100 * interval["high"]
    return f"{100 * interval['value']:+.1f} ({low:+.1f} to {high:+.1f})"


def _range(counts: list[int]) -> str:
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}" if counts else "no"


def _number(value: float) -> str:
    return f"{value:.3g}"
