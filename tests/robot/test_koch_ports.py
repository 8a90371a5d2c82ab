# SPDX-License-Identifier: Apache-2.0
"""What is said about a serial port that cannot be opened, on Linux and on Windows."""

import os

import pytest
from lerobot_robot_koch import ports


@pytest.fixture
def windows(monkeypatch):
    monkeypatch.setattr(ports.sys, "platform", "win32")
    monkeypatch.setattr(ports, "existing_ports", lambda _: ["COM4", "COM7"])


def test_a_missing_com_port_is_told_with_those_there_are(windows):
    text = ports.describe_failure("COM5", FileNotFoundError(2, "…"))
    assert text.startswith("Port 'COM5' does not exist. Ports on this machine: COM4, COM7.")
    assert "lerobot-find-port" in text
    assert "sim" not in text  # the virtual arm needs pseudo-terminals


def test_a_com_port_that_is_open_elsewhere_is_in_use(windows):
    error = OSError("could not open port 'COM4': PermissionError(13, 'Access is denied.', None, 5)")
    text = ports.describe_failure("com4", error)
    assert "is in use by another program" in text
    assert "Dynamixel Wizard" in text


def test_another_failure_of_a_com_port_gives_the_reason(windows):
    assert "cannot be opened: A device failed" in ports.describe_failure(
        "COM7", OSError("A device failed\nx")
    )


def test_device_files(tmp_path):
    gone = tmp_path / "gone"
    gone.symlink_to(tmp_path / "nothing")
    assert "is a link to" in ports.describe_failure(str(gone), None)
    assert "is a file or folder" in ports.describe_failure(str(tmp_path), None)
    assert "does not exist" in ports.describe_failure(str(tmp_path / "no"), None)
    master, slave = os.openpty()
    try:
        text = ports.describe_failure(os.ttyname(slave), OSError(16, "busy"))
    finally:
        os.close(master)
        os.close(slave)
    assert "is in use by another program" in text


def test_latency_advice_needs_a_timer(tmp_path, monkeypatch):
    assert ports.latency_advice("/dev/none") == ""
    assert ports.latency_advice("/dev/none", "else") == "else"
    timer = tmp_path / "ttyUSB3" / "device" / "latency_timer"
    timer.parent.mkdir(parents=True)
    monkeypatch.setattr(ports, "TTYS", tmp_path)
    timer.write_text("16\n")
    advice = ports.latency_advice("/dev/ttyUSB3")
    assert "for 16 ms" in advice
    assert "echo 1 | sudo tee /sys/bus/usb-serial/devices/ttyUSB3/latency_timer" in advice
    timer.write_text("1\n")
    assert ports.latency_advice("/dev/ttyUSB3") == ""
