# SPDX-License-Identifier: Apache-2.0
"""Made-up machines: video libraries, GPUs, cameras and serial ports, healthy and broken."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from doctor_faults import Fault, World, merged
from lerobot_ext.doctor import camera_child, cameras, gpu, recording, serial_ports, video
from lerobot_ext.doctor.child import Answer, ask
from lerobot_ext.doctor.findings import Section
from lerobot_ext.recording.load import Load

# --- video libraries

CODEC = {"encoder": "libx", "decodes": True, "error": ""}
VIDEO = {
    "torch": "2.11.0",
    "torchcodec": "0.11.1",
    "av": "15.1.0",
    "torchcodec_error": "",
    "ffmpeg": "7",
    "av_error": "",
    "av_ffmpeg": "7.1.1",
    "codecs": {"h264": CODEC, "hevc": CODEC, "av1": CODEC},
}
# The ends of what torchcodec 0.11.1 says.
NO_FFMPEG = (
    "RuntimeError: Could not load libtorchcodec … OSError: libavutil.so.60: cannot open shared object file"
)
WRONG_TORCH = "RuntimeError: Could not load libtorchcodec … libtorchcodec_core7.so: undefined symbol: _ZN3c10"


def videos(**changes: Any) -> Callable[[World], Section]:
    return lambda world: video.conclude(merged(VIDEO, **changes), platform="linux")


VIDEO_FAULTS = [
    Fault(
        "torchcodec without FFmpeg",
        "torchcodec_ffmpeg",
        "torchcodec",
        videos(torchcodec_error=NO_FFMPEG, ffmpeg=""),
        "note",
    ),
    Fault(
        "torchcodec for another torch",
        "torchcodec_torch",
        "torchcodec",
        videos(torchcodec_error=WRONG_TORCH, ffmpeg=""),
        "note",
    ),
    Fault(
        "torchcodec broken",
        "torchcodec_load",
        "torchcodec",
        videos(torchcodec_error="ImportError: x"),
        "note",
    ),
    Fault("no torchcodec", "torchcodec_absent", "torchcodec", videos(torchcodec="", ffmpeg=""), "note"),
    Fault("no PyAV", "pyav", "pyav", videos(av="", codecs={})),
    Fault("PyAV broken", "pyav", "pyav", videos(av_error="ImportError: libx.so", codecs={})),
    Fault(
        "PyAV without AV1",
        "codec",
        "av1",
        videos(codecs=merged(VIDEO["codecs"], av1={"encoder": "", "decodes": True, "error": "no libsvtav1"})),
    ),
    Fault(
        "HEVC decoded wrongly",
        "codec",
        "hevc",
        videos(
            codecs=merged(VIDEO["codecs"], hevc={"encoder": "libx265", "decodes": False, "error": "grey"})
        ),
        "note",
    ),
]

# --- GPUs

CARD = {
    "name": "NVIDIA H200",
    "capability": "9.0",
    "free_gb": 139.0,
    "total_gb": 140.0,
    "bf16": True,
    "error": "",
}
NO_MPS = {"built": False, "available": False, "error": ""}
GPU = {
    "torch": "2.11.0+cu130",
    "built_for": "cuda 13.0",
    "available": True,
    "why_not": "",
    "arch_list": ["sm_80", "sm_90", "compute_120"],
    "devices": [CARD],
    "mps": NO_MPS,
}
MACHINE = {"nvidia_cards": 1, "driver": "580.65", "driver_cuda": "13.0"}
UNSEEN = {"available": False, "devices": [], "arch_list": []}


def gpus(changes: dict[str, Any], **machine: Any) -> Callable[[World], Section]:
    return lambda world: gpu.conclude(
        merged(GPU, **changes), gpu.Machine(**merged(MACHINE, **machine)), platform="linux"
    )


GPU_FAULTS = [
    Fault("torch for the CPU", "gpu_cpu_build", "torch", gpus(UNSEEN | {"built_for": "cpu"})),
    Fault("no driver", "gpu_no_driver", "NVIDIA driver", gpus(UNSEEN, driver="", driver_cuda="")),
    Fault("driver too old", "gpu_driver", "NVIDIA driver", gpus(UNSEEN, driver="470.1", driver_cuda="11.4")),
    Fault(
        "driver too old by torch's word",
        "gpu_driver",
        "NVIDIA driver",
        gpus(UNSEEN | {"why_not": "The NVIDIA driver on your system is too old"}, driver_cuda=""),
    ),
    Fault(
        "driver of before an update", "gpu_unavailable", "torch", gpus(UNSEEN | {"why_not": "unknown error"})
    ),
    Fault("GPU hidden", "gpu_hidden", "CUDA_VISIBLE_DEVICES", gpus(UNSEEN, visible=""), "note"),
    Fault(
        "card too old for torch",
        "gpu_arch",
        "cuda:0",
        gpus({"devices": [merged(CARD, capability="6.1", error="CUDA error: no kernel image is available")]}),
    ),
    Fault(
        "kernel fails",
        "gpu_kernel",
        "cuda:0",
        gpus({"devices": [merged(CARD, error="CUDA error: uncorrectable ECC error")]}),
    ),
    Fault("memory in use", "gpu_memory", "cuda:0", gpus({"devices": [merged(CARD, free_gb=0.4)]}), "note"),
    Fault("no bf16", "gpu_bf16", "cuda:0", gpus({"devices": [merged(CARD, bf16=False)]}), "note"),
    Fault(
        "MPS kernel fails",
        "gpu_kernel",
        "mps",
        gpus({"mps": {"built": True, "available": True, "error": "wrong"}}),
    ),
]


# --- cameras


class FakeCapture:
    """Stands for `cv2.VideoCapture`; its frames advance its own clock."""

    def __init__(
        self,
        *,
        opened: bool = True,
        fps: float = 30.0,
        true_fps: float | None = None,
        size: tuple[int, int] = (48, 64),
        true_size: tuple[int, int] | None = None,
        gives: bool = True,
        frozen: bool = False,
        fail_every: int = 0,
        backend: str = "V4L2",
    ) -> None:
        self.opened, self.fps, self.size, self.gives, self.frozen = opened, fps, size, gives, frozen
        self.true_fps, self.true_size = true_fps or fps, true_size or size
        self.fail_every, self.backend = fail_every, backend
        self.now, self.reads, self.released = 0.0, 0, False

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.opened

    def get(self, what: int) -> float:
        import cv2

        return {
            cv2.CAP_PROP_FPS: self.fps,
            cv2.CAP_PROP_FRAME_WIDTH: self.size[1],
            cv2.CAP_PROP_FRAME_HEIGHT: self.size[0],
        }[what]

    def getBackendName(self) -> str:  # noqa: N802 - OpenCV's name
        return self.backend

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.reads += 1
        self.now += 1 / self.true_fps
        if not self.gives or (self.fail_every and self.reads % self.fail_every == 0):
            return False, None
        return True, np.full((*self.true_size, 3), 0 if self.frozen else self.reads % 200, np.uint8)

    def release(self) -> None:
        self.released = True


def asking(captures: dict[str, FakeCapture]) -> cameras.Ask:
    """Measures in this process."""

    def ask_here(module: str, words: Sequence[str], timeout_s: float) -> Answer:
        capture = captures[words[1]]
        seen = camera_child.measure(words[1], int(words[2]), lambda target: capture, lambda: capture.now)
        assert capture.released
        return Answer(seen)

    return ask_here


def machine_with(tmp: Path, names: dict[str, str], **more: Any) -> dict[str, Any]:
    """A Linux machine that lists video devices by node and name."""
    for node, name in names.items():
        folder = tmp / "sys/class/video4linux" / node
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "index").write_text("0\n")
    (tmp / "proc").mkdir(exist_ok=True)
    (tmp / "dev").mkdir(exist_ok=True)
    return {"sysfs": tmp / "sys", "dev": tmp / "dev", "proc": tmp / "proc", "platform": "linux"} | more


def one_camera(**fake: Any) -> Callable[[World], Section]:
    def examine(world: World) -> Section:
        capture = FakeCapture(**fake)
        answers = asking({str(world.tmp / "dev/video0"): capture})
        return cameras.examine(cameras.System(answers, **machine_with(world.tmp, {"video0": "C920"})))

    return examine


def two_cameras(name: str, other: str) -> Callable[[World], Section]:
    def examine(world: World) -> Section:
        captures = {str(world.tmp / "dev" / node): FakeCapture() for node in ("video0", "video2")}
        machine = machine_with(world.tmp, {"video0": name, "video2": other})
        return cameras.examine(cameras.System(asking(captures), **machine))

    return examine


def real_child(behaviour: str, timeout_s: float) -> Callable[[World], Section]:
    """A child process of `fake_camera_child`, which hangs or dies."""

    def examine(world: World) -> Section:
        def told(module: str, words: Sequence[str], time_s: float) -> Answer:
            return ask(module, [behaviour], time_s)

        machine = machine_with(world.tmp, {"video0": "C920"})
        system = cameras.System(told, child="doctor_faults.fake_camera_child", timeout_s=timeout_s, **machine)
        return cameras.examine(system)

    return examine


def busy_camera(world: World) -> Section:
    """A device that does not open; by `proc` another program has it."""
    machine = machine_with(world.tmp, {"video0": "C920"})
    device = world.tmp / "dev/video0"
    master, slave = os.openpty()
    try:
        device.symlink_to(os.ttyname(slave))
        (world.tmp / "proc/77/fd").mkdir(parents=True)
        (world.tmp / "proc/77/fd/5").symlink_to(os.ttyname(slave))
        (world.tmp / "proc/77/cmdline").write_bytes(b"cheese\0")
        answers = asking({str(device): FakeCapture(opened=False)})
        return cameras.examine(cameras.System(answers, **machine))
    finally:
        os.close(master)
        os.close(slave)


def no_rights(world: World) -> Section:
    """`/dev/null` is a character device that exists everywhere."""
    system = cameras.System(asking({}), **machine_with(world.tmp, {}), may_use=lambda path: False)
    return cameras.examine(system, ["/dev/null"])


def publisher(**seen: Any) -> Callable[[World], Section]:
    values = {
        "messages": 30,
        "fps": 30.0,
        "error": "",
        "cameras": {"top": {"width": 64, "height": 48}},
    } | seen

    def examine(world: World) -> Section:
        system = cameras.System(lambda *words: Answer(values), **machine_with(world.tmp, {}))
        return cameras.examine(system, ["zmq://localhost:5555/top"])

    return examine


def windows(world: World) -> Section:
    captures = {str(index): FakeCapture(opened=index == 0, backend="MSMF") for index in range(10)}
    return cameras.examine(cameras.System(asking(captures), platform="win32"))


CAMERA_FAULTS = [
    Fault("camera in use", "camera_busy", "{tmp}/dev/video0", busy_camera),
    Fault("camera that hangs", "camera_hangs", "{tmp}/dev/video0", real_child("hang", 2.0)),
    Fault("camera that kills", "camera_crash", "{tmp}/dev/video0", real_child("die", 60.0)),
    Fault("camera without rights", "camera_permission", "/dev/null", no_rights),
    Fault("camera that does not open", "camera_closed", "{tmp}/dev/video0", one_camera(opened=False)),
    Fault("camera without pictures", "camera_no_frames", "{tmp}/dev/video0", one_camera(gives=False)),
    Fault(
        "camera that drops frames",
        "camera_drops",
        "{tmp}/dev/video0",
        one_camera(fail_every=4, true_fps=45.0),
    ),
    Fault("camera too slow", "camera_fps", "{tmp}/dev/video0", one_camera(true_fps=15.0)),
    Fault("camera of another size", "camera_size", "{tmp}/dev/video0", one_camera(true_size=(24, 32))),
    Fault("camera that stands still", "camera_frozen", "{tmp}/dev/video0", one_camera(frozen=True)),
    Fault("two cameras of one name", "camera_index", "cameras", two_cameras("C920", "C920"), "note"),
    Fault(
        "no camera",
        "no_camera",
        "cameras",
        lambda world: cameras.examine(cameras.System(asking({}), **machine_with(world.tmp, {}))),
        "note",
    ),
    Fault("Media Foundation", "camera_msmf", "0", windows, "note"),
    Fault("silent publisher", "camera_zmq", "zmq://localhost:5555", publisher(messages=0, cameras={})),
    Fault(
        "publisher of something else",
        "camera_zmq",
        "zmq://localhost:5555",
        publisher(error="KeyError", cameras={}),
    ),
    Fault(
        "no camera of that name",
        "camera_zmq_name",
        "zmq://localhost:5555",
        publisher(cameras={"side": {"width": 64, "height": 48}}),
    ),
    Fault(
        "picture that does not decode",
        "camera_zmq",
        "zmq://localhost:5555/top",
        publisher(cameras={"top": {"width": 0, "height": 0}}),
    ),
]


# --- serial ports


def port_machine(tmp: Path, port: serial_ports.Port | None = None, **more: Any) -> serial_ports.System:
    device = tmp / "dev" / "ttyACM0"
    device.parent.mkdir(parents=True, exist_ok=True)
    device.touch()
    (tmp / "proc").mkdir(exist_ok=True)
    ports = [port or serial_ports.Port(str(device), "2f5d:2202", "OpenRB-150", "1")]
    settings: dict[str, Any] = {
        "ports": lambda: ports,
        "sysfs": tmp / "sys",
        "proc": tmp / "proc",
        "dev": tmp / "dev",
    }
    return serial_ports.System(**(settings | {"platform": "linux", "may_use": lambda path: True} | more))


def one_port(prepare: Callable[[Path], object] = lambda tmp: None, **more: Any) -> Callable[[World], Section]:
    def examine(world: World) -> Section:
        prepare(world.tmp)
        return serial_ports.examine(port_machine(world.tmp, **more))

    return examine


def slow_timer(tmp: Path) -> None:
    folder = tmp / "sys/bus/usb-serial/devices/ttyACM0"
    folder.mkdir(parents=True)
    (folder / "latency_timer").write_text("16\n")


def modem_manager(tmp: Path) -> None:
    (tmp / "proc/12").mkdir(parents=True)
    (tmp / "proc/12/comm").write_text("ModemManager\n")


def brltty(tmp: Path) -> None:
    folder = tmp / "sys/bus/usb/devices/1-2"
    folder.mkdir(parents=True)
    (folder / "idVendor").write_text("1a86\n")
    (folder / "idProduct").write_text("7523\n")
    (tmp / "usr/bin").mkdir(parents=True)
    (tmp / "usr/bin/brltty").touch()


def busy(world: World) -> Section:
    """A pseudo-terminal that another process, as `proc` tells, has open."""
    master, slave = os.openpty()
    try:
        name = os.ttyname(slave)
        folder = world.tmp / "proc/4321"
        (folder / "fd").mkdir(parents=True)
        (folder / "fd/3").symlink_to(name)
        (folder / "cmdline").write_bytes(b"lerobot-record\0")
        link = world.tmp / "ttyUSB0"
        link.symlink_to(name)
        return serial_ports.examine(port_machine(world.tmp, serial_ports.Port(str(link), "0403:6014")))
    finally:
        os.close(master)
        os.close(slave)


PORT_FAULTS = [
    Fault("port in use", "port_busy", "{tmp}/ttyUSB0", busy),
    Fault(
        "port without rights", "port_permission", "{tmp}/dev/ttyACM0", one_port(may_use=lambda path: False)
    ),
    Fault("slow latency timer", "latency_timer", "{tmp}/dev/ttyACM0", one_port(slow_timer)),
    Fault("ModemManager", "modem_manager", "{tmp}/dev/ttyACM0", one_port(modem_manager), "note"),
    Fault("brltty", "brltty", "1a86:7523", one_port(brltty)),
    Fault(
        "port that is not there",
        "port_missing",
        "/dev/ttyUSB7",
        lambda world: serial_ports.examine(port_machine(world.tmp), ["/dev/ttyUSB7"]),
    ),
    Fault("no port", "no_port", "serial ports", one_port(ports=list), "note"),
]

# --- recording


def recordings(**changes: Any) -> Callable[[World], Section]:
    found = merged({"frames_per_s": 200.0, "cpu_ms": 5.0, "flags": []}, **changes)
    return lambda world: recording.conclude(found, Load(3, 640, 480, 30))


RECORDING_FAULTS = [
    Fault("a slow encoder", "encoder_slow", "3x640x480@30", recordings(frames_per_s=55.0), "note"),
    Fault(
        "a slow encoder, flags known",
        "encoder_slow",
        "3x640x480@30",
        recordings(frames_per_s=55.0, flags=["--dataset.streaming_encoding=true"]),
        "note",
    ),
]

FAULTS = [*VIDEO_FAULTS, *RECORDING_FAULTS, *GPU_FAULTS, *CAMERA_FAULTS, *PORT_FAULTS]
HEALTHY = {
    "video": videos(),
    "recording": recordings(),
    "gpu": gpus({}),
    "no gpu": gpus(UNSEEN, nvidia_cards=0, driver="", driver_cuda=""),
    "camera": one_camera(),
    "publisher": publisher(),
    "port": one_port(),
}
