# SPDX-License-Identifier: Apache-2.0
"""What benchmarks say of their figures: their own tables and last lines, made of the JSON that is kept."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

Figures = Any


class Report(NamedTuple):
    """A benchmark's own words: a line, and its tables where it has a function for them."""

    last_line: str
    tables: str = ""


def of(name: str, figures: Figures) -> Report | None:
    """The report of a suite's figures; none where the benchmark prints them without a function."""
    return REPORTS[name](figures) if name in REPORTS else None


# ---- one function a benchmark


def _hierarchical(figures: Figures) -> Report:
    from hierarchical_parts import report

    return Report(report.summary(figures), report.markdown(figures))


def _act_plus(figures: Figures) -> Report:
    from act_plus_parts import report

    rows = figures["rows"]
    said = "\n".join(f"- {sentence}." for sentence in report.sentences(rows))
    return Report(report.summary(rows), f"{said}\n\n{report.tables(rows)}")


def _offline_rl(figures: Figures) -> Report:
    from rl_parts import tables

    lines = [tables.offline_verdict(one["summary"]) for one in figures.values()]
    return Report(
        "; ".join(lines), "\n\n".join(tables.offline_table(one["summary"]) for one in figures.values())
    )


def _online_rl(figures: Figures) -> Report:
    from rl_parts import tables

    bench = importlib.import_module("online_rl")
    rates = tables.by_stage(bench.cells_of(figures))
    return Report("; ".join(tables.online_verdict(rates)), tables.online_table(rates))


def _q_chunking(figures: Figures) -> Report:
    bench = importlib.import_module("q_chunking")
    steps, chunks = figures["steps"], figures["chunks"]
    return Report(bench.last_line(steps), f"{bench.step_table(steps)}\n\n{bench.chunk_table(chunks)}")


def _data_path(figures: Figures) -> Report:
    from data_path_parts import report

    return Report(report.summary(figures["sections"]), report.readme(figures["sections"]))


def _koch_bus(figures: Figures) -> Report:
    from koch_bus_parts import tables

    return Report(tables.verdict(figures["summary"]), tables.render(figures["summary"]))


def _inference_speed(figures: Figures) -> Report:
    bench = importlib.import_module("inference_speed")
    rows = [bench.Row(**row) for row in figures["rows"]]
    stock = [row for row in rows if "stock" in row.what]
    return Report(bench.summary([row for row in rows if row not in stock], stock))


def _koch_policies(figures: Figures) -> Report:
    from koch_policies_parts import report

    return Report(report.last_line(figures), report.tables(figures["rows"]))


def _of_module(name: str, tables: str = "") -> Callable[[Figures], Report]:
    """A benchmark with `last_line(figures)` and maybe a function for its tables."""

    def report(figures: Figures) -> Report:
        bench = importlib.import_module(name)
        return Report(bench.last_line(figures), getattr(bench, tables)(figures) if tables else "")

    return report


REPORTS: dict[str, Callable[[Figures], Report]] = {
    "koch_policies": _koch_policies,
    "hierarchical": _hierarchical,
    "act_plus": _act_plus,
    "offline_rl": _offline_rl,
    "online_rl": _online_rl,
    "q_chunking": _q_chunking,
    "data_path": _data_path,
    "koch_bus": _koch_bus,
    "inference_speed": _inference_speed,
    "async_inference": _of_module("async_inference", "table"),
    "hub_push": _of_module("hub_push", "table"),
    "memory_pool": _of_module("memory_pool"),
    "convert": _of_module("convert", "table"),
    "episode_journal": _of_module("episode_journal", "table"),
    "processors": _of_module("processors", "tables"),
    "ram_reader": _of_module("ram_reader", "table"),
    "recording": _of_module("recording", "table"),
    "startup": _of_module("startup"),
    "trainer_overhead": _of_module("trainer_overhead", "table"),
}


# ---- blocks in the policies' READMEs


def offline_block(figures: Figures, mine: str, methods: tuple[str, ...]) -> str:
    """All tasks as `benchmarks/offline_rl.py --write-readme` puts them into a README.

    Args:
        figures (`dict`): By task, as the benchmark wrote them.
        mine (`str`): The method that the block is about.
        methods (`tuple[str, ...]`): Those in it.
    """
    from rl_parts.cells import Conditions

    bench = importlib.import_module("offline_rl")
    text = []
    for one in figures.values():
        shown = [cell for cell in one["cells"] if cell["method"] in methods]
        if any(cell["method"] == mine for cell in shown):
            text.append(bench.readme_block(one["data"], Conditions(**one["conditions"]), shown, mine))
    return "\n\n".join(text)


def online_block(figures: Figures) -> str:
    """All tasks as `benchmarks/online_rl.py --write-readme` puts them into a README."""
    return str(importlib.import_module("online_rl").readme_block(figures))
