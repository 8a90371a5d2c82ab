# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext doctor --recording`: whether LeRobot's default encoder holds the cameras on this machine."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Any, Final

from lerobot_ext.doctor.extension import DoctorCheck
from lerobot_ext.doctor.findings import Finding, Section, note, problem
from lerobot_ext.recording.load import Load

_TIMEOUT_S: Final = 180.0
_USUAL: Final = "3x640x480@30"


def _load(word: str) -> Load:
    try:
        return Load.parse(word)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--recording",
        nargs="?",
        const=_USUAL,
        type=_load,
        metavar="NxWxH@FPS",
        help=f"try LeRobot's default video encoder with these cameras (default: {_USUAL})",
    )


def _examine(args: Namespace) -> list[Section]:
    from lerobot_ext.doctor.child import ask

    load = args.recording or Load.parse(_USUAL)
    told = ask("lerobot_ext.doctor.recording_child", [load.word], _TIMEOUT_S)
    if told.failure:
        return [Section("recording", str(load), [_broken(told.failure)])]
    return [conclude(told.value, load)]


def conclude(found: dict[str, Any], load: Load) -> Section:
    """The section about what `recording_child.look` found.

    Args:
        found (`dict`): Its answer.
        load (`Load`): The cameras.
    """
    findings = []
    speed = found["frames_per_s"]
    if speed < load.frames_per_s:
        measure = f"`lerobot-ext codec --cameras {load.cameras} --size {load.size} --fps {load.fps}`"
        known = f"record with {' '.join(found['flags'])}" if found["flags"] else ""
        findings.append(
            note(
                "encoder_slow",
                load.word,
                f"with {load.cameras} cameras at once LeRobot's default encoder (libsvtav1) makes "
                f"{speed:.0f} frames/s here; {load.cameras} at {load.fps} fps are {load.frames_per_s}: a "
                "recording with it loses its rate, or saves its episodes slowly",
                known or f"{measure} finds flags that hold",
            )
        )
    lines = [f"LeRobot's default encoder makes {speed:.0f} frames/s, {load.frames_per_s} are needed"]
    if found["flags"]:
        lines.append(f"flags that were measured here: {' '.join(found['flags'])}")
    return Section("recording", str(load), findings, facts=found, lines=lines)


def _broken(failure: str) -> Finding:
    return problem(
        "video_libraries",
        "LeRobot's default encoder",
        f"the process that encodes with it {failure}",
        "`lerobot-ext doctor --video` says which codecs work",
    )


CHECK = DoctorCheck(
    name="recording",
    configure=_configure,
    applies=lambda args: args.recording is not None,
    examine=_examine,
    needs_nothing=True,
)
