# SPDX-License-Identifier: Apache-2.0
"""Puts the bench together: arms, buses, physics, hand, cameras, tracker, control socket, run directory."""

import json
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from lerobot_env_koch.bench.arm import Arm, make_follower, make_leader
from lerobot_env_koch.bench.bus import VirtualBus
from lerobot_env_koch.bench.calibrated import calibrate, default_calibration_dir, write_file
from lerobot_env_koch.bench.cameras import CameraPublisher, CameraSpec, scene_size
from lerobot_env_koch.bench.control import ControlServer
from lerobot_env_koch.bench.fault_injector import FaultInjector
from lerobot_env_koch.bench.faults import FaultPlan, check_ids
from lerobot_env_koch.bench.hand import Hand, HandMode
from lerobot_env_koch.bench.replay import ReplayedFaults
from lerobot_env_koch.bench.trace import Trace, TraceWriter
from lerobot_env_koch.bench.tracker import TrackerPublisher
from lerobot_env_koch.bench.world_loop import WorldLoop
from lerobot_env_koch.constants import CAMERAS, ENVIRONMENT_STATE_NAMES, FPS
from lerobot_env_koch.physics import KochWorld
from lerobot_env_koch.tasks import check_task

BIND: Final = "127.0.0.1"
DEFAULT_BASE_PORT: Final = 5600
_SAVE_EVERY_S: Final = 0.5
_SWITCH_INTERVAL_S: Final = 0.0005


def default_run_dir() -> Path:
    """Where ports, sockets and the servos' permanent memory go when nothing else is asked for."""
    return Path(tempfile.gettempdir()) / f"koch-sim-{os.getuid()}"


@dataclass
class BenchConfig:
    """What to simulate.

    Args:
        task (`str`, *optional*, defaults to `"lift"`): `reach`, `lift`, `place` or `tour`.
        seed (`int`, *optional*, defaults to `0`): Seed of scenes, hand and faults.
        cameras (`tuple[str, ...]`, *optional*): Cameras to publish.
        camera_height (`int`, *optional*, defaults to `96`): Rows of a frame.
        camera_width (`int`, *optional*, defaults to `96`): Columns of a frame.
        camera_fps (`float`, *optional*, defaults to `30`): Frames a second.
        hand (`HandMode`, *optional*): What the scripted hand does.
        faults (`FaultPlan`, *optional*): Faults on both buses.
        run_dir (`Path`, *optional*): Folder for port links, control socket and permanent memory.
        control_socket (`Path | None`, *optional*): Control socket; `run_dir/control.sock` when not given.
        base_port (`int`, *optional*, defaults to `5600`): Cameras use this TCP port and the ones after it,
            the tracker the next; 0 lets the system choose.
        fresh (`bool`, *optional*, defaults to `False`): Forget the servos' permanent memory: uncalibrated
            arms.
        calibrated (`bool`, *optional*, defaults to `False`): Start with the canonical calibration, and write
            LeRobot's calibration files to match.
        calibration_dir (`Path | None`, *optional*): LeRobot's calibration folder, for those files; its own
            when not given.
        trace (`Path | None`, *optional*): File to write every packet to.
        replay (`Path | None`, *optional*): Trace whose packets' fates are repeated.

    Raises:
        ValueError: A field's value is out of range, or fields contradict each other; the message names them.
    """

    task: str = "lift"
    seed: int = 0
    cameras: tuple[str, ...] = CAMERAS
    camera_height: int = 96
    camera_width: int = 96
    camera_fps: float = float(FPS)
    hand: HandMode = field(default_factory=lambda: HandMode("auto"))
    faults: FaultPlan = field(default_factory=FaultPlan)
    run_dir: Path = field(default_factory=default_run_dir)
    control_socket: Path | None = None
    base_port: int = DEFAULT_BASE_PORT
    fresh: bool = False
    calibrated: bool = False
    calibration_dir: Path | None = None
    trace: Path | None = None
    replay: Path | None = None

    def __post_init__(self) -> None:
        check_task(self.task)
        for name in self.cameras:
            if name not in CAMERAS:
                raise ValueError(f"`cameras` names {name!r}; the bench has {', '.join(CAMERAS)}.")
        for name in ("camera_height", "camera_width"):
            if not 16 <= getattr(self, name) <= 2048:
                raise ValueError(f"`{name}` ({getattr(self, name)}) must be between 16 and 2048 pixels.")
        if not 0 < self.camera_fps <= 120:
            raise ValueError(f"`camera_fps` ({self.camera_fps}) must be above 0 and at most 120.")
        if self.base_port and not 1024 <= self.base_port <= 65_000:
            raise ValueError(f"`base_port` ({self.base_port}) must be 0 or between 1024 and 65000.")
        if self.calibration_dir is not None and not self.calibrated:
            raise ValueError(f"`calibration_dir` ({self.calibration_dir}) has a use only with `calibrated`.")
        if self.replay is not None and self.faults != FaultPlan():
            raise ValueError(
                f"`faults` ({self.faults}) and `replay` exclude each other; a replay has its faults."
            )
        if self.replay is not None and self.replay == self.trace:
            raise ValueError(
                f"`trace` and `replay` are the same file, {self.trace}; name another for the trace."
            )


class Bench:
    """A running virtual bench.

    Args:
        config (`BenchConfig`): What to simulate.

    Raises:
        OSError: The run directory belongs to another running bench, or a port or the socket is taken.
        RuntimeError: The cameras cannot start.

    Example:
        ```python
        with Bench(BenchConfig(cameras=(), base_port=0, run_dir=tmp_path)) as bench:
            print(bench.ready()["ports"]["follower"])
        ```
    """

    def __init__(self, config: BenchConfig) -> None:
        self.config = config
        self.started_s = time.monotonic()
        self._stop_requested = threading.Event()
        self._saved_writes = 0
        self._claimed = False
        self.trace: TraceWriter | None = None
        self._claim_run_dir()
        try:
            self._build()
        except BaseException:
            self.stop()
            raise

    def _build(self) -> None:
        config = self.config
        rng = np.random.default_rng(config.seed)
        world = KochWorld()
        world.reset(config.task, rng)
        # First of all the camera process: a forked child must not inherit the pseudo-terminals.
        self.cameras = self._start_cameras(scene_size(world))
        self.arms: dict[str, Arm] = {"follower": make_follower(), "leader": make_leader()}
        self._load_eeprom()
        self.calibration_files = self._calibrate() if config.calibrated else {}
        self.buses = self._build_buses()
        tracker_port = config.base_port + len(config.cameras) if config.base_port else 0
        self.tracker = TrackerPublisher(BIND, tracker_port)
        hand = Hand(config.hand, config.task, world.joint_positions, np.random.default_rng([config.seed, 1]))
        self.loop = WorldLoop(
            world,
            self.arms["follower"],
            self.arms["leader"],
            self.buses["follower"],
            self.buses["leader"],
            hand,
            rng,
            self.cameras,
            self.tracker,
        )
        self.control = ControlServer(self._socket_path(), self._handlers())

    def _build_buses(self) -> dict[str, VirtualBus]:
        config = self.config
        recorded = Trace.read(config.replay) if config.replay is not None else None
        injectors: dict[str, FaultInjector] = {}
        for i, (name, arm) in enumerate(self.arms.items()):
            check_ids(config.faults, [servo.id for servo in arm.servos])
            injectors[name] = (
                FaultInjector(config.faults, config.seed * 2 + i)
                if recorded is None
                else ReplayedFaults(recorded, name)
            )
        if config.trace is not None:
            plans = {name: str(injector.plan) for name, injector in injectors.items()}
            self.trace = TraceWriter(config.trace, {"seed": config.seed, "faults": plans})
        return {
            name: VirtualBus(name, arm.servos, injectors[name], config.run_dir / name, self.trace)
            for name, arm in self.arms.items()
        }

    # --- life

    def start(self) -> None:
        """Start everything; returns when a client may connect.

        Raises:
            RuntimeError: The cameras cannot start.
        """
        # The bus threads must get the interpreter quickly even while the physics thread runs Python.
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        for bus in self.buses.values():
            bus.start()
        self.loop.start()
        if self.cameras is not None:
            self.cameras.wait_ready()
        self.control.start()

    def wait(self, duration_s: float | None = None) -> None:
        """Run until `request_stop`, `{"cmd": "stop"}`, the end of `duration_s`, or a failure of the physics.

        Raises:
            RuntimeError: The physics stopped; the cause is attached.
        """
        end_s = None if duration_s is None else time.monotonic() + duration_s
        while not self._stop_requested.wait(_SAVE_EVERY_S):
            self._save_eeprom()
            if self.loop.error is not None:
                raise RuntimeError(f"the physics stopped: {self.loop.error!r}") from self.loop.error
            if end_s is not None and time.monotonic() >= end_s:
                return

    def request_stop(self) -> None:
        """Let `wait` return; may be called from any thread or a signal handler."""
        self._stop_requested.set()

    def stop(self) -> None:
        """Stop everything and remove links and sockets; the servos' permanent memory is kept."""
        for name in ("control", "loop"):
            part = getattr(self, name, None)
            if part is not None:
                part.stop()
        for bus in getattr(self, "buses", {}).values():
            bus.stop()
        if self.trace is not None:
            self.trace.close()
        if getattr(self, "tracker", None) is not None:
            self.tracker.close()
        if getattr(self, "cameras", None) is not None:
            self.cameras.stop()  # type: ignore[union-attr]
        if getattr(self, "arms", None):
            self._save_eeprom()
        if self._claimed:
            self._pid_file.unlink(missing_ok=True)
            self._claimed = False

    def __enter__(self) -> "Bench":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- what others want to know

    def ready(self) -> dict[str, Any]:
        """Everything a script needs to use the bench (the content of `--ready-file`)."""
        config = self.config
        return {
            "pid": os.getpid(),
            "task": config.task,
            "seed": config.seed,
            "run_dir": str(config.run_dir),
            "control_socket": str(self.control.path),
            "ports": {name: str(config.run_dir / name) for name in self.buses},
            "ttys": {name: bus.port for name, bus in self.buses.items()},
            "calibration_dir": str(config.calibration_dir) if config.calibration_dir else None,
            "calibration_files": {name: str(path) for name, path in self.calibration_files.items()},
            "cameras": {
                name: {
                    "type": "zmq",
                    "server_address": BIND,
                    "port": port,
                    "camera_name": name,
                    "width": config.camera_width,
                    "height": config.camera_height,
                    "fps": round(config.camera_fps),
                }
                for name, port in (self.cameras.ports if self.cameras is not None else {}).items()
            },
            "tracker": {
                "address": f"tcp://{BIND}:{self.tracker.port}",
                "names": list(ENVIRONMENT_STATE_NAMES),
            },
        }

    def status(self) -> dict[str, Any]:
        """What the bench is doing: physics, hand, buses with late replies and injected faults, cameras."""
        return {
            "uptime_s": round(time.monotonic() - self.started_s, 1),
            **self.loop.call(self.loop.report),
            "monotonic_s": round(time.monotonic(), 4),
            "late_replies": sum(bus.stats.n_late for bus in self.buses.values()),
            "buses": {name: bus.report() for name, bus in self.buses.items()},
            "cameras": self.cameras.report() if self.cameras is not None else None,
        }

    def torque(self) -> dict[str, list[int]]:
        """Register `Torque_Enable` of each servo, by arm."""
        return {name: [int(servo.torque_enabled) for servo in arm.servos] for name, arm in self.arms.items()}

    # --- requests on the control socket

    def _handlers(self) -> dict[str, Any]:
        return {
            "status": lambda _: self.status(),
            "ready": lambda _: self.ready(),
            "hand": self._handle_hand,
            "reset": self._handle_reset,
            "fault": self._handle_fault,
            "unplug": lambda request: self._handle_plug(request, plugged=False),
            "plug": lambda request: self._handle_plug(request, plugged=True),
            "torque": lambda _: {"torque": self.torque()},
            "snapshot": self._handle_snapshot,
            "stop": self._handle_stop,
        }

    def _handle_hand(self, request: dict[str, Any]) -> dict[str, Any]:
        mode = HandMode.parse(str(request.get("mode", "")))
        self.loop.call(lambda: self.loop.hand.set_mode(mode))
        return {"hand": str(mode)}

    def _handle_reset(self, request: dict[str, Any]) -> dict[str, Any]:
        task, seed = request.get("task"), request.get("seed")
        if task is not None:
            check_task(task)
        if seed is not None and (not isinstance(seed, int) or seed < 0):
            raise ValueError(f"`seed` is {seed!r}; give a whole number >= 0.")
        self.loop.call(lambda: self.loop.reset(task, seed))
        return {"task": self.loop.world.task}

    def _handle_fault(self, request: dict[str, Any]) -> dict[str, Any]:
        plan = FaultPlan.parse(str(request.get("spec", "")))
        chosen = self._chosen(request)
        for bus in chosen:
            check_ids(plan, [servo.id for servo in bus.servos])
        for bus in chosen:
            bus.set_faults(plan)
        return {"faults": {name: str(bus.faults.plan) for name, bus in self.buses.items()}}

    def _handle_plug(self, request: dict[str, Any], *, plugged: bool) -> dict[str, Any]:
        for bus in self._chosen(request):
            if plugged:
                bus.plug()
            else:
                bus.unplug()
        return {
            "plugged": {name: bus.plugged for name, bus in self.buses.items()},
            "ttys": {name: bus.port for name, bus in self.buses.items()},
        }

    def _chosen(self, request: dict[str, Any]) -> list[VirtualBus]:
        """The bus of the arm that a request names, or both."""
        arm = request.get("arm")
        if arm is not None and arm not in self.buses:
            raise ValueError(f"`arm` is {arm!r}; choose {' or '.join(self.buses)}, or leave it out for both.")
        return [bus for name, bus in self.buses.items() if arm in (None, name)]

    def _handle_snapshot(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.cameras is None:
            raise RuntimeError("no camera is running; start the bench with `--cameras top,wrist`.")
        camera, path = str(request.get("camera", CAMERAS[0])), str(request.get("path", ""))
        if not path:
            raise ValueError("`path` is missing; say where to save the picture, e.g. /tmp/top.png.")
        self.cameras.snapshot(camera, path)
        return {"path": path}

    def _handle_stop(self, _: dict[str, Any]) -> dict[str, Any]:
        self.request_stop()
        return {}

    # --- inside

    def _start_cameras(self, size: int) -> CameraPublisher | None:
        config = self.config
        if not config.cameras:
            return None
        specs = [
            CameraSpec(
                name,
                config.camera_height,
                config.camera_width,
                config.base_port + i if config.base_port else 0,
            )
            for i, name in enumerate(config.cameras)
        ]
        cameras = CameraPublisher(specs, size, config.camera_fps, BIND)
        cameras.start()
        return cameras

    def _socket_path(self) -> Path:
        return self.config.control_socket or self.config.run_dir / "control.sock"

    @property
    def _pid_file(self) -> Path:
        return self.config.run_dir / "pid"

    def _claim_run_dir(self) -> None:
        self.config.run_dir.mkdir(parents=True, exist_ok=True)
        try:
            pid = int(self._pid_file.read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            pid = 0
        if pid and pid != os.getpid():
            raise OSError(
                f"a bench with process id {pid} already uses {self.config.run_dir}; stop it, or "
                "give this one another `--run-dir` and `--base-port`."
            )
        self._pid_file.write_text(str(os.getpid()))
        self._claimed = True

    def _calibrate(self) -> dict[str, Path]:
        directory = self.config.calibration_dir or default_calibration_dir()
        full_turns = self.config.hand.is_clock
        self._saved_writes = -1  # worth saving even if no client writes anything
        return {
            name: write_file(directory, arm, calibrate(arm, full_turns=full_turns))
            for name, arm in self.arms.items()
        }

    @property
    def _eeprom_file(self) -> Path:
        return self.config.run_dir / "eeprom.json"

    def _load_eeprom(self) -> None:
        if self.config.fresh:
            self._eeprom_file.unlink(missing_ok=True)
        try:
            saved = json.loads(self._eeprom_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise OSError(
                f"{self._eeprom_file} (the servos' permanent memory) cannot be read: {error}. "
                "Start with `--fresh`."
            ) from error
        for name, arm in self.arms.items():
            arm.load_eeprom(saved.get(name, {}))

    def _save_eeprom(self) -> None:
        n_writes = sum(arm.n_eeprom_writes for arm in self.arms.values())
        if n_writes == self._saved_writes:
            return
        content = {name: arm.eeprom() for name, arm in self.arms.items()}
        part = self._eeprom_file.with_suffix(".part")
        part.write_text(json.dumps(content, indent=1), encoding="utf-8")
        part.replace(self._eeprom_file)
        self._saved_writes = n_writes
