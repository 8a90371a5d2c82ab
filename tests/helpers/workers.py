# SPDX-License-Identifier: Apache-2.0
"""How the tests are spread over the worker processes of pytest-xdist: by file, virtual benches in one.

`--dist=loadgroup` would read groups from marks; pytest-xdist 3.8 with pytest 9.2 does not see them and
spreads single tests, without a word (https://github.com/pytest-dev/pytest-xdist/issues/1386).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

# One virtual bench at a time: each paces itself in real time, and two would hold each other up.
BENCH: Final = (
    "tests/robot/",
    "tests/cli/test_async_inference_cli.py",
    "tests/cli/test_koch_cli.py",
    "tests/cli/test_koch_endings.py",
    "tests/cli/test_quickstart_cli.py",
    "tests/docs/test_docs_run.py::test_the_marked_commands_of_a_page_work[docs/koch.md]",
    "tests/docs/test_docs_run.py::test_the_marked_commands_of_a_page_work[docs/quickstart.md]",
    "tests/examples/test_examples.py::test_an_example_ends_as_it_says[record_virtual_arm]",
    "tests/examples/test_koch_end_effector.py::test_the_example",
    "tests/packaging/test_round_trip.py",
)
SLOW_S: Final = 20.0  # roughly what a test with that mark takes, and another one
QUICK_S: Final = 0.2


def group_of(nodeid: str) -> str:
    """Tests of one group run in one worker: two that share a file would make its dear fixtures twice."""
    return "bench" if any(place in nodeid for place in BENCH) else nodeid.partition("::")[0]


def longest_first(tests: Sequence[tuple[str, bool]]) -> list[str]:
    """The groups, benches first and then by how long they take, so that all workers are busy to the end.

    Args:
        tests (`Sequence[tuple[str, bool]]`): Each test's name, and whether it is marked as slow.
    """
    seconds: Counter[str] = Counter()
    for nodeid, is_slow in tests:
        seconds[group_of(nodeid)] += SLOW_S if is_slow else QUICK_S
    return sorted(seconds, key=lambda group: (group != "bench", -seconds[group], group))


def scheduler(config: Any, log: Any) -> Any:
    """xdist's scheduler for `group_of`; None for another `--dist` than that of this project."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Groups(config, log)
