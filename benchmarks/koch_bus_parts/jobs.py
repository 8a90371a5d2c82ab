# SPDX-License-Identifier: Apache-2.0
"""Runs many measurements side by side: each in a child forked from this warmed process, on a worker's bench.

LeRobot takes ten seconds to import. The process that calls `run_jobs` has done so already; a child forked
from it starts at once with the same modules. A run mostly sleeps, so that several fit on one machine; every
child says how far its host kept it or its bench waiting.
"""

import json
import multiprocessing as mp
import multiprocessing.connection
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeElapsedColumn

from koch_bus_parts.canary import Canary
from koch_bus_parts.forked import end_with, reopen_streams
from koch_bus_parts.machine import prefer_this_process
from koch_bus_parts.store import Store
from koch_bus_parts.virtual import VirtualBench

_FORK: Final = mp.get_context("fork")
_REFRESH_S: Final = 0.5
VOID_MS: Final = 100.0
"""A recording during which the host held up the bytes for longer says nothing about a driver."""

_MAX_SET_ASIDE: Final = 5


@dataclass(frozen=True)
class Place:
    """Where a job runs.

    Args:
        ready (`dict`): What the worker's bench says of itself.
        folder (`Path`): An empty folder of the job's own.
        raw (`Path`): File without suffix for arrays that are kept.
        canary (`Canary`): Knows when the host held up what passes through pseudo-terminals.
    """

    ready: dict[str, Any]
    folder: Path
    raw: Path
    canary: Canary


@dataclass(frozen=True)
class Job:
    """One measurement.

    Args:
        key (`str`): Name, `part/case/contestant/index`.
        options (`tuple[str, ...]`): What bench it needs.
        work (`Callable`): Measures, in a forked child; returns what to store.
        settings (`dict`, *optional*): What the result depends on besides the key; a stored result with others
            is measured again.
        timeout_s (`float`, *optional*, defaults to `300.0`): After this time the child is ended.
        real_time (`bool`, *optional*, defaults to `False`): Run it at a real-time priority.
    """

    key: str
    options: tuple[str, ...]
    work: Callable[[Place], dict[str, Any]]
    settings: dict[str, Any] = field(default_factory=dict)
    timeout_s: float = 300.0
    real_time: bool = False


@dataclass
class _Worker:
    """One bench and what runs on it."""

    number: int
    bench: VirtualBench | None = None
    job: Job | None = None
    child: Any = None
    deadline_s: float = 0.0
    place: Place | None = None


def run_jobs(jobs: Iterable[Job], store: Store, n_workers: int, work_dir: Path, out: Path) -> int:
    """Run those of `jobs` that `store` does not hold yet, and keep each result as soon as it is there.

    Args:
        jobs (`Iterable[Job]`): In the order in which they should start.
        store (`Store`): Takes the results.
        n_workers (`int`): How many run side by side, each with a bench.
        work_dir (`Path`): Run directories of the benches and folders of the jobs.
        out (`Path`): Gets the arrays that are kept, in `raw`.

    Returns:
        `int`: How many jobs failed to measure (the benchmark's own failure, not a driver's).
    """
    jobs = list(jobs)
    waiting = [job for job in jobs if not store.holds(job.key, job.settings)]
    workers = [_Worker(i) for i in range(min(n_workers, len(waiting)))]
    # Without a thread of its own, so that no lock of it is held while this process forks.
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    n_failed, set_aside, canary = 0, Counter[str](), Canary()
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as progress:
        task = progress.add_task("Koch bus", total=len(jobs), completed=len(jobs) - len(waiting))
        try:
            while waiting or any(worker.child for worker in workers):
                for worker in workers:
                    if worker.child is None and waiting:
                        _start(worker, _next_job(worker, waiting), work_dir, out, canary)
                        progress.update(task, description=f"{worker.job.key:44.44}" if worker.job else "")
                done = _wait(workers)
                for worker in done:
                    if _set_aside(worker, set_aside):
                        waiting.append(worker.job)
                        continue
                    progress.advance(task)
                    n_failed += not _collect(worker, store, progress.console, out / "failed", set_aside)
                    if not progress.console.is_terminal:  # where a bar shows only its end
                        _say(progress.console, progress.tasks[task], worker)
                progress.refresh()
        finally:
            for worker in workers:
                if worker.child is not None:
                    worker.child.kill()
                    worker.child.join()
                if worker.bench is not None:
                    worker.bench.stop()
            canary.stop()
    return n_failed


def _say(console: Console, task: Task, worker: _Worker) -> None:
    name = worker.job.key if worker.job else ""
    console.print(f"{task.completed:.0f} of {task.total:.0f}: {name}", markup=False, highlight=False)


def _next_job(worker: _Worker, waiting: list[Job]) -> Job:
    """The first job for the bench that `worker` has, else the first of all."""
    options = worker.bench.options if worker.bench is not None else None
    index = next((i for i, job in enumerate(waiting) if job.options == options), 0)
    return waiting.pop(index)


def _start(worker: _Worker, job: Job, work_dir: Path, out: Path, canary: Canary) -> None:
    if worker.bench is not None and (worker.bench.options != job.options or not worker.bench.alive):
        worker.bench.stop()
        worker.bench = None
    if worker.bench is None:
        folder = work_dir / f"bench{worker.number}"
        # Faults of two workers must differ, and so must those of two runs on one of them: they do, because
        # the bench's random numbers go on.
        worker.bench = VirtualBench(folder, job.options, seed=1000 + worker.number)
    name = job.key.replace("/", "_").replace("=", "").replace(" ", "_")
    folder = work_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    raw = out / "raw" / name
    raw.parent.mkdir(exist_ok=True)
    worker.place = Place(worker.bench.ready, folder, raw, canary)
    worker.job, worker.deadline_s = job, time.monotonic() + job.timeout_s
    worker.child = _FORK.Process(target=_child, args=(job, worker.place), daemon=False)
    worker.child.start()


def _child(job: Job, place: Place) -> None:
    """Carry out `job` with all that it prints in a log file; leave the result in a file."""
    log = os.open(place.folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    reopen_streams()

    def measure() -> None:
        priority, start = prefer_this_process(job.real_time), time.monotonic()
        result = job.work(place)
        seconds = round(time.monotonic() - start, 2)
        result |= {"seconds": seconds, "priority": priority, "load": os.getloadavg()[0]}
        part = place.folder / "result.part"
        part.write_text(json.dumps(result))
        part.replace(place.folder / "result.json")

    end_with(measure)


def _wait(workers: list[_Worker]) -> list[_Worker]:
    """Workers whose child has ended; ends those that took too long."""
    running = [worker for worker in workers if worker.child is not None]
    multiprocessing.connection.wait([worker.child.sentinel for worker in running], timeout=_REFRESH_S)
    for worker in running:
        if worker.child.is_alive() and time.monotonic() > worker.deadline_s:
            worker.child.kill()
            worker.child.join()
    return [worker for worker in running if not worker.child.is_alive()]


def _set_aside(worker: _Worker, set_aside: Counter[str]) -> bool:
    """Whether to measure again what the child has measured, because the host disturbed it too much.

    The rule looks at the host alone, never at how the driver did, and gives up after `_MAX_SET_ASIDE` times.
    """
    assert worker.job is not None
    assert worker.place is not None
    result_file = worker.place.folder / "result.json"
    if not result_file.exists() or set_aside[worker.job.key] >= _MAX_SET_ASIDE:
        return False
    if json.loads(result_file.read_text()).get("host_ms", 0.0) <= VOID_MS:
        return False
    set_aside[worker.job.key] += 1
    result_file.unlink()
    worker.child.join()
    worker.child = None
    return True


def _collect(worker: _Worker, store: Store, console: Console, failed: Path, set_aside: Counter[str]) -> bool:
    """Keep the result of the child that ended; whether there was one. If not, its log goes to `failed`."""
    assert worker.job is not None
    assert worker.place is not None
    worker.child.join()
    worker.child = None
    result_file = worker.place.folder / "result.json"
    if not result_file.exists():
        failed.mkdir(exist_ok=True)
        log = failed / f"{worker.place.folder.name}.txt"
        shutil.copy(worker.place.folder / "log.txt", log)
        end = log.read_text(errors="replace")[-1500:]
        console.print(f"{worker.job.key} did not measure; {log} ends:\n{end}", markup=False, highlight=False)
        return False
    result = json.loads(result_file.read_text()) | {"set_aside": set_aside[worker.job.key]}
    store.put(worker.job.key, worker.job.settings, result)
    result_file.unlink()
    return True
