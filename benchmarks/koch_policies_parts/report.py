# SPDX-License-Identifier: Apache-2.0
"""Success of every policy on every kind of data, as a table, a picture and a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rl_parts.tables import rate

from koch_policies_parts.cells import DATA
from koch_policies_parts.policies import IMAGE, POLICIES, STATE, left_out

Row = dict[str, Any]
Looks = {STATE: "joints and poses", IMAGE: "joints and two cameras"}


def groups(rows: Sequence[Row]) -> dict[tuple[str, str], dict[str, dict[str, Row]]]:
    """By task and observation, by policy, by data: the rate, and the seconds of the shortest training.

    All trainings of a policy do the same work; the shortest was disturbed least by other programs.
    """
    made: dict[tuple[str, str], dict[str, dict[str, Row]]] = {}
    for key in dict.fromkeys((row["task"], row["observation"]) for row in rows):
        mine = [row for row in rows if (row["task"], row["observation"]) == key]
        of_policy = made[key] = {}
        for policy in (name for name in POLICIES if any(row["policy"] == name for row in mine)):
            of_policy[policy] = {}
            for data in DATA:
                some = [row for row in mine if row["policy"] == policy and row["data"] == data]
                if some:
                    some.sort(key=lambda row: row["seed"])
                    seconds = min(row["train_s"] for row in some)
                    of_policy[policy][data] = rate(some) | {"train_s": seconds}
    return made


def summary(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, Row]]]:
    """The same for a file, which the pages' figures are compared with."""
    return {f"{task}, {observation}": found for (task, observation), found in groups(rows).items()}


def tables(rows: Sequence[Row]) -> str:
    """All tables, with a sentence above each."""
    parts = []
    for (task, observation), found in groups(rows).items():
        mine = [row for row in rows if (row["task"], row["observation"]) == (task, observation)]
        one, kinds = mine[0], [kind for kind in DATA if any(row["data"] == kind for row in mine)]
        seeds = len({row["seed"] for row in mine})
        about = (
            f"{task}, {Looks[observation]}: {one['demos']} episodes of each kind of data, {one['steps']} "
            f"steps of {one['batch']} frames, {seeds} training {'seed' if seeds == 1 else 'seeds'}, "
            f"{one['episodes']} episodes each; success with its 95 % interval."
        )
        head = ["policy", "parameters, M", *(DATA[kind] for kind in kinds), "shortest training, s"]
        lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        for policy, by_data in found.items():
            size = next(row["parameters"] for row in mine if row["policy"] == policy) / 1e6
            seconds = min(cell["train_s"] for cell in by_data.values())
            cells = [_success(by_data.get(kind)) for kind in kinds]
            lines.append(f"| {POLICIES[policy].title} | {size:.1f} | {' | '.join(cells)} | {seconds:.0f} |")
        parts.append("\n".join([about, *left_out(observation), "", *lines]))
    return "\n\n".join(parts)


def last_line(figures: dict[str, Any]) -> str:
    """The best policy on each kind of data."""
    said = []
    for (task, observation), found in groups(figures["rows"]).items():
        for kind in DATA:
            of_kind = {policy: by_data[kind] for policy, by_data in found.items() if kind in by_data}
            if of_kind:
                best = max(of_kind, key=lambda policy: of_kind[policy]["success"])
                said.append(
                    f"{task}, {observation}, {DATA[kind]}: {best} {of_kind[best]['success']:.0f} % of "
                    f"{len(of_kind)} policies"
                )
    return "; ".join(said)


def picture(rows: Sequence[Row], path: Path) -> None:
    """Bars of success with intervals, a panel a task and observation, a colour a kind of data."""
    from matplotlib.figure import Figure

    made = groups(rows)
    longest = max(len(found) for found in made.values())
    figure = Figure(figsize=(6.5 * len(made), 0.55 * longest + 1.4), layout="constrained")
    for axis, ((task, observation), found) in zip(
        figure.subplots(1, len(made), squeeze=False)[0], made.items(), strict=True
    ):
        for number, kind in enumerate(DATA):
            places = [y for y, by_data in enumerate(found.values()) if kind in by_data]
            of_kind = [by_data[kind] for by_data in found.values() if kind in by_data]
            success = [one["success"] for one in of_kind]
            errors = [
                [one["success"] - one["low"] for one in of_kind],
                [one["high"] - one["success"] for one in of_kind],
            ]
            at = [y + 0.26 * (number - 1) for y in places]
            axis.barh(at, success, height=0.25, xerr=errors, capsize=2, label=DATA[kind])
        axis.set_yticks(range(len(found)), [POLICIES[name].title.replace("`", "") for name in found])
        axis.invert_yaxis()
        axis.set(xlim=(0, 100), xlabel="success, %", title=f"simulated Koch, {task}, {Looks[observation]}")
    bars, names = axis.get_legend_handles_labels()
    figure.legend(bars, [f"{name} data" for name in names], loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=110)


def _success(row: Row | None) -> str:
    return "" if row is None else f"{row['success']:.0f} % ({row['low']:.0f} to {row['high']:.0f})"
