# SPDX-License-Identifier: Apache-2.0
"""Pieces of work side by side, of which one may fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Protocol

from hierarchical_parts.commands import CommandError


class Stoppable(Protocol):
    """What the work has started, such as `Commands`."""

    def stop(self) -> None:
        """End it."""


def side_by_side(work: Sequence[Callable[[], Any]], jobs: int, commands: Stoppable) -> list[str]:
    """Do it all, `jobs` at a time; gives what failed, with the reason. The rest is done all the same."""
    failures = []
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(one) for one in work]
        try:
            for future in as_completed(futures):
                error = future.exception()
                if isinstance(error, CommandError):
                    failures.append(str(error))
                elif error is not None:
                    raise error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            commands.stop()
            raise
    return failures
