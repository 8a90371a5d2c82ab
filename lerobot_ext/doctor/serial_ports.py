# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext doctor --ports`: which serial ports there are, and what keeps an arm from being reached.

Everything is read from the system's own lists; no port is opened, so that a running arm is not disturbed.
"""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lerobot_ext.doctor.extension import DoctorCheck
from lerobot_ext.doctor.findings import Finding, Section, note, problem, problems_first

_SLOW_TIMER_MS: Final = 1
# USB serial chips that arms come with, by vendor and product.
CHIPS: Final = {
    "0403:6014": "FTDI FT232H (U2D2, OpenRB)",
    "0403:6001": "FTDI FT232R",
    "2f5d:2202": "ROBOTIS OpenRB-150",
    "1a86:7523": "WCH CH340",
    "1a86:55d3": "WCH CH343 (Waveshare, SO-ARM board)",
    "10c4:ea60": "Silicon Labs CP210x",
}
# What a braille display of that id would be: brltty takes the chip away at once.
_BRLTTY_TAKES: Final = ("1a86:7523", "10c4:ea60", "0403:6001")


@dataclass(frozen=True)
class Port:
    """A serial port as the system lists it.

    Args:
        device (`str`): Such as `/dev/ttyUSB0` or `COM3`.
        usb_id (`str`): Vendor and product, `0403:6014`; empty for a port that is no USB device.
        name (`str`): What the device calls itself.
        serial_number (`str`): Its serial number, empty when it has none.
    """

    device: str
    usb_id: str = ""
    name: str = ""
    serial_number: str = ""


@dataclass(frozen=True)
class System:
    """Where the facts come from; tests put folders of their own here.

    Args:
        ports (`Callable`): Lists the serial ports.
        sysfs (`Path`), proc (`Path`), dev (`Path`): Linux's file systems.
        platform (`str`): As `sys.platform`.
        may_use (`Callable`): Whether this user may read and write a device.
    """

    ports: Callable[[], list[Port]]
    sysfs: Path = Path("/sys")
    proc: Path = Path("/proc")
    dev: Path = Path("/dev")
    platform: str = sys.platform
    may_use: Callable[[str], bool] = field(default=lambda path: os.access(path, os.R_OK | os.W_OK))


def list_ports() -> list[Port]:
    """The USB serial ports of this machine; a motherboard's own, which no arm uses, are left out."""
    from serial.tools import list_ports as serial_list_ports

    return sorted(
        (
            Port(
                port.device,
                f"{port.vid:04x}:{port.pid:04x}",
                port.description or "",
                port.serial_number or "",
            )
            for port in serial_list_ports.comports()
            if port.vid is not None
        ),
        key=lambda port: port.device,
    )


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--ports",
        nargs="*",
        metavar="PORT",
        help="examine the serial ports, all of them or those named",
    )


def _examine(args: Namespace) -> list[Section]:
    try:
        found = examine(System(list_ports), args.ports or [])
    except ModuleNotFoundError:
        missing = problem(
            "pyserial",
            "pyserial",
            "pyserial is not installed, without which no serial arm can be used",
            "`pip install 'lerobot[dynamixel]'` (or `[feetech]`)",
        )
        found = Section("ports", "this machine", [missing])
    return [found]


def examine(system: System, wanted: Iterable[str] = ()) -> Section:
    """The section about the serial ports.

    Args:
        system (`System`): Where to look.
        wanted (`Iterable[str]`, *optional*): Only these ports; all by default.
    """
    listed = {port.device: port for port in system.ports()}
    asked = [listed.get(os.path.realpath(path)) or listed.get(path) or Port(path) for path in wanted]
    ports = asked or list(listed.values())
    findings: list[Finding] = []
    for port in ports:
        findings += _about_port(port, port.device in listed, list(listed), system)
    if not ports:
        findings.append(_about_none(system))
    if system.platform.startswith("linux"):
        findings += _about_brltty(list(listed.values()), system)
        findings += _about_modem_manager(ports, system)
    facts = [_facts(port, system) for port in ports]
    lines = [" ".join(str(value) for value in entry.values() if value) for entry in facts]
    return Section("ports", "this machine", problems_first(findings), {"ports": facts}, lines)


def _facts(port: Port, system: System) -> dict[str, Any]:
    by_id = [link for link in _links(system) if os.path.realpath(link) == os.path.realpath(port.device)]
    return {
        "device": port.device,
        "usb_id": port.usb_id,
        "chip": CHIPS.get(port.usb_id, ""),
        "name": port.name if port.usb_id not in CHIPS else "",
        "serial_number": port.serial_number,
        "stable_name": str(by_id[0]) if by_id else "",
    }


def _links(system: System) -> list[Path]:
    folder = system.dev / "serial" / "by-id"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _about_none(system: System) -> Finding:
    more = (
        "; in a virtual machine or WSL, pass the USB device through (`usbipd attach --wsl`)"
        if system.platform.startswith("linux")
        else ""
    )
    return note(
        "no_port",
        "serial ports",
        "there is no USB serial port",
        "plug the arm in with a cable that carries data and look again; `lsusb` lists what the computer sees"
        f"{more}",
    )


def _about_port(port: Port, is_listed: bool, known: list[str], system: System) -> Iterator[Finding]:
    path = port.device
    if not (is_listed or os.path.lexists(path)):
        yield problem(
            "port_missing",
            path,
            f"there is no such port; there are: {', '.join(known) or 'none'}",
            "check cable and power, find the name with `lerobot-find-port`; on Linux use the link below "
            "/dev/serial/by-id, which stays",
        )
        return
    if system.platform.startswith("linux"):
        yield from _about_rights(port, system)
        yield from _about_timer(port, system)
    from lerobot_ext.doctor.adapter import other_programs

    holders = other_programs(path, system.proc)
    if holders:
        yield problem(
            "port_busy",
            path,
            f"it is in use by {', '.join(holders)}",
            f"end that program first: `kill {holders[0].split()[1]}`",
        )


def _about_rights(port: Port, system: System) -> Iterator[Finding]:
    if system.may_use(port.device):
        return
    group = _group_of(port.device)
    yield problem(
        "port_permission",
        port.device,
        f"this user may not open it; it belongs to group {group}",
        f"`sudo usermod -aG {group} $USER`, then log out and in again (a new terminal is not enough)",
    )


def _group_of(path: str) -> str:
    try:
        return Path(path).group()
    except (OSError, KeyError, NotImplementedError):
        return "dialout"


def _about_timer(port: Port, system: System) -> Iterator[Finding]:
    """An FTDI chip holds replies back until 62 bytes are there or its timer runs out."""
    timer = system.sysfs / "bus/usb-serial/devices" / Path(port.device).name / "latency_timer"
    try:
        timer_ms = int(timer.read_text())
    except (OSError, ValueError):
        return
    if timer_ms > _SLOW_TIMER_MS:
        yield problem(
            "latency_timer",
            port.device,
            f"the adapter keeps bytes back for {timer_ms} ms; an answer takes about 1 ms",
            f"`echo 1 | sudo tee {timer}`; for good, a udev rule: "
            'ACTION=="add", SUBSYSTEM=="usb-serial", DRIVER=="ftdi_sio", ATTR{latency_timer}="1"',
        )


def _about_brltty(listed: list[Port], system: System) -> Iterator[Finding]:
    """Ubuntu's braille service takes CH340 and CP210x chips: the port is gone a second after it came."""
    have = {port.usb_id for port in listed}
    lost = [usb_id for usb_id in _usb_ids(system) if usb_id in _BRLTTY_TAKES and usb_id not in have]
    if lost and any(
        (system.sysfs.parent / place).exists()
        for place in ("usr/bin/brltty", "usr/sbin/brltty", "bin/brltty")
    ):
        yield problem(
            "brltty",
            lost[0],
            f"a {CHIPS.get(lost[0], lost[0])} is plugged in and has no port: brltty takes it for a braille "
            "display",
            "`sudo apt remove brltty`, then plug the arm in again",
        )


def _usb_ids(system: System) -> list[str]:
    ids = []
    for device in sorted((system.sysfs / "bus/usb/devices").glob("*")):
        try:
            ids.append(
                f"{(device / 'idVendor').read_text().strip()}:{(device / 'idProduct').read_text().strip()}"
            )
        except OSError:
            continue  # an interface, not a device
    return ids


def _about_modem_manager(ports: list[Port], system: System) -> Iterator[Finding]:
    acm = [port for port in ports if Path(port.device).name.startswith("ttyACM")]
    if acm and any(_comm(folder) == "ModemManager" for folder in system.proc.glob("[0-9]*")):
        vendor = acm[0].usb_id.partition(":")[0] or "VVVV"
        yield note(
            "modem_manager",
            acm[0].device,
            "ModemManager is running: it talks to a new port for seconds, and an arm that is used meanwhile "
            "loses packets",
            f'a udev rule: ATTRS{{idVendor}}=="{vendor}", ENV{{ID_MM_DEVICE_IGNORE}}="1"; or '
            "`sudo systemctl disable --now ModemManager`",
        )


def _comm(folder: Path) -> str:
    try:
        return (folder / "comm").read_text().strip()
    except OSError:
        return ""


CHECK = DoctorCheck(
    name="ports",
    configure=_configure,
    applies=lambda args: args.ports is not None,
    examine=_examine,
    needs_nothing=True,
)
