# SPDX-License-Identifier: Apache-2.0
"""Writes beside a dataset which of its values were old: `meta/stale_values.jsonl`, one line a value.

    {"episode_index": 3, "frame_index": 120, "device": "koch_follower", "motor": "elbow_flex", "age_ms": 41.3}

A line is there only for what is recorded: values from between episodes and from episodes that are recorded
anew leave none. LeRobot does not look at the file; it is pushed to the Hub with the dataset.

`lerobot-rollout --strategy.type=highlight` adds frames that it kept for a while. Which read they are from is
not known any more, so their values are left out rather than put to the wrong frame.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from lerobot_ext.data.writer_hooks import SavedEpisode, WriterObserver
from lerobot_robot_koch.stale_values import JOURNAL, StaleValue

if TYPE_CHECKING:
    from lerobot.datasets.dataset_writer import DatasetWriter

SIDECAR_PATH: Final = "meta/stale_values.jsonl"


@dataclass
class _Recording:
    """Stale values of the episode that is being recorded, by frame index; reads until the last frame."""

    frames: dict[int, list[StaleValue]] = field(default_factory=dict)
    n_reads: int = -1


class StaleSidecar(WriterObserver):
    """Puts the values that `JOURNAL` holds to the frames they were recorded in."""

    def __init__(self) -> None:
        self._recordings: WeakKeyDictionary[DatasetWriter, _Recording] = WeakKeyDictionary()

    def frame_added(self, writer: "DatasetWriter", frame_index: int) -> None:
        """Attach what the reads before this frame had to replace."""
        recording = self._recordings.setdefault(writer, _Recording())
        if frame_index == 0:
            recording.frames.clear()
        values = JOURNAL.take()
        if JOURNAL.n_reads == recording.n_reads:
            # Nothing was read since the last frame: both are from a buffer, and what the last one was given
            # belongs to a frame that is still to come.
            recording.frames.pop(frame_index - 1, None)
        elif values:
            recording.frames[frame_index] = values
        recording.n_reads = JOURNAL.n_reads

    def episode_saved(self, writer: "DatasetWriter", episode: SavedEpisode) -> None:
        """Write the episode's lines."""
        recording = self._recordings.get(writer)
        if recording is None or not recording.frames:
            return
        lines = [
            json.dumps(
                {
                    "episode_index": episode.index,
                    "frame_index": frame_index,
                    **asdict(value),
                    "age_ms": round(value.age_ms, 1),
                }
            )
            for frame_index, values in recording.frames.items()
            for value in values
        ]
        recording.frames.clear()
        with open(episode.root / SIDECAR_PATH, "a+b") as file:
            if file.tell() and not _ends_a_line(file):
                file.write(b"\n")  # a line torn by a kill
            file.write("".join(f"{line}\n" for line in lines).encode())

    def episode_cleared(self, writer: "DatasetWriter") -> None:
        """The episode is recorded anew."""
        self._recordings.pop(writer, None)


def _ends_a_line(file) -> bool:  # type: ignore[no-untyped-def]
    file.seek(-1, 2)
    return bool(file.read(1) == b"\n")


SIDECAR: Final = StaleSidecar()
