# SPDX-License-Identifier: Apache-2.0
"""Where suites run: in processes of this machine, or each as a task on a machine of a Ray cluster."""

from __future__ import annotations

import os
import signal
from importlib import import_module
from queue import SimpleQueue
from typing import Any, Protocol

from hierarchical_parts.commands import CommandError, Commands

from run_parts import running
from run_parts.running import Run
from run_parts.suites import BENCHMARKS, QUICK, Suite

LOCAL, RAY = "local", "ray"
GRACE_S = 15
"""Seconds that cancelled tasks have to end what they started."""


class Engine(Protocol):
    """Runs suites.

    Attributes:
        at_once (`int`): How many may run side by side.
    """

    at_once: int

    def perform(self, suite: Suite) -> dict[str, Any]:
        """Run a suite, and keep what it gave.

        Raises:
            CommandError: It failed.
        """

    def stop(self) -> None:
        """End what runs."""

    def leave(self) -> None:
        """Let go of the machines."""


def suites_at_once(run: Run) -> int:
    """On one machine: a full run measures time, so that its suites run one after the other."""
    return run.jobs if run.size == QUICK else 1


class Local:
    """This machine.

    Args:
        run (`Run`): What is asked for.
        commands (`Commands`): Start the processes.
    """

    def __init__(self, run: Run, commands: Commands) -> None:
        self.at_once = suites_at_once(run)
        self._run, self._commands = run, commands

    def perform(self, suite: Suite) -> dict[str, Any]:
        """Run a suite."""
        return running.one(self._run, suite, self._commands)

    def stop(self) -> None:
        """End what runs."""
        self._commands.stop()

    def leave(self) -> None:
        """There is nothing to let go of."""


def in_task(run: Run, suite: Suite) -> dict[str, Any]:
    """Run a suite in a worker of Ray; what it started ends with the task."""
    commands = Commands(run.out / "logs", 0)
    try:
        return running.one(run, suite, commands)
    except BaseException:  # a cancelled task gets a KeyboardInterrupt
        commands.stop()
        raise


class Ray:
    """The machines of a Ray cluster: one suite is one task, and reserves its share of a machine.

    Args:
        run (`Run`): What is asked for; `out` is a folder that all machines see under this name.
        address (`str`): The cluster: `auto` for the one that runs here, `HOST:PORT`, or `local` for one of
            this machine alone, which ends with the run.

    Raises:
        SystemExit: Ray is not installed, or there is no such cluster.
    """

    def __init__(self, run: Run, address: str) -> None:
        self._run = run
        try:
            self._ray: Any = import_module("ray")
        except ImportError as error:
            raise SystemExit(
                f"--engine {RAY} needs Ray, which cannot be imported ({error}); `uv pip install ray` on each "
                f"machine of the cluster, or use --engine {LOCAL}."
            ) from error
        handler = signal.getsignal(signal.SIGTERM)
        path = os.pathsep.join([str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])])
        try:
            self._ray.init(
                address=address, runtime_env={"env_vars": {"PYTHONPATH": path}}, log_to_driver=False
            )
        except ConnectionError as error:
            raise SystemExit(
                f"--ray-address {address}: no such cluster ({error}); `uv run ray start --head` on one "
                "machine and `uv run ray start --address=HOST:6379` on the others, or --ray-address local."
            ) from error
        signal.signal(signal.SIGTERM, handler)  # Ray's own aborts, and nothing would be cancelled
        nodes = [node for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        if not nodes:
            self._ray.shutdown()
            raise SystemExit(f"--ray-address {address}: no machine of this cluster offers a CPU to Ray.")
        self._places: SimpleQueue[tuple[str, float]] = SimpleQueue()
        each = suites_at_once(run)
        for _ in range(each):
            for node in nodes:
                self._places.put((node["NodeID"], node["Resources"]["CPU"] / each))
        self.at_once = each * len(nodes)
        self._tasks: set[Any] = set()

    def perform(self, suite: Suite) -> dict[str, Any]:
        """Run a suite on the next machine with room for it."""
        strategies = import_module("ray.util.scheduling_strategies")
        node, cpus = self._places.get()
        there = strategies.NodeAffinitySchedulingStrategy(node_id=node, soft=False)
        task = self._ray.remote(in_task).options(num_cpus=cpus, max_retries=0, scheduling_strategy=there)
        reference = task.remote(self._run, suite)
        self._tasks.add(reference)
        try:
            result: dict[str, Any] = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, CommandError):
                raise error.cause from error
            raise
        finally:
            self._tasks.discard(reference)
            self._places.put((node, cpus))
        if running.done(self._run, suite) is None:
            raise CommandError(
                f"{self._run.key(suite)}: it ran on node {node}, and {self._run.out} here does not hold "
                "what it gave: --out has to be a folder that all machines see under this name, and their "
                "checkouts and packages have to be the same."
            )
        return result

    def stop(self) -> None:
        """End what runs, and leave the cluster."""
        tasks = list(self._tasks)
        for task in tasks:
            self._ray.cancel(task)
        if tasks:  # what they started ends before they do
            self._ray.wait(tasks, num_returns=len(tasks), timeout=GRACE_S)
        self.leave()

    def leave(self) -> None:
        """Let go of the cluster."""
        self._ray.shutdown()
