# SPDX-License-Identifier: Apache-2.0
"""What all tests share: how they are spread over worker processes."""

import signal

import pytest

# One virtual bench at a time: each paces itself in real time, and two would hold each other up.
BENCH = (
    "tests/robot/",
    "tests/cli/test_async_inference_cli.py",
    "tests/cli/test_koch_cli.py",
    "tests/cli/test_koch_endings.py",
    "tests/cli/test_quickstart_cli.py",
    "tests/docs/test_docs_run.py::test_the_marked_commands",
    "tests/examples/test_koch_end_effector.py::test_the_example",
    "tests/packaging/test_round_trip.py",
)


def pytest_configure() -> None:
    """Let signals end the tests' child processes also where the run itself ignores them.

    `nohup` ignores SIGHUP and a shell's `&` ignores SIGINT; children inherit that.
    """
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep all tests that run a virtual bench in one worker, and start with them: they take longest."""

    def runs_a_bench(item: pytest.Item) -> bool:
        return any(place in item.nodeid for place in BENCH)

    for item in items:
        if runs_a_bench(item):
            item.add_marker(pytest.mark.xdist_group("bench"))
            # These talk in real time; a host that takes the cores away for a moment is no fault of ours. What
            # fails three times in a row fails, and each repetition is listed at the end of the run.
            item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=1))
    items.sort(key=lambda item: not runs_a_bench(item))
