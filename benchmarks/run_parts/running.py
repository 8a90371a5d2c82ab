# SPDX-License-Identifier: Apache-2.0
"""Runs suites that are not done yet, and remembers what each gave."""

from __future__ import annotations

import hashlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hierarchical_parts.commands import CommandError, Commands
from hierarchical_parts.side_by_side import side_by_side
from hierarchical_parts.store import Store, source_fingerprint
from koch_bus_parts import machine

from run_parts.suites import BENCHMARKS, QUICK, Suite

if TYPE_CHECKING:
    from run_parts.engines import Engine

VERSIONS = ("lerobot", "lerobot_ext", "torch", "numpy", "av", "mujoco")
Results = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """What is asked for.

    Args:
        size (`str`): `quick` or `full`.
        out (`Path`): Each suite works in a folder of its own in it.
        jobs (`int`): Processes: of a full run each suite's, of a quick one suites side by side.
    """

    size: str
    out: Path
    jobs: int

    @property
    def store(self) -> Store:
        """What is done."""
        return Store(self.out / "done")

    def folder(self, suite: Suite) -> Path:
        """Where a suite works."""
        return self.out / self.size / suite.name

    def key(self, suite: Suite) -> str:
        """A suite's name among the results."""
        return f"{self.size}.{suite.name}"


@contextmanager
def working_in(out: Path) -> Iterator[Commands]:
    """Commands that log into `out`, of ordinary priority; nobody else works there at the same time.

    Raises:
        SystemExit: Somebody does.
    """
    from filelock import FileLock, Timeout

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends with it
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / "lock", timeout=0):
            yield Commands(out / "logs", 0)
    except Timeout as error:
        raise SystemExit(f"another run works in --out {out}; wait for it, or name another.") from error


def recipe(suite: Suite, size: str) -> dict[str, Any]:
    """All that decides what a suite gives, but for the machine and how many processes share it."""
    return {
        "words": suite.words(size, "OUT")[1:],
        "benchmark": _fingerprint(suite),
        "packages": {package: source_fingerprint(package) for package in suite.packages},
        "versions": {name: metadata.version(name) for name in VERSIONS},
    }


def _fingerprint(suite: Suite) -> str:
    digest = hashlib.sha256()
    parts = [path for part in suite.parts for path in sorted((BENCHMARKS / part).glob("*.py"))]
    for path in [suite.script, *parts]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def done(run: Run, suite: Suite) -> dict[str, Any] | None:
    """What a suite gave, if it was run by today's recipe."""
    return run.store.load(run.key(suite), recipe(suite, run.size))


def one(run: Run, suite: Suite, commands: Commands) -> dict[str, Any]:
    """Run a suite.

    Raises:
        CommandError: It ended with an error, or without a last line.
    """
    wanted, started = recipe(suite, run.size), time.monotonic()
    about = machine.describe(VERSIONS)
    out = run.folder(suite)
    out.mkdir(parents=True, exist_ok=True)
    words = suite.words(run.size, out, 1 if run.size == QUICK else run.jobs)
    lines = [line for line in commands.run(run.key(suite), ["python", *words]).splitlines() if line.strip()]
    if not lines:
        raise CommandError(f"{run.key(suite)}: it printed nothing, not even its last line")
    result = {
        "last_line": lines[-1].replace(str(out), "DIR"),
        "seconds": round(time.monotonic() - started, 1),
        "measured": datetime.now().isoformat(timespec="seconds"),
        "machine": about | {"jobs": run.jobs},
        "command": suite.command(run.jobs),
    }
    run.store.save(run.key(suite), wanted, result)
    return result


def run_all(run: Run, suites: Sequence[Suite], engine: Engine) -> tuple[Results, list[str]]:
    """Run what is not done, as many suites side by side as the engine takes.

    Returns:
        What each suite gave, now or before, in their order, and what failed, with the reason.
    """
    from lerobot_ext.cli.look import progress

    found = {suite.name: done(run, suite) for suite in suites}
    left = [suite for suite in suites if found[suite.name] is None]
    with progress() as bar:
        line = bar.add_task("", total=len(suites), completed=len(suites) - len(left))
        running: list[str] = []

        def work(suite: Suite) -> None:
            running.append(suite.name)
            bar.update(line, description=", ".join(running))
            try:
                found[suite.name] = engine.perform(suite)
            finally:
                running.remove(suite.name)
                bar.update(line, advance=1, description=", ".join(running))

        failures = side_by_side([partial(work, suite) for suite in left], engine.at_once, engine)
    return {name: result for name, result in found.items() if result is not None}, failures
