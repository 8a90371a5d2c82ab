# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext doctor --cameras`: opens each camera once, names it, measures its true rate and size."""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lerobot_ext.cli.command import CommandError
from lerobot_ext.doctor.child import Answer
from lerobot_ext.doctor.extension import DoctorCheck
from lerobot_ext.doctor.findings import Finding, Section, note, problem, problems_first

_N_FRAMES: Final = 30
_TIMEOUT_S: Final = 25.0
_ZMQ_S: Final = 5.0
_N_INDICES: Final = 10
"""Indices tried where the system does not list its cameras; LeRobot tries 60, which takes minutes."""
_SLOW: Final = 0.9
"""A camera below this share of the rate it claims starves a recording at that rate."""
_ZMQ: Final = "zmq://"

Ask = Callable[[str, Sequence[str], float], Answer]


@dataclass(frozen=True)
class Device:
    """One camera of this machine, as the system lists it.

    Args:
        target (`str`): What LeRobot's `index_or_path` would be: `/dev/video0`, or an index.
        name (`str`): What the camera calls itself; empty where the system does not tell.
        metadata_only (`bool`): Whether it is the second node of a camera, which holds no pictures.
        stable_path (`str`): A name that stays after a reboot; empty where there is none.
    """

    target: str
    name: str = ""
    metadata_only: bool = False
    stable_path: str = ""


@dataclass(frozen=True)
class System:
    """Where the facts come from; tests put their own here.

    Args:
        ask (`Callable`): `child.ask`.
        child (`str`): The module that opens a camera.
        sysfs (`Path`), dev (`Path`), proc (`Path`): Linux's file systems.
        platform (`str`): As `sys.platform`.
        may_use (`Callable`): Whether this user may read and write a device.
        timeout_s (`float`): How long one camera may take.
    """

    ask: Ask
    child: str = "lerobot_ext.doctor.camera_child"
    sysfs: Path = Path("/sys")
    dev: Path = Path("/dev")
    proc: Path = Path("/proc")
    platform: str = sys.platform
    may_use: Callable[[str], bool] = field(default=lambda path: os.access(path, os.R_OK | os.W_OK))
    timeout_s: float = _TIMEOUT_S


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--cameras",
        nargs="*",
        metavar="CAMERA",
        help="examine the cameras, all of them or those named: an index, a device, or zmq://HOST:PORT[/NAME]",
    )


def _examine(args: Namespace) -> list[Section]:
    from lerobot_ext.cli.look import progress
    from lerobot_ext.doctor.child import ask

    with progress() as bar:
        task = bar.add_task("Looking for cameras", total=None)

        def told_ask(module: str, words: Sequence[str], timeout_s: float) -> Answer:
            bar.update(task, description=f"Opening camera {words[1]}")
            return ask(module, words, timeout_s)

        return [examine(System(told_ask), args.cameras or [])]


def examine(system: System, wanted: Sequence[str] = ()) -> Section:
    """The section about the cameras; each is opened once.

    Args:
        system (`System`): Where to look.
        wanted (`Sequence[str]`, *optional*): Only these; all that the system lists by default.

    Raises:
        CommandError: A `zmq://` address is none.
    """
    addresses = [_address(word) for word in wanted if word.startswith(_ZMQ)]
    listed = list_devices(system)
    known = {device.target: device for device in listed}
    devices = [_device(word, known, system) for word in wanted if not word.startswith(_ZMQ)]
    devices = devices if wanted else listed
    findings: list[Finding] = []
    facts: list[dict[str, Any]] = []
    for device in devices:
        if device.metadata_only:
            continue
        entry, found = _look_at(device, system, named=bool(wanted) or bool(listed and listed[0].name))
        facts += [entry] if entry else []
        findings += found
    for address, name in addresses:
        entry, found = _listen_to(address, name, system)
        facts.append(entry)
        findings += found
    if not facts and not findings:
        findings.append(_none(system))
    findings += _about_indices([device for device in devices if not device.metadata_only], facts)
    return Section(
        "cameras",
        "this machine",
        problems_first(findings),
        {"cameras": facts},
        [_line(entry) for entry in facts],
    )


def _address(word: str) -> tuple[str, str]:
    """Host and port, and the camera's name if one is given."""
    address, _, name = word.removeprefix(_ZMQ).partition("/")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise CommandError(
            f"{word!r} is no address of a camera", "write zmq://HOST:PORT or zmq://HOST:PORT/NAME"
        )
    return address, name


# --- which there are


def list_devices(system: System) -> list[Device]:
    """The cameras that the system lists; on systems that list none, the first indices."""
    if not system.platform.startswith("linux"):
        return [Device(str(index)) for index in range(_N_INDICES)]
    nodes = sorted(
        (system.sysfs / "class/video4linux").glob("video*"), key=lambda node: int(node.name[5:] or 0)
    )
    return [_describe(node, system) for node in nodes]


def _describe(node: Path, system: System) -> Device:
    def reads(name: str) -> str:
        try:
            return (node / name).read_text().strip()
        except OSError:
            return ""

    device = system.dev / node.name
    links = sorted((system.dev / "v4l/by-path").glob("*")) + sorted((system.dev / "v4l/by-id").glob("*"))
    stable = [link for link in links if os.path.realpath(link) == os.path.realpath(device)]
    # The second node of a UVC camera carries metadata; it opens, but never gives a picture.
    return Device(
        str(device), reads("name"), reads("index") not in ("", "0"), str(stable[0]) if stable else ""
    )


def _device(word: str, known: dict[str, Device], system: System) -> Device:
    """What the user named: an index stands for `/dev/videoN` on Linux."""
    path = (
        str(system.dev / f"video{word}") if word.isdecimal() and system.platform.startswith("linux") else word
    )
    if path in known:
        return known[path]
    real = os.path.realpath(path)
    return next(
        (device for device in known.values() if os.path.realpath(device.target) == real), Device(word)
    )


# --- one camera


def _look_at(device: Device, system: System, *, named: bool) -> tuple[dict[str, Any] | None, list[Finding]]:
    """What was measured of a camera, `None` if there is none, and the findings."""
    path = Path(device.target)
    if path.is_absolute() and path.is_char_device() and not system.may_use(device.target):
        return None, [_permission(device)]
    told = system.ask(system.child, ["opencv", device.target, str(_N_FRAMES)], system.timeout_s)
    entry = {"camera": device.target, "name": device.name, "stable_path": device.stable_path, **told.value}
    if told.failure:
        return entry, [_dead(device, told)]
    if not told.value["opened"]:
        return (entry, [_closed(device, system)]) if named else (None, [])
    return entry, list(_about_frames(device, told.value, system))


def _permission(device: Device) -> Finding:
    return problem(
        "camera_permission",
        device.target,
        "this user may not open it",
        "`sudo usermod -aG video $USER`, then log out and in again; on macOS allow the terminal the camera "
        "in "
        "System Settings, Privacy & Security",
    )


def _dead(device: Device, told: Answer) -> Finding:
    if told.timed_out:
        return problem(
            "camera_hangs",
            device.target,
            f"{device.name or 'the camera'} {told.failure}: its driver hangs",
            "pull its plug and put it back, in another USB port; a hub without its own power is the usual "
            "cause",
        )
    return problem(
        "camera_crash",
        device.target,
        f"opening {device.name or 'the camera'} killed the process: it {told.failure}",
        "update its driver and OpenCV: `pip install --upgrade opencv-python-headless`",
    )


def _closed(device: Device, system: System) -> Finding:
    from lerobot_ext.doctor.adapter import other_programs

    holders = other_programs(device.target, system.proc)
    if holders:
        return problem(
            "camera_busy",
            device.target,
            f"{device.name or 'it'} is in use by {', '.join(holders)}",
            f"end that program first: `kill {holders[0].split()[1]}`",
        )
    return problem(
        "camera_closed",
        device.target,
        f"{device.name or 'it'} does not open",
        "find the right index with `lerobot-find-cameras opencv`; plug it into another USB port; close other "
        "programs that show its picture",
    )


def _about_frames(device: Device, seen: dict[str, Any], system: System) -> Iterator[Finding]:
    name = device.name or "the camera"
    claimed = seen["claimed"]
    if not seen["frames"]:
        yield problem(
            "camera_no_frames",
            device.target,
            f"{name} opens and gives no picture",
            "give it a USB port of its own: two cameras on one hub exceed its bandwidth; try "
            "`fourcc: MJPG` in its configuration",
        )
        return
    if seen["failed"] > seen["frames"] // 10:
        yield problem(
            "camera_drops",
            device.target,
            f"{seen['failed']} of {seen['frames'] + seen['failed']} reads gave no picture",
            "a shorter cable, a USB port without a hub, or a smaller picture",
        )
    if (seen["width"], seen["height"]) != (claimed["width"], claimed["height"]):
        yield problem(
            "camera_size",
            device.target,
            f"it claims {claimed['width']}x{claimed['height']} and gives {seen['width']}x{seen['height']}",
            f"set width={seen['width']}, height={seen['height']} in its configuration, or `fourcc: MJPG`",
        )
    yield from _about_rate(device, seen, system)
    if seen["frames"] > 5 and seen["distinct"] <= 1:
        yield problem(
            "camera_frozen",
            device.target,
            f"all {seen['frames']} pictures are the same, bit by bit",
            "take off its cover; a virtual camera or a capture card without signal shows a still",
        )


def _about_rate(device: Device, seen: dict[str, Any], system: System) -> Iterator[Finding]:
    fps, claimed = seen["fps"], seen["claimed"]["fps"]
    if fps is not None and claimed > 0 and fps < _SLOW * claimed:
        yield problem(
            "camera_fps",
            device.target,
            f"it claims {claimed:g} fps and gives {fps:g}",
            "more light (a long exposure halves the rate), `fourcc: MJPG`, a smaller picture, or "
            f"`fps: {max(1, int(fps / 5) * 5)}` in its configuration and `--dataset.fps`",
        )
    if system.platform == "win32" and seen.get("backend") == "MSMF":
        yield note(
            "camera_msmf",
            device.target,
            "OpenCV opens it through Media Foundation, which takes many seconds and may ignore fps and size",
            "set `backend: 700` (DirectShow) in its configuration, or the environment variable "
            "OPENCV_VIDEOIO_MSMF_ENABLE_HW_TRANSFORMS=0",
        )


# --- all of them


def _none(system: System) -> Finding:
    hint = (
        "`ls /dev/video*` lists what Linux sees" if system.platform.startswith("linux") else "check its plug"
    )
    return note("no_camera", "cameras", "there is no camera", f"plug one in; {hint}")


def _about_indices(devices: list[Device], facts: list[dict[str, Any]]) -> Iterator[Finding]:
    """Which of several cameras gets which index is decided anew at each start."""
    open_targets = {entry["camera"] for entry in facts if entry.get("opened")}
    devices = [device for device in devices if device.target in open_targets]
    names = [device.name for device in devices if device.name]
    twins = sorted({name for name in names if names.count(name) > 1})
    if len(devices) < 2:
        return
    stable = [f"{device.target} is {device.stable_path}" for device in devices if device.stable_path]
    what = f"two are called {twins[0]!r}" if twins else f"there are {len(devices)} cameras"
    yield note(
        "camera_index",
        "cameras",
        f"{what}, and an index or /dev/videoN may be another one after a restart",
        f"use the path that stays as `index_or_path`: {'; '.join(stable)}"
        if stable
        else "leave each in its USB port; compare the pictures of `lerobot-find-cameras` before recording",
    )


def _line(entry: dict[str, Any]) -> str:
    words = [entry["camera"], entry.get("name", "")]
    if entry.get("fps") is not None:
        words.append(f"{entry['fps']:g} fps")
    if entry.get("width"):
        words.append(f"{entry['width']}x{entry['height']}")
    words += [f"{name} {size['width']}x{size['height']}" for name, size in entry.get("published", {}).items()]
    return " ".join(word for word in words if word)


# --- cameras of the network


def _listen_to(address: str, name: str, system: System) -> tuple[dict[str, Any], list[Finding]]:
    target = f"{_ZMQ}{address}"
    told = system.ask(system.child, ["zmq", address, str(_ZMQ_S)], system.timeout_s)
    seen = told.value or {"messages": 0, "fps": None, "cameras": {}, "error": told.failure}
    entry = {
        "camera": target,
        "messages": seen["messages"],
        "fps": seen["fps"],
        "published": seen["cameras"],
        "error": seen["error"],
    }
    return entry, list(_about_messages(target, name, seen))


def _about_messages(target: str, name: str, seen: dict[str, Any]) -> Iterator[Finding]:
    if seen["error"]:
        yield problem(
            "camera_zmq",
            target,
            f"what comes from there cannot be used: {seen['error'][:200]}",
            'publish JSON texts {"images": {NAME: base64 of a JPEG}}, as `lerobot-ext sim` does',
        )
    elif not seen["messages"]:
        yield problem(
            "camera_zmq",
            target,
            f"no message within {_ZMQ_S:g} s",
            "start the publisher, check host and port, and that a firewall lets the port through",
        )
    elif name and name not in seen["cameras"]:
        yield problem(
            "camera_zmq_name",
            target,
            f"there is no camera {name!r}; published are {', '.join(seen['cameras']) or 'none'}: LeRobot "
            "takes the first one without a word",
            f"set `camera_name` to {' or '.join(seen['cameras']) or 'a published name'}",
        )
    for camera, size in seen["cameras"].items():
        if not size["width"]:
            yield problem(
                "camera_zmq",
                f"{target}/{camera}",
                "its picture does not decode",
                "publish it as JPEG in base64",
            )


CHECK = DoctorCheck(
    name="cameras",
    configure=_configure,
    applies=lambda args: args.cameras is not None,
    examine=_examine,
    needs_nothing=True,
)
