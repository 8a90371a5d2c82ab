# SPDX-License-Identifier: Apache-2.0
"""Prints a written trace for people: its first packets as a table, and how many had which fate."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from lerobot_env_koch.bench.fate import ARRIVES
from lerobot_env_koch.bench.trace import Trace
from lerobot_ext.cli import look

_HEX_SHOWN: Final = 48
_ARROW: Final = {"in": "->", "out": "<-", "event": "--"}


def show(trace: Trace, max_rows: int, *, as_json: bool = False) -> None:
    """Print the first `max_rows` rows and a summary of all; with `as_json` as one JSON value."""
    counts = summary(trace.rows)
    if as_json:
        look.write_json({"header": trace.header, "rows": trace.rows[:max_rows], "summary": counts})
        return
    console = look.console()
    shown = trace.rows[:max_rows]
    title = f"{len(shown)} of {len(trace.rows)} packets; faults: {_faults(trace.header)}"
    columns = ("ms", "arm", "", "instruction", "id", "fate", "details", "bytes")
    console.print(look.table(title, columns, map(_cells, shown)))
    rows = [
        (arm, "instructions" if direction == "in" else "answers", fate, n, f"{share:.2%}")
        for (arm, direction), fates in _grouped(counts).items()
        for fate, n, share in fates
    ]
    console.print(look.table("Fates", ("arm", "packets", "fate", "number", "share"), rows))


def summary(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many packets of each arm and direction had which fate, the most frequent first."""
    counted = Counter(
        (row["arm"], row["dir"], row.get("fate", ARRIVES)) for row in rows if row.get("dir") in ("in", "out")
    )
    return [
        {"arm": arm, "dir": direction, "fate": fate, "n": n}
        for (arm, direction, fate), n in counted.most_common()
    ]


def _grouped(counts: list[dict[str, Any]]) -> dict[tuple[str, str], list[tuple[str, int, float]]]:
    groups: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for item in counts:
        groups.setdefault((item["arm"], item["dir"]), []).append((item["fate"], item["n"]))
    return {
        key: [(fate, n, n / sum(other for _, other in fates)) for fate, n in fates]
        for key, fates in sorted(groups.items())
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    arrow = _ARROW.get(row.get("dir", ""), "?")
    start = f"{row['t'] * 1000:.2f}"
    if row.get("dir") == "event":
        return start, row["arm"], arrow, row["what"], "", "", "", ""
    raw = row["hex"]
    return (
        start,
        row["arm"],
        arrow,
        row["inst"],
        str(row["id"]),
        row["fate"],
        _details(row.get("how", {})),
        raw if len(raw) <= _HEX_SHOWN else f"{raw[:_HEX_SHOWN]}… ({len(raw) // 2})",
    )


def _details(how: dict[str, Any]) -> str:
    texts = []
    if "late_ms" in how:
        texts.append(f"{how['late_ms']:.1f} ms late")
    if "flip" in how:
        texts.append(f"bit {how['flip'][1]} of byte {how['flip'][0]}")
    if "keep" in how:
        texts.append(f"cut to {how['keep']} bytes")
    if "noise" in how:
        texts.append(f"{len(how['noise']) // 2} bytes of noise")
    return ", ".join(texts)


def _faults(header: dict[str, Any]) -> str:
    return "; ".join(f"{arm} {plan}" for arm, plan in header.get("faults", {}).items()) or "unknown"
