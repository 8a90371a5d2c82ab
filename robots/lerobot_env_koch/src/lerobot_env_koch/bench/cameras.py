# SPDX-License-Identifier: Apache-2.0
"""Cameras of the bench: a process that draws the scene and publishes frames for LeRobot's stock `zmq` camera.

Drawing happens in a process of its own so that neither the bus nor the physics ever waits for it. The physics
leaves its state in shared memory; this process copies it, draws each camera and sends JPEGs in the format
that `lerobot.cameras.zmq` reads, one port for each camera:

    {"timestamps": {name: s}, "images": {name: base64 JPEG}}
"""

import base64
import contextlib
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import SynchronizedArray
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lerobot_env_koch.physics import KochWorld

JPEG_QUALITY: Final = 95
START_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True)
class CameraSpec:
    """One published camera.

    Args:
        name (`str`): `top` or `wrist`.
        height (`int`): Rows of a frame.
        width (`int`): Columns of a frame.
        port (`int`): TCP port; 0 lets the system choose.
    """

    name: str
    height: int
    width: int
    port: int


def scene_size(world: "KochWorld") -> int:
    """Numbers that describe the scene: positions and the poses of the bin and the goal marker."""
    return int(world.model.nq + 7 * world.model.nmocap)


def scene_state(world: "KochWorld") -> NDArray[np.float64]:
    """(scene_size,) the scene as numbers, for `set_scene`."""
    data = world.data
    return np.concatenate([data.qpos, data.mocap_pos.ravel(), data.mocap_quat.ravel()])


def set_scene(world: "KochWorld", state: NDArray[np.float64]) -> None:
    """Make `world` look like the one `state` was taken from."""
    import mujoco

    model, data = world.model, world.data
    split = model.nq + 3 * model.nmocap
    data.qpos[:] = state[: model.nq]
    data.mocap_pos[:] = state[model.nq : split].reshape(-1, 3)
    data.mocap_quat[:] = state[split:].reshape(-1, 4)
    mujoco.mj_forward(model, data)


def encode_message(name: str, frame: NDArray[np.uint8], timestamp_s: float) -> bytes:
    """One frame as stock `ZMQCamera` expects it.

    LeRobot's own image server hands RGB arrays to a BGR encoder and its camera does the same backwards, so
    the colours come out right without any conversion on either side.
    """
    import cv2

    ok, jpeg = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not ok:
        raise RuntimeError(f"camera {name!r}: cannot encode a frame of shape {frame.shape} as JPEG.")
    image = base64.b64encode(jpeg.tobytes()).decode("ascii")
    return json.dumps({"timestamps": {name: timestamp_s}, "images": {name: image}}).encode()


class CameraPublisher:
    """Starts, feeds and stops the camera process.

    Args:
        specs (`Sequence[CameraSpec]`): What to publish.
        size (`int`): Length of the scene state, see `scene_size`.
        fps (`float`): Frames a second.
        bind (`str`): Address to bind, without port.

    Attributes:
        ports (`dict[str, int]`): TCP port of each camera, known after `start`.
    """

    def __init__(self, specs: Sequence[CameraSpec], size: int, fps: float, bind: str) -> None:
        # A forked child starts at once; it is started before the bench has any thread or pseudo-terminal of
        # its own.
        context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self.ports: dict[str, int] = {}
        self._scene: SynchronizedArray[float] = context.Array("d", size)
        self._ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_publish,
            args=(list(specs), self._scene, theirs, self._ours, fps, bind),
            name="koch-cameras",
            daemon=True,
        )

    def start(self) -> None:
        """Start the process without waiting for it; call `wait_ready` before using `ports`."""
        self._process.start()

    def wait_ready(self) -> None:
        """Wait until every camera has its port.

        Raises:
            RuntimeError: The process died or could not bind; the message has its reason.
        """
        if not self._ours.poll(START_TIMEOUT_S):
            raise RuntimeError(
                f"the cameras did not start within {START_TIMEOUT_S:.0f} s; try `--cameras none`."
            )
        try:
            answer = self._ours.recv()
        except EOFError:
            raise RuntimeError(
                "the camera process ended at start; run with `--cameras none` to do without."
            ) from None
        if isinstance(answer, str):
            raise RuntimeError(answer)
        self.ports = answer

    def update(self, state: NDArray[np.float64]) -> None:
        """Show a new state of the scene in the next frames; never blocks the caller for long."""
        if self._scene.get_lock().acquire(block=False):
            try:
                self._scene[:] = state.tolist()
            finally:
                self._scene.get_lock().release()

    def snapshot(self, camera: str, path: str) -> None:
        """Save the camera's present picture.

        Raises:
            RuntimeError: The camera process does not answer or cannot write the file.
        """
        self._ours.send((camera, path))
        if not self._ours.poll(5.0):
            raise RuntimeError("the camera process does not answer.")
        answer = self._ours.recv()
        if answer:
            raise RuntimeError(answer)

    def report(self) -> dict[str, Any]:
        """State for the status report."""
        return {"alive": self._process.is_alive(), "ports": self.ports}

    def stop(self) -> None:
        """End the process."""
        if self._process.pid is None:
            return
        with contextlib.suppress(OSError):
            self._ours.send(None)
        self._process.join(timeout=2.0)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(timeout=2.0)


def _publish(
    specs: list[CameraSpec],
    scene: "SynchronizedArray[float]",
    pipe: Connection,
    parents_end: Connection,
    fps: float,
    bind: str,
) -> None:
    """Body of the camera process."""
    import signal

    import cv2
    import zmq as zmq_module

    from lerobot_env_koch.physics import KochWorld

    # Without this the pipe would not end when the parent is killed, and this process would live on.
    parents_end.close()
    # Ctrl-C reaches the whole process group; the parent decides when the cameras end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(1)
    zmq: Any = zmq_module  # mypy sees an empty module without its stubs
    context = zmq.Context()
    sockets: dict[str, Any] = {}
    ports: dict[str, int] = {}
    world = KochWorld()
    for spec in specs:
        socket = context.socket(zmq.PUB)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, 4)
        try:
            if spec.port:
                socket.bind(f"tcp://{bind}:{spec.port}")
                ports[spec.name] = spec.port
            else:
                ports[spec.name] = socket.bind_to_random_port(f"tcp://{bind}")
        except zmq.ZMQError as error:
            pipe.send(
                f"camera {spec.name!r} cannot use port {spec.port}: {error}. "
                "Choose another with `--base-port`."
            )
            return
        sockets[spec.name] = socket
    frames = {spec.name: world.render(spec.name, spec.height, spec.width) for spec in specs}
    pipe.send(ports)
    next_s = time.monotonic()
    while True:
        with scene.get_lock():
            state = np.array(scene[:])
        if state.any():
            set_scene(world, state)
        now = time.time()
        for spec in specs:
            frames[spec.name] = world.render(spec.name, spec.height, spec.width)
            sockets[spec.name].send(encode_message(spec.name, frames[spec.name], now), zmq.NOBLOCK)
        next_s = max(next_s + 1 / fps, time.monotonic())
        while pipe.poll(max(0.0, next_s - time.monotonic())):
            try:
                request = pipe.recv()
            except EOFError:
                return
            if request is None:
                return
            camera, path = request
            pipe.send(_save(frames.get(camera), camera, path))


def _save(frame: NDArray[np.uint8] | None, camera: str, path: str) -> str:
    """Write a picture; returns the error text, empty if all went well."""
    import cv2

    if frame is None:
        return f"camera {camera!r} is not running; start the bench with `--cameras {camera}`."
    try:
        written = cv2.imwrite(path, np.ascontiguousarray(frame[..., ::-1]))
    except cv2.error as error:
        return f"cannot write {path!r}: {error}"
    return "" if written else f"cannot write {path!r}; does its folder exist?"
