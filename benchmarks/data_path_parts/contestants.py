# SPDX-License-Identifier: Apache-2.0
"""Whoever is compared lives in a process of its own, and works only while the others wait.

So each has the memory, caches and threads that it has in a user's process, LeRobot as it is or with our
plugins, and a busy machine weighs on all of them alike, since they take turns of a few jobs.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

STOCK, TORCHCODEC, OURS, OURS_COLUMNS = "stock pyav", "torchcodec", "ours", "ours + columns in RAM"
FLOOR = "libav alone"
READERS = (STOCK, TORCHCODEC, OURS, OURS_COLUMNS)
Cost = dict[str, float]


class Inside:
    """What a contestant keeps between the calls made in its process.

    Args:
        name (`str`): Who it is.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.kept: dict[str, Any] = {}

    @property
    def backend(self) -> str:
        """LeRobot's name of its video backend; what `pyav` means depends on the process."""
        return "torchcodec" if self.name == TORCHCODEC else "pyav"


class Contestant:
    """A process forked from this one, which makes calls when told to.

    Args:
        name (`str`): Of `READERS`, or `FLOOR`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_live, args=(name, theirs, self._pipe))
        self._process.start()
        theirs.close()

    def call(self, function: Callable[..., Any], *words: Any) -> Any:
        """`function(inside, *words)` in its process.

        Raises:
            SystemExit: It failed there.
        """
        try:
            self._pipe.send((function, words))
            fine, answer = self._pipe.recv()
        except (EOFError, BrokenPipeError) as error:
            raise SystemExit(f"{self.name}: its process ended in {function.__name__}") from error
        if not fine:
            raise SystemExit(f"{self.name}: {function.__name__}: {answer}")
        return answer

    def close(self) -> None:
        """End its process."""
        with suppress(BrokenPipeError):
            self._pipe.send(None)  # closing is not enough: who was forked later has a copy of this end
        self._pipe.close()
        self._process.join(30)
        if self._process.is_alive():
            self._process.kill()


def _live(name: str, pipe: Connection, parents: Connection) -> None:
    parents.close()  # so that the pipe ends when the parent does
    import torch

    torch.set_num_threads(1)
    inside = Inside(name)
    if name in (OURS, OURS_COLUMNS):
        from lerobot_camera_pyav import backend

        if not backend.install():
            raise SystemExit("our backend does not install on this LeRobot; see the line above")
    if name == OURS_COLUMNS:
        from lerobot_ext.data import batches, ram_reader

        batches.install()
        ram_reader.install()
    while True:
        try:
            wanted = pipe.recv()
        except EOFError:
            return
        if wanted is None:
            return
        function, words = wanted
        try:
            pipe.send((True, function(inside, *words)))
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent says whose it was and ends
            pipe.send((False, f"{type(error).__name__}: {error}"))


@contextmanager
def side_by_side(names: Sequence[str]) -> Iterator[list[Contestant]]:
    """A process for each name, all ended at the end."""
    made = [Contestant(name) for name in names]
    try:
        yield made
    finally:
        for contestant in made:
            contestant.close()


def apart(function: Callable[..., Any], *words: Any) -> Any:
    """`function(*words)` in a process of its own, whose memory and threads nobody inherits."""
    with side_by_side(["files"]) as [contestant]:
        return contestant.call(_just, function, *words)


def _just(_: Inside, function: Callable[..., Any], *words: Any) -> Any:
    return function(*words)


def in_turns(
    made: list[Contestant], function: Callable[..., list[Cost | None]], jobs: list[Any], turn: int
) -> dict[str, Cost]:
    """The medians of each contestant over all jobs, `turn` jobs at a time; `misses` were refused."""
    spent: dict[str, list[Cost | None]] = {contestant.name: [] for contestant in made}
    for start in range(0, len(jobs), turn):
        for contestant in made:
            spent[contestant.name] += contestant.call(function, jobs[start : start + turn])
    return {
        name: medians([cost for cost in costs if cost]) | {"misses": float(costs.count(None))}
        for name, costs in spent.items()
        if any(costs)
    }


def medians(costs: Sequence[Cost]) -> Cost:
    """The median of each figure."""
    return {key: statistics.median(cost[key] for cost in costs) for key in costs[0]}


def must_agree(what: str, seen: dict[str, Any]) -> None:
    """End the benchmark where contestants give different things; `None` is one who gives nothing."""
    given = {name: value for name, value in seen.items() if value is not None}
    if len({repr(value) for value in given.values()}) > 1:
        raise SystemExit(f"{what}: {', '.join(given)} differ; the comparison would mean nothing")


@contextmanager
def clock() -> Iterator[Cost]:
    """CPU and wall milliseconds of what is done in it; all threads of this process."""
    cost: Cost = {}
    cpu, wall = time.process_time(), time.perf_counter()
    yield cost
    cost["wall_ms"] = (time.perf_counter() - wall) * 1e3
    cost["cpu_ms"] = (time.process_time() - cpu) * 1e3
