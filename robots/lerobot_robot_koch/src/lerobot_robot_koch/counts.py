# SPDX-License-Identifier: Apache-2.0
"""What a bus went through, for the line it prints when it is closed."""

from dataclasses import dataclass


@dataclass
class BusCounts:
    """How the bus did since it was made.

    Attributes:
        n_reads (`int`): Reads and pings asked for.
        n_reads_retried (`int`): Those that needed more than one try.
        n_writes (`int`): Acknowledged writes asked for.
        n_writes_retried (`int`): Those that needed more than one try.
        n_stale (`int`): Values that were used although they were old.
        max_stale_ms (`float`): The oldest of them, in milliseconds.
        n_alerts (`int`): Times a motor began to report a hardware error.
        n_failed (`int`): Requests given up.
    """

    n_reads: int = 0
    n_reads_retried: int = 0
    n_writes: int = 0
    n_writes_retried: int = 0
    n_stale: int = 0
    max_stale_ms: float = 0.0
    n_alerts: int = 0
    n_failed: int = 0

    def __str__(self) -> str:
        parts = [
            f"{self.n_reads_retried} of {self.n_reads} reads and {self.n_writes_retried} of "
            f"{self.n_writes} writes needed a retry"
        ]
        if self.n_stale:
            parts.append(f"{self.n_stale} values were old when used (at most {self.max_stale_ms:.0f} ms)")
        if self.n_alerts:
            parts.append(f"{self.n_alerts} hardware alerts")
        if self.n_failed:
            parts.append(f"{self.n_failed} failed")
        return ", ".join(parts)
