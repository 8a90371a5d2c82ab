# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a bus without physics for byte-level tests, and whole benches."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dynamixel_sdk as dxl
import pytest
from lerobot_env_koch.bench.arm import Arm, make_follower
from lerobot_env_koch.bench.assembly import Bench, BenchConfig
from lerobot_env_koch.bench.bus import VirtualBus
from lerobot_env_koch.bench.fault_injector import FaultInjector
from lerobot_env_koch.bench.faults import FaultPlan


class PatientPort(dxl.PortHandler):
    """The SDK's port with half a second more patience: a busy test machine is no fault."""

    def setPacketTimeout(self, packet_length: int) -> None:  # noqa: N802
        super().setPacketTimeout(packet_length)
        self.packet_timeout += 500.0


@pytest.fixture(autouse=True)
def _own_calibration_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LeRobot fixes its calibration folder at import: point the devices' base classes elsewhere."""
    import lerobot.robots.robot as robot
    import lerobot.teleoperators.teleoperator as teleoperator

    for module in (robot, teleoperator):
        monkeypatch.setattr(module, "HF_LEROBOT_CALIBRATION", tmp_path / "calibration")


@pytest.fixture
def follower_bus() -> Iterator[tuple[Arm, VirtualBus]]:
    """A follower's servos on a port, at rest; no physics."""
    arm = make_follower()
    bus = VirtualBus("follower", arm.servos, FaultInjector(FaultPlan(), seed=0))
    bus.start()
    yield arm, bus
    bus.stop()


@pytest.fixture
def sdk(follower_bus: tuple[Arm, VirtualBus]) -> Iterator[tuple[Any, Any]]:
    """The real dynamixel-sdk, connected to `follower_bus`."""
    port = PatientPort(follower_bus[1].port)
    assert port.openPort()
    yield port, dxl.PacketHandler(2.0)
    port.closePort()


@pytest.fixture
def start_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Starts benches without cameras (unless asked for) and stops them at the end."""
    running: list[Bench] = []

    def start(**fields: Any) -> Bench:
        run_dir = fields.pop("run_dir", tmp_path / f"bench{len(running)}")
        if fields.get("calibrated"):
            fields.setdefault("calibration_dir", tmp_path / "calibration")  # where the devices look here
        config = BenchConfig(**{"cameras": (), "base_port": 0, "run_dir": run_dir, **fields})
        bench = Bench(config)
        running.append(bench)
        bench.start()
        return bench

    yield start
    for bench in running:
        bench.stop()
