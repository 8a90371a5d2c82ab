# SPDX-License-Identifier: Apache-2.0
"""The measurement behind `lerobot-ext codec`: try all candidates, choose, verify, or say what would hold."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from lerobot_ext.recording import choose
from lerobot_ext.recording.candidates import STOCK, Candidate, candidates, cores
from lerobot_ext.recording.choose import Row
from lerobot_ext.recording.load import Load
from lerobot_ext.recording.record_path import Recorded, record
from lerobot_ext.recording.scene import Picture
from lerobot_ext.recording.trial import Effort, TrialError, encode, frames_within_memory, opens, pace, quiet

_PICTURES: Final = 60
_VERIFIED: Final = 3
Progress = Callable[[str], object]


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Args:
        load (`Load`): The cameras.
        seconds (`float`): Length of each paced run.
        headroom (`float`): Share of its speed that the machine must have left: it is fed faster by that.
        vcodec (`str | None`): Only this codec, besides stock's default.
        quick (`bool`): Few candidates, few frames, no other loads.
        folder (`Path | None`): The disk to write to; the temporary folder by default.
    """

    load: Load
    seconds: float = 5.0
    headroom: float = 0.2
    vcodec: str | None = None
    quick: bool = False
    folder: Path | None = None

    @property
    def fed_fps(self) -> float:
        """The rate at which candidates are fed."""
        return self.load.fps / (1 - self.headroom)


@dataclass
class Found:
    """What was found.

    Args:
        rows (`list[Row]`): A row for each candidate.
        chosen (`Row | None`): The recommended one.
        verified (`Recorded | None`): The recording that proved it.
        png (`Recorded | None`): The same without streaming.
        lighter (`dict`): When nothing holds: what does, by what was lowered, with the candidate that does it.
        hardware (`dict`): Why each of LeRobot's hardware encoders is left out; empty for one that works.
    """

    rows: list[Row] = field(default_factory=list)
    chosen: Row | None = None
    verified: Recorded | None = None
    png: Recorded | None = None
    lighter: dict[str, tuple[Load, Candidate]] = field(default_factory=dict)
    hardware: dict[str, str] = field(default_factory=dict)


def survey(plan: Plan, pictures: Sequence[Picture], tell: Progress) -> Found:
    """Measure this machine.

    Args:
        plan (`Plan`): What for.
        pictures (`Sequence`): What the cameras see.
        tell (`Callable`): Told what is being done, for people.
    """
    with quiet(), tempfile.TemporaryDirectory(dir=plan.folder) as name:
        folder, found = Path(name), Found()
        for candidate in _to_try(plan, found):
            tell(f"{candidate.name}: {plan.load.cameras} cameras at once")
            found.rows.append(_try(candidate, plan, pictures, folder))
        reference = found.rows[0].effort
        best = choose.ranked(found.rows, reference.psnr if reference is not None else 0.0)
        _verify(best, plan, pictures, folder, found, tell)
        if found.chosen is None and not plan.quick:
            _look_lower(plan, pictures, folder, found, tell)
        tell("PNG files, encoded when the episode is saved")
        found.png = record(None, plan.load, pictures, folder, plan.seconds)
    return found


def picture_count(plan: Plan) -> int:
    """How many pictures a measurement needs: enough to move, and to fit into memory."""
    return frames_within_memory(replace(plan.load, cameras=1), 20 if plan.quick else _PICTURES)


def _to_try(plan: Plan, found: Found) -> list[Candidate]:
    from lerobot.configs.video import HW_VIDEO_CODECS

    wanted = [name for name in HW_VIDEO_CODECS if plan.vcodec in (None, name)]
    found.hardware = {name: opens(name) for name in wanted}
    working = [name for name, problem in found.hardware.items() if not problem]
    tried = candidates(plan.load, working, quick=plan.quick and plan.vcodec is None)
    return [one for one in tried if one.is_stock or plan.vcodec in (None, one.vcodec)]


def _try(candidate: Candidate, plan: Plan, pictures: Sequence[Picture], folder: Path) -> Row:
    load = plan.load
    n = frames_within_memory(load, 20 if plan.quick else 45)
    try:
        effort = encode(candidate, load, pictures, folder, n)
        if _hopeless(effort, load):
            return Row(candidate, effort, None, f"needs {load.frames_per_s} f/s")
        fed = pace(candidate, load, pictures, folder, plan.fed_fps, plan.seconds)
    except TrialError as error:
        return Row(candidate, why_not=f"does not work here: {error}")
    return Row(candidate, effort, fed, choose.shortfall(fed))


def _hopeless(effort: Effort, load: Load) -> bool:
    """Whether feeding it steadily would show nothing new: too slow, and not for want of a free core."""
    needed_cores = effort.cpu_ms * load.frames_per_s / 1e3
    # Start and end of a short run cost some of its speed.
    return effort.frames_per_s < 0.75 * load.frames_per_s and needed_cores > 0.75 * cores()


def _verify(
    best: Sequence[Row],
    plan: Plan,
    pictures: Sequence[Picture],
    folder: Path,
    found: Found,
    tell: Progress,
) -> None:
    """Record with the best ones in turn, until one is in time."""
    for row in best[:_VERIFIED]:
        tell(f"{row.candidate.name}: a recording through LeRobot's writer")
        recorded = record(row.candidate, plan.load, pictures, folder, plan.seconds)
        if recorded.keeps(plan.load.fps):
            found.chosen, found.verified = row, recorded
            return
        place = found.rows.index(row)
        found.rows[place] = replace(row, why_not=f"recorded at {recorded.hz:.1f} Hz, {recorded.late} late")


def _look_lower(plan: Plan, pictures: Sequence[Picture], folder: Path, found: Found, tell: Progress) -> None:
    """With the fastest candidate: the least that has to be given up."""
    working = [row for row in found.rows if row.effort is not None]
    if not working:
        return
    # By CPU time: on a busy machine, where nothing may hold, speeds say little.
    fastest = min(working, key=lambda row: row.effort.cpu_ms if row.effort is not None else float("inf"))
    speed = fastest.effort.frames_per_s if fastest.effort is not None else 0.0
    pixels_per_s = speed * plan.load.width * plan.load.height * (1 - plan.headroom)

    def holds(load: Load) -> bool:
        tell(f"{fastest.candidate.name}: {load}")
        less = replace(plan, load=load)
        resized = _resized(pictures, load)
        fed = pace(fastest.candidate, load, resized, folder, less.fed_fps, plan.seconds)
        return not choose.shortfall(fed)

    for what, loads in choose.lighter(plan.load).items():
        load = choose.first_that_holds(loads, pixels_per_s, holds)
        if load is not None:
            found.lighter[what] = (load, fastest.candidate)


def _resized(pictures: Sequence[Picture], load: Load) -> list[Picture]:
    import av

    frames: list[Any] = [av.VideoFrame.from_ndarray(picture, "rgb24") for picture in pictures]
    return [frame.reformat(load.width, load.height, "rgb24").to_ndarray() for frame in frames]


def stock_row(found: Found) -> Row:
    """What LeRobot does by default when it streams."""
    return next(row for row in found.rows if row.candidate == STOCK)
