# SPDX-License-Identifier: Apache-2.0
"""Which renderer draws the cameras: the software painter, or MuJoCo's on a hardware GL.

`auto` means: MuJoCo where GL runs on a GPU, else the painter. Software GL (llvmpipe) would work too, but
takes 20 ms and more for a frame that the painter draws in about 2. The choice can be forced with the
environment variable `KOCH_RENDERER=auto|mujoco|painter` or by the argument of the same meaning, which wins
unless it is `auto`.

GL is tried in a child process with a time limit, once per process, because a broken driver may abort the
process that tries it.
"""

import importlib
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

RENDERERS: Final = ("auto", "mujoco", "painter")
ENVIRONMENT_VARIABLE: Final = "KOCH_RENDERER"
PROBE_TIMEOUT_S: Final = 20.0
SOFTWARE_GL: Final = ("llvmpipe", "softpipe", "swrast", "software rasterizer")

logger = logging.getLogger(__name__)


class FrameRenderer(Protocol):
    """Draws one camera's picture of a MuJoCo state."""

    name: str

    def render(self, data: Any, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """(height, width, 3) RGB picture."""

    def close(self) -> None:
        """Free what the renderer holds."""


def check_renderer(choice: str) -> str:
    """The renderer's name itself, if it is one.

    Raises:
        ValueError: If there is no such renderer; names the valid ones.
    """
    if choice not in RENDERERS:
        raise ValueError(
            f"`renderer` is {choice!r}; choose one of {', '.join(RENDERERS)} "
            f"(also through {ENVIRONMENT_VARIABLE})."
        )
    return choice


@dataclass(frozen=True)
class OpenGL:
    """A working OpenGL.

    Args:
        backend (`str`): MuJoCo's name of it: `egl`, `osmesa`, `glfw` or `default` (what the platform has).
        renderer (`str`): What draws, as the driver says it; `unknown` when it does not.
    """

    backend: str
    renderer: str

    @property
    def is_software(self) -> bool:
        """Whether the CPU does the drawing (or nobody knows who does)."""
        return self.renderer == "unknown" or any(name in self.renderer.lower() for name in SOFTWARE_GL)


def _wished_backend() -> str | None:
    """What `MUJOCO_GL` asks for, EGL on Linux without a display, or None when GL is switched off."""
    wish = os.environ.get("MUJOCO_GL", "").lower().strip()
    if wish in ("disable", "disabled", "off", "false", "0"):
        return None
    if wish in ("egl", "osmesa", "glfw"):
        return wish
    if sys.platform.startswith("linux"):
        return "glfw" if os.environ.get("DISPLAY") else "egl"
    return "default"


_PROBE = """
import ctypes, importlib, sys
backend = sys.argv[1]
module = importlib.import_module("mujoco.gl_context" if backend == "default" else f"mujoco.{backend}")
context = module.GLContext(16, 16)
context.make_current()
name = None
for library in ("libGL.so.1", "libOpenGL.so.0", "libGLESv2.so.2"):
    try:
        get = ctypes.CDLL(library).glGetString
    except (OSError, AttributeError):
        continue
    get.restype = ctypes.c_char_p
    name = get(0x1F01)  # GL_RENDERER
    if name:
        break
print("GL_RENDERER=" + (name.decode(errors="replace") if name else "unknown"))
"""


@cache
def find_opengl() -> OpenGL | None:
    """The OpenGL that MuJoCo can draw with on this machine, or None.

    Tried once per process, in a child: a driver that aborts takes only the child with it.
    """
    backend = _wished_backend()
    if backend is None:
        return None
    # MUJOCO_GL is left out: MuJoCo's own import may fail on a back end that is not there.
    environment = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    try:
        run = subprocess.run(
            [sys.executable, "-c", _PROBE, backend],
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    for line in run.stdout.splitlines():
        if line.startswith("GL_RENDERER="):
            return OpenGL(backend, line.removeprefix("GL_RENDERER="))
    return None


def _has_gpu_device() -> bool:
    """Whether a GPU could be here at all: cheap, so that machines without one never pay for the probe."""
    if not sys.platform.startswith("linux"):
        return True
    return os.path.exists("/dev/nvidiactl") or os.path.isdir("/dev/dri")


def resolve_renderer(choice: str = "auto") -> str:
    """Which renderer a choice means on this machine.

    Args:
        choice (`str`, *optional*, defaults to `"auto"`): `auto`, `mujoco` or `painter`. With `auto` the
            variable `KOCH_RENDERER` decides, and if that is unset or `auto` too, whether there is a hardware
            GL.

    Returns:
        `str`: `mujoco` or `painter`.

    Raises:
        ValueError: If `choice` or the environment variable names no renderer.
    """
    if check_renderer(choice) == "auto":
        choice = check_renderer(os.environ.get(ENVIRONMENT_VARIABLE, "auto").lower())
    if choice != "auto":
        return choice
    if not _has_gpu_device():
        return "painter"
    opengl = find_opengl()
    if opengl is None or opengl.is_software:
        return "painter"
    logger.info("Koch cameras are drawn by MuJoCo on %s", opengl.renderer)
    return "mujoco"


class MujocoRenderer:
    """MuJoCo's own OpenGL renderer, one GL context for each picture size.

    `mujoco.Renderer` would take its GL back end from the environment at the time MuJoCo was first imported;
    this asks for the one that was found to work.

    Args:
        model (`mujoco.MjModel`): Model to draw.

    Raises:
        RuntimeError: If GL does not work here; says how to use the painter.
    """

    name = "mujoco"

    def __init__(self, model: Any) -> None:
        import mujoco

        opengl = find_opengl()
        if opengl is None:
            raise RuntimeError(
                "`renderer` is 'mujoco', but MuJoCo finds no working OpenGL here (MUJOCO_GL="
                f"{os.environ.get('MUJOCO_GL', 'unset')}); use 'painter' ({ENVIRONMENT_VARIABLE}=painter)."
            )
        self._model = model
        self._backend = opengl.backend
        self._scene = mujoco.MjvScene(model, maxgeom=200)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._contexts: dict[tuple[int, int], tuple[Any, Any]] = {}

    def _context(self, height: int, width: int) -> tuple[Any, Any]:
        import mujoco

        if (height, width) not in self._contexts:
            name = "mujoco.gl_context" if self._backend == "default" else f"mujoco.{self._backend}"
            gl = importlib.import_module(name).GLContext(width, height)
            gl.make_current()
            self._model.vis.global_.offwidth = width
            self._model.vis.global_.offheight = height
            context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
            self._contexts[height, width] = gl, context
        return self._contexts[height, width]

    def render(self, data: Any, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """(height, width, 3) RGB picture."""
        import mujoco

        gl, context = self._context(height, width)
        gl.make_current()
        self._camera.fixedcamid = self._model.camera(camera).id
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        viewport = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(viewport, self._scene, context)
        picture = np.empty((height, width, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(picture, None, viewport, context)
        return np.ascontiguousarray(picture[::-1])  # OpenGL's first row is the lowest

    def close(self) -> None:
        """Free the GL contexts."""
        for gl, context in self._contexts.values():
            context.free()
            gl.free()
        self._contexts.clear()


def make_renderer(choice: str, model: Any) -> FrameRenderer:
    """The renderer of a choice, for a model.

    Args:
        choice (`str`): `auto`, `mujoco` or `painter`.
        model (`mujoco.MjModel`): Model to draw.

    Returns:
        `FrameRenderer`: Ready to draw.

    Raises:
        ValueError: If there is no such renderer.
        RuntimeError: If `mujoco` was asked for and GL does not work.
    """
    if resolve_renderer(choice) == "mujoco":
        return MujocoRenderer(model)
    from lerobot_env_koch.painter import Painter

    return Painter(model)
