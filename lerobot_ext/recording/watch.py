# SPDX-License-Identifier: Apache-2.0
"""Watches over a recording: says when it is slower than asked or loses pictures, why, and what to do.

Stock says "Record loop is running slower" for a step that took too long. It says nothing when each step is in
time and the loop is slow all the same, as with PNG files on a busy machine, and it does not say that after a
dropped frame the camera's later pictures are early: the video has a frame less than the episode, and frame
`i` of it is shown for row `i`.

The rate is taken from the frames that LeRobot's writer gets, so that any robot is watched, and only while it
records. A robot that counts its time on `SPENT` gets a better answer to why.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import av

from lerobot_ext.data.writer_hooks import SavedEpisode, WriterObserver, observe
from lerobot_ext.recording import store
from lerobot_ext.recording.candidates import cores
from lerobot_ext.recording.load import Load
from lerobot_ext.recording.machine_time import MachineTime
from lerobot_ext.recording.rhythm import WRITER, Behind, Rhythm
from lerobot_ext.recording.spent import SPENT

if TYPE_CHECKING:
    from lerobot.datasets.dataset_writer import DatasetWriter

logger = logging.getLogger(__name__)

_AGAIN_S: Final = 60.0


@dataclass
class _Recording:
    """What is known of a writer's recording."""

    rhythm: Rhythm
    adding_s: float = 0.0
    dropped: dict[str, int] = field(default_factory=dict)
    spoilt: dict[int, int] = field(default_factory=dict)
    warned_s: dict[str, float] = field(default_factory=dict)
    machine: MachineTime | None = None
    advice: str = ""


class RecordingWatch(WriterObserver):
    """Tells by log lines.

    Args:
        clock (`Callable`, *optional*): Says the time in seconds.
        cpu_clock (`Callable`, *optional*): Says the CPU seconds of this process.
        machine (`Callable`, *optional*): Says how busy the machine has been.
        recall (`Callable`, *optional*): The flags that hold a load on this machine, empty if none are known.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] = time.process_time,
        machine: Callable[[], MachineTime | None] = MachineTime.now,
        recall: Callable[[Load], list[str]] = store.recall,
    ) -> None:
        self._clock, self._cpu_clock, self._machine, self._recall = clock, cpu_clock, machine, recall
        self._recordings: WeakKeyDictionary[DatasetWriter, _Recording] = WeakKeyDictionary()

    # --- what the writer tells

    def adding_frame(self, writer: "DatasetWriter") -> None:
        """The time until `frame_added` is the writer's."""
        self._of(writer).adding_s = self._clock()

    def frame_added(self, writer: "DatasetWriter", frame_index: int) -> None:
        """Count the frame, and see now and then whether there is something to say."""
        recording = self._of(writer)
        now = self._clock()
        parts = {**SPENT.take(), WRITER: now - recording.adding_s}
        recording.rhythm.frame(frame_index, now, self._cpu_clock(), parts)
        if frame_index == 0:
            recording.dropped = {}
        dropped = dict(getattr(_streaming(writer), "_dropped_frames", {}))
        if sum(dropped.values()) > sum(recording.dropped.values()):
            recording.dropped = dropped
            self._warn_of_drops(writer, recording, frame_index, now)
        if frame_index % max(1, writer._meta.fps) == 0:
            self._look(writer, recording, now)

    def busy(self, writer: "DatasetWriter", *, with_finish: bool) -> None:
        """Saving takes its time."""
        self._of(writer).rhythm.interrupt()

    def episode_saved(self, writer: "DatasetWriter", episode: SavedEpisode) -> None:
        """Remember an episode whose pictures and joints do not belong together."""
        recording = self._of(writer)
        if recording.dropped:
            recording.spoilt[episode.index] = sum(recording.dropped.values())
        recording.dropped = {}

    def episode_cleared(self, writer: "DatasetWriter") -> None:
        """It will be recorded again."""
        recording = self._of(writer)
        recording.rhythm.interrupt()
        recording.dropped = {}

    def finished(self, writer: "DatasetWriter") -> None:
        """Sum up."""
        recording = self._recordings.pop(writer, None)
        if recording is None:
            return
        rhythm = recording.rhythm
        if rhythm.mean_hz is not None:
            # Again at the end: stock warns of each late step, and ours scrolls away between its lines.
            logger.log(
                logging.WARNING if rhythm.is_slow_in_all else logging.INFO,
                "lerobot_ext: recorded at %.1f Hz of %g; %d of %d frames came late.%s",
                rhythm.mean_hz,
                rhythm.fps,
                rhythm.n_late,
                rhythm.n_counted,
                f" At last, {recording.advice}" if rhythm.is_slow_in_all and recording.advice else "",
            )
        if recording.spoilt:
            # Imported here: only a recording that went wrong needs it.
            from lerobot_ext.doctor.dataset_content import edit_command

            logger.warning(
                "lerobot_ext: pictures were dropped in %s; from then on they do not belong to the joints of "
                "their rows. Leave these episodes out: `%s`",
                ", ".join(f"episode {index} ({n})" for index, n in recording.spoilt.items()),
                edit_command(
                    writer._root,
                    writer._meta.repo_id,
                    "delete_episodes",
                    episode_indices=list(recording.spoilt),
                ),
            )

    # --- what it says

    def _look(self, writer: "DatasetWriter", recording: _Recording, now: float) -> None:
        """Once a second: is it slow, and why."""
        machine, before = self._machine(), recording.machine
        recording.machine = machine
        share = machine.share_since(before) if machine is not None and before is not None else None
        behind = recording.rhythm.behind(
            queue_fill=_queue_fill(writer), dropped=bool(recording.dropped), machine_share=share
        )
        if behind is None:
            return
        recording.advice = f"{explain(behind)}. {self._advice(writer, behind.cause)}"
        if self._may_warn(recording, "rate", now):
            logger.warning("%s", describe(behind, recording.advice))

    def _of(self, writer: "DatasetWriter") -> _Recording:
        if writer not in self._recordings:
            self._recordings[writer] = _Recording(Rhythm(writer._meta.fps, cores()))
        return self._recordings[writer]

    def _may_warn(self, recording: _Recording, what: str, now: float) -> bool:
        last = recording.warned_s.get(what)
        if last is not None and now - last < _AGAIN_S:
            return False
        recording.warned_s[what] = now
        return True

    def _warn_of_drops(
        self, writer: "DatasetWriter", recording: _Recording, frame_index: int, now: float
    ) -> None:
        if not self._may_warn(recording, "drops", now):
            return
        cameras = ", ".join(f"{n} of {key}" for key, n in recording.dropped.items())
        logger.warning(
            "lerobot_ext: the video encoder does not keep up and pictures are lost (%s, by frame %d): the "
            "later ones of this episode do not belong to the joints of their rows. Record the episode again "
            "(left arrow key). %s",
            cameras,
            frame_index,
            self._advice(writer, "encoder"),
        )

    def _advice(self, writer: "DatasetWriter", cause: str) -> str:
        """What to do about a slow recording."""
        if cause in _REMEDIES:
            return _REMEDIES[cause]
        load = load_of(writer)
        if load is None:
            return "Close other programs, or record at a lower --dataset.fps."
        measure = f"`lerobot-ext codec --cameras {load.cameras} --size {load.size} --fps {load.fps}`"
        flags = self._recall(load)
        if not flags:
            return f"Run {measure}: it measures this machine and prints the flags that it holds."
        if set(flags) <= flags_of(writer):
            return (
                "These flags were measured to hold on this machine: close other programs, or measure again "
                f"with {measure}."
            )
        return f"Measured to hold on this machine: {' '.join(flags)}"


_REMEDIES: Final = {
    "others": "Close them while you record: no encoder helps against that.",
    "cameras": "`lerobot-ext doctor --cameras` says what each camera delivers.",
    "bus": "`lerobot-ext doctor` with the arm's --robot.type and --robot.port examines its bus.",
    "rest": "A slow teleoperator, policy or display (--display_data=true) does that; or lower --dataset.fps.",
}
_CAUSES: Final = {
    "encoder": "the video encoder does not keep up",
    "cpu": "the CPU is busy, so that steps come late although each is short",
    "others": "other programs use the CPU",
    "cameras": "reading the cameras takes long",
    "bus": "reading and writing the motors takes long",
    "rest": "the time goes elsewhere than to writer, cameras and motors",
}

_UNTOLD: Final = "the writer is quick, so that it is the cameras, the motors, or what tells the arm to move"


def explain(behind: Behind) -> str:
    """Why it is slow, with the figures that say so."""
    # A robot that tells nothing of its time may spend it in its cameras and motors.
    untold = behind.cause == "rest" and set(behind.parts_ms) <= {WRITER}
    spent = ", ".join(f"{name} {ms:.0f}" for name, ms in sorted(behind.parts_ms.items()))
    everything = f", everything {behind.machine_share:.0%}" if behind.machine_share is not None else ""
    cause = _UNTOLD if untold else _CAUSES[behind.cause]
    return (
        f"{cause} (of {1e3 / behind.hz:.0f} ms a frame: {spent} ms; this process "
        f"uses {behind.cpu_share:.0%} of the cores{everything})"
    )


def describe(behind: Behind, advice: str) -> str:
    """One line about a slow recording."""
    return f"lerobot_ext: this recording runs at {behind.hz:.1f} Hz instead of {behind.fps:g}: {advice}"


def load_of(writer: "DatasetWriter") -> Load | None:
    """The colour cameras that a writer makes videos of; `None` if there are none, or none to measure."""
    keys = [key for key in writer._meta.video_keys if key not in writer._meta.depth_keys]
    shapes = [writer._meta.features[key]["shape"] for key in keys]
    if not shapes:
        return None
    height, width = max((shape[:2] for shape in shapes), key=lambda shape: shape[0] * shape[1])
    try:
        return Load(len(keys), width, height, writer._meta.fps)
    except ValueError:
        return None


def flags_of(writer: "DatasetWriter") -> set[str]:
    """The options of `lerobot-record` that a writer was made with, as `Candidate.flags` words them."""
    streaming, encoder = _streaming(writer), writer._rgb_encoder
    if streaming is None:
        return set()
    fields = {name: getattr(encoder, name) for name in ("vcodec", "preset", "crf", "g", "fast_decode")}
    flags = {f"--dataset.rgb_encoder.{name}={value}" for name, value in fields.items()}
    return flags | {
        "--dataset.streaming_encoding=true",
        f"--dataset.encoder_threads={writer._encoder_threads}",
        f"--dataset.encoder_queue_maxsize={streaming.queue_maxsize}",
    }


def _streaming(writer: "DatasetWriter") -> Any:
    return getattr(writer, "_streaming_encoder", None)


def _queue_fill(writer: "DatasetWriter") -> float:
    """Share that is filled of the fullest encoder's queue."""
    streaming = _streaming(writer)
    queues = getattr(streaming, "_frame_queues", {}).values()
    return max((queue.qsize() for queue in queues), default=0) / max(
        1, getattr(streaming, "queue_maxsize", 1)
    )


WATCH: Final = RecordingWatch()


def start() -> None:
    """Watch over this process' recordings; calling it again changes nothing.

    FFmpeg's own log is kept to warnings, which LeRobot means to do as well (it sets PyAV's threshold, then
    switches back to the log that does not know it): x264 writes ten lines for each camera and episode, and
    nobody would see ours between them.
    """
    av.logging.set_libav_level(av.logging.WARNING)
    observe(WATCH)
