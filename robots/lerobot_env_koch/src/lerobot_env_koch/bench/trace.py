# SPDX-License-Identifier: Apache-2.0
"""Writes down every packet on both buses with its time and fate, one JSON object a line, and reads it back.

The first line is a header: when the trace began and the faults in force. Each further line is a packet,

    {"t": 0.0123, "arm": "follower", "dir": "in", "inst": "SYNC_READ", "id": 254, "hex": "ff…", "fate": "ok"}

or something that happened to the port (`"dir": "event"`). `t` counts seconds from the beginning of the trace
to the moment at which the packet passes the port; `dir` is `in` for an instruction and `out` for a status
packet, or for one servo's part of the packet that answers a FAST SYNC READ; `hex` is what was sent. A fate
other than `ok` has its details in `how`, and what arrived instead, if anything did, in `got`.
"""

import json
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lerobot_env_koch.bench.fate import Fate
from lerobot_env_koch.bench.instructions import Reply
from lerobot_env_koch.bench.priority import prefer_this_thread
from lerobot_env_koch.bench.protocol import Instruction, Packet, encode

FORMAT: Final = "koch bench trace 1"
_FLUSH_EVERY_S: Final = 0.2


class TraceWriter:
    """Writes a trace from a thread of its own, so that no disk delays a bus.

    Args:
        path (`Path`): The file; an existing one is replaced.
        header (`dict[str, Any]`): What to note on the first line besides format and time.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self._start_s = time.monotonic()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise OSError(f"the trace {path} cannot be written: {error}.") from error
        self._rows: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._closing = threading.Event()
        start = {"format": FORMAT, "time": time.time(), "monotonic": self._start_s}
        self._rows.put({**start, **header})
        self._thread = threading.Thread(target=self._write, name="trace", daemon=True)
        self._thread.start()

    def instruction(self, arm: str, packet: Packet, fate: Fate, at_s: float) -> None:
        """Note an instruction that came in at monotonic time `at_s`."""
        raw = encode(packet.id, packet.instruction, packet.params)
        self._packet(arm, "in", packet.instruction, packet.id, raw, fate, at_s)

    def status(self, arm: str, packet: Packet, reply: Reply, fate: Fate, at_s: float) -> None:
        """Note an answer to `packet` that leaves, or would have left, at monotonic time `at_s`."""
        self._packet(arm, "out", packet.instruction, reply.id, reply.raw, fate, at_s)

    def event(self, arm: str, what: str, at_s: float) -> None:
        """Note something that happened to the port of `arm`."""
        self._rows.put({"t": round(at_s - self._start_s, 6), "arm": arm, "dir": "event", "what": what})

    def close(self) -> None:
        """Write what is left and close the file."""
        if self._file.closed:
            return
        self._closing.set()
        self._thread.join()
        self._file.close()

    def _packet(
        self, arm: str, direction: str, instruction: int, id_: int, raw: bytes, fate: Fate, at_s: float
    ) -> None:
        row: dict[str, Any] = {
            "t": round(at_s - self._start_s, 6),
            "arm": arm,
            "dir": direction,
            "inst": instruction_name(instruction),
            "id": id_,
            "hex": raw.hex(),
            "fate": fate.name,
        }
        if how := fate.as_json():
            row["how"] = how
        arrived = fate.apply(raw)
        if arrived and arrived != raw:
            row["got"] = arrived.hex()
        self._rows.put(row)

    def _write(self) -> None:
        prefer_this_thread()
        while not self._closing.wait(_FLUSH_EVERY_S):
            self._drain()
        self._drain()

    def _drain(self) -> None:
        while not self._rows.empty():
            self._file.write(json.dumps(self._rows.get()) + "\n")
        self._file.flush()


def instruction_name(instruction: int) -> str:
    """The manual's name of an instruction, or its number."""
    try:
        return Instruction(instruction).name
    except ValueError:
        return f"0x{instruction:02x}"


@dataclass(frozen=True)
class Trace:
    """A trace that was read.

    Args:
        header (`dict[str, Any]`): The first line.
        rows (`list[dict[str, Any]]`): The others, in the order written.
    """

    header: dict[str, Any]
    rows: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> "Trace":
        """Read a trace; a last line that broke off is left out.

        Raises:
            ValueError: The file cannot be read or is no trace; the message names the line.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"the trace {path} cannot be read: {error}.") from error
        if lines and not lines[-1].endswith("\n"):
            lines.pop()
        if not lines or FORMAT not in lines[0]:
            raise ValueError(f"{path} is no trace of the bench (its first line does not say {FORMAT!r}).")
        rows = [_parse(path, number, line) for number, line in enumerate(lines, start=1)]
        return cls(rows[0], rows[1:])

    def fates(self, arm: str, direction: str) -> Iterator[Fate]:
        """Fates of the packets of one arm that went in one direction, in order.

        Raises:
            ValueError: A fate is malformed.
        """
        for row in self.rows:
            if row.get("arm") == arm and row.get("dir") == direction:
                yield Fate.from_json(row.get("how", {}))


def _parse(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: {error}.") from error
    if not isinstance(row, dict):
        raise ValueError(f"{path}, line {number} is no JSON object.")
    return row
