# SPDX-License-Identifier: Apache-2.0
"""The results as Markdown tables, each with its conditions above it."""

from pathlib import Path
from statistics import median
from typing import Any, Final

from koch_bus_parts import cli, connect, paced, reads
from koch_bus_parts.contestants import CONTESTANTS
from koch_bus_parts.jobs import VOID_MS
from koch_bus_parts.store import Store
from koch_bus_parts.virtual import WIRE_MODEL

PROMISES: Final = {"work_p99": 20.0, "work_p99.9": 33.0, "age_p99": 45.0, "age_max": 200.0}
"""Milliseconds, at 5 % loss, at 30 frames a second."""


def summarise(store: Store, raw: Path) -> dict[str, Any]:
    """All that was measured, by part, case and contestant.

    Args:
        store (`Store`): The measurements.
        raw (`Path`): Folder of the per-frame arrays.
    """

    def each(part: str, figures: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for case in store.cases(part):
            for contestant in CONTESTANTS:
                results = [result for _, result in store.results(part, case, contestant)]
                if results:
                    found.setdefault(case, {})[contestant] = figures(results)
        return found

    def frames(results: list[dict[str, Any]]) -> dict[str, Any]:
        return paced.summarise(results, paced.load(raw, results))

    return {
        "cli": each("cli", cli.summarise),
        "paced": each("paced", frames),
        "stall": each("stall", paced.summarise_stalls),
        "connect": each("connect", connect.summarise_connects),
        "calibrate": each("calibrate", connect.summarise_calibrations),
        "reads": {case: store.results("reads", case, "both")[0][1] for case in store.cases("reads")},
        "timer": each("timer", frames),
    }


def render(summary: dict[str, Any]) -> str:
    """Markdown of all parts that were measured."""
    parts = {
        "cli": _cli,
        "paced": _paced,
        "stall": _stall,
        "connect": _connect,
        "calibrate": _calibrate,
        "reads": _reads,
        "timer": _timer,
    }
    texts = [draw(summary[name]) for name, draw in parts.items() if summary[name]]
    return "\n".join([f"Simulated bus: {WIRE_MODEL}.\n", *texts])


def verdict(summary: dict[str, Any]) -> str:
    """One line: which promises our driver kept in this run."""
    rows = [row["ours"] for row in summary["cli"].values() if "ours" in row]
    found = (
        [f"{sum(r['aborted'] for r in rows)} of {sum(r['runs'] for r in rows)} recordings aborted"]
        if rows
        else []
    )
    ours = summary["paced"].get("drop 5 %", {}).get("ours")
    if ours and ours["work_ms"]:
        kept = all(value <= PROMISES[name] for name, value in promised(ours).items()) and not ours["aborts"]
        found.append(
            f"{ours['aborts']} aborts in {ours['frames']} paced frames at 5 % loss, bus work p99 "
            f"{ours['work_ms']['p99']:.1f} ms, oldest value {ours['age_ms']['max']:.0f} ms; promises "
            f"{'kept' if kept else 'NOT kept'} outside {ours['frames_hit_by_host']} frames the host disturbed"
        )
    return "ours: " + ("; ".join(found) or "not measured")


def promised(figures: dict[str, Any]) -> dict[str, float]:
    """What was measured of each of `PROMISES`: outside disturbed frames, but the oldest value of all."""
    work, age = figures["work_ms_undisturbed"], figures["age_ms_undisturbed"]
    if work is None:  # the host disturbed them all
        return dict.fromkeys(PROMISES, float("inf"))
    oldest = figures["age_ms"]["max"]
    return {"work_p99": work["p99"], "work_p99.9": work["p99.9"], "age_p99": age["p99"], "age_max": oldest}


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def number(value: float | None, digits: int = 1) -> str:
    """`value`, or a dash where nothing was measured."""
    return "-" if value is None else f"{value:.{digits}f}"


def _figures(values: dict[str, float] | None, names: tuple[str, ...]) -> str:
    return " / ".join(number(values[name]) for name in names) if values else "-"


def _cli(part: dict[str, Any]) -> str:
    rows = []
    for case, row in part.items():
        for contestant, r in row.items():
            lived = r["frames_until_abort"]
            rows.append(
                [
                    case,
                    contestant,
                    f"{r['aborted']} of {r['runs']}",
                    f"{median(lived):.0f} ({min(lived)}-{max(lived)})" if lived else "-",
                    f"{r['saved_episodes']} of {r['runs']}",
                    number(r["slow_percent"]),
                    ", ".join(map(str, r["errors"])) or "-",
                    str(r["set_aside"]),
                ]
            )
    header = ["fault", "driver", "aborted", "frames until abort, median (range)", "episodes saved"]
    header += ["frames called slow, %", "error", "runs set aside"]
    title = (
        "a. `lerobot-record`, one episode at 30 fps, faults from its first frame on; set aside and repeated: "
    )
    title += f"runs during which the host held up the bytes for more than {VOID_MS:.0f} ms"
    return f"**{title}**\n\n" + table(header, rows)


def _paced(part: dict[str, Any], title: str = "") -> str:
    rows = []
    for case, row in part.items():
        for contestant, r in row.items():
            rows.append(
                [
                    case,
                    contestant,
                    str(r["frames"]),
                    str(r["aborts"]),
                    _figures(r["work_ms"], ("p50", "p99", "p99.9", "max")),
                    number(r["over_frame_percent"], 2),
                    _figures(r["age_ms"], ("p50", "p99", "max")),
                    number(r["stale_percent"], 2),
                    str(r["frames_hit_by_host"]),
                    _figures(r["work_ms_undisturbed"], ("p99", "p99.9", "max")),
                ]
            )
    header = [
        "fault",
        "driver",
        "frames",
        "aborts",
        "bus work ms, p50 / p99 / p99.9 / max",
        "over 33.3 ms, %",
    ]
    header += ["true age ms, p50 / p99 / max", "stale values, %", "frames hit by the host"]
    header += ["bus work of the others, p99 / p99.9 / max"]
    title = title or "b. Frames paced at 30 fps (two reads, one write), several sessions side by side"
    return f"**{title}**\n\n" + table(header, rows)


def _stall(part: dict[str, Any]) -> str:
    rows = [
        [
            case,
            contestant,
            str(r["runs"]),
            str(r["aborted"]),
            number(r["before_ms"]),
            number(r["after_ms"]),
            number(r["worst_ms"]),
            ", ".join(r["errors"]) or "-",
            str(r["set_aside"]),
        ]
        for case, row in part.items()
        for contestant, r in row.items()
    ]
    header = ["fault", "driver", "sessions", "aborted", "median age before, ms", "after, ms", "worst, ms"]
    header += ["error", "sessions set aside"]
    return "**c. The whole bus silent once for 45 ms, paced at 30 fps**\n\n" + table(header, rows)


def _connect(part: dict[str, Any]) -> str:
    rows = [
        [
            case,
            contestant,
            f"{r['connected']} of {r['tries']}",
            number(r["median_ms"], 0),
            number(r["max_ms"], 0),
            ", ".join(r["errors"]) or "-",
        ]
        for case, row in part.items()
        for contestant, r in row.items()
    ]
    header = ["fault", "driver", "connected", "median ms", "max ms", "error"]
    return "**d. Connecting and configuring both arms**\n\n" + table(header, rows)


def _calibrate(part: dict[str, Any]) -> str:
    rows = [
        [
            case,
            contestant,
            f"{r['succeeded']} of {r['tries']}",
            number(r["median_s"]),
            "-" if r["spread_ticks"] is None else str(r["spread_ticks"]),
        ]
        for case, row in part.items()
        for contestant, r in row.items()
    ]
    header = ["arm and fault", "driver", "succeeded", "median s", "greatest difference of two results, ticks"]
    return "**d. Stock `lerobot-calibrate` through a terminal**\n\n" + table(header, rows)


def _reads(part: dict[str, Any]) -> str:
    rows = [
        [
            case,
            "Fast Sync Read" if mode == "fast" else "Sync Read",
            str(r["reads"][mode]),
            _figures(r["round_trip_ms"][mode], ("p50", "p99", "max")),
        ]
        for case, r in part.items()
        for mode in reads.MODES
    ]
    header = ["fault", "instruction", "reads", "round trip ms, p50 / p99 / max"]
    title = (
        "e. One read of six positions, our driver (in a Fast Sync Read a lost part silences those behind it)"
    )
    return f"**{title}**\n\n" + table(header, rows)


def _timer(part: dict[str, Any]) -> str:
    return _paced(part, "f. The same frames behind an FTDI adapter's latency timer")
