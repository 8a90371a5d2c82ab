# SPDX-License-Identifier: Apache-2.0
"""`CameraContract`: what robots and the command lines rely on in a camera.

```python
class TestMyCamera(CameraContract):
    def make_config(self):
        return MyCameraConfig(path="/dev/video0", width=640, height=480, fps=30)
```

Rules that need the camera itself are skipped where none answers. `stop_frames` lets an author whose camera is
simulated also prove what happens when frames stop coming.
"""

import inspect
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from lerobot_ext.testing.contract import broken, rule, skip
from lerobot_ext.testing.contracts.device import DeviceContract
from lerobot_ext.testing.contracts.frames import picture_problem

_FIRST_FRAME_S = 5.0


class CameraContract(DeviceContract):
    """Rules for cameras; override `make_config`."""

    subject = "camera"
    registry = ("lerobot.cameras.configs", "CameraConfig")

    def stop_frames(self, camera: Any) -> None:
        """Let the connected camera get no more frames, without disconnecting it; skips by default."""
        skip("`stop_frames` is not overridden: frames cannot be stopped")

    def scene_is_still(self) -> bool:
        """Whether two frames show the same; then the colour order can be judged."""
        return False

    def build(self, config: Any) -> Any:
        """What `make_cameras_from_configs` builds."""
        from lerobot.cameras.utils import make_cameras_from_configs

        return make_cameras_from_configs({"camera": config})["camera"]

    def uses(self, device: Any) -> Mapping[str, Callable[[], object]]:
        """Calls that need a connection."""
        return {"read": device.read, "async_read": device.async_read, "read_latest": device.read_latest}

    def prove_use(self, device: Any) -> None:
        """Take one frame, which may be some time coming."""
        self.frame_problem(device, device.async_read(timeout_ms=_FIRST_FRAME_S * 1000))

    def frame_problem(self, camera: Any, frame: Any) -> str:
        """What is wrong with `frame`, empty when it is what the camera's size promises."""
        return picture_problem(frame, (camera.height, camera.width, 3))

    def _takes_colour(self) -> None:
        """Skip the rule for a camera that is set to depth only."""
        if not getattr(self.make_config(), "use_rgb", True):
            skip("it is set to give no colour")

    # Before connecting

    @rule(
        remedy="keep the fields `width`, `height` and `fps` of CameraConfig, and set the camera's "
        "attributes from them by `super().__init__(config)`",
        needs=["factory-builds-it"],
    )
    def test_keeps_the_size_it_is_given(self) -> None:
        """`width`, `height` and `fps` of the config are the camera's: robots declare features by them."""
        config = replace(self.make_config(), width=64, height=48, fps=30)
        camera = self.build(config)
        for name, given in (("width", 64), ("height", 48), ("fps", 30)):
            if getattr(camera, name, None) != given:
                broken(f"with `{name}`={given} in its config, the camera has {getattr(camera, name, None)!r}")

    @rule(
        remedy="make `find_cameras` a static method that returns a list of dicts, empty when there is none",
        needs=["factory-builds-it"],
    )
    def test_finds_cameras_without_an_object(self) -> None:
        """`find_cameras()` of the class returns a list of dicts: `lerobot-find-cameras` prints it."""
        cls = type(self.make_device())
        if not isinstance(inspect.getattr_static(cls, "find_cameras"), (staticmethod, classmethod)):
            broken("`find_cameras` is no static method")
        try:
            found = cls.find_cameras()
        except NotImplementedError:
            skip("it says that it cannot search: NotImplementedError")
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            broken(f"it returns {found!r}")

    # Connected

    @rule(
        remedy="return (height, width, 3) uint8 from `read`, sized `camera.height` by `camera.width`",
        needs=["connects", "keeps-the-size-it-is-given"],
    )
    def test_read_gives_a_frame(self) -> None:
        """`read()` waits for a frame and returns it: (height, width, 3) uint8."""
        self._takes_colour()
        camera = self.connected()
        problem = self.frame_problem(camera, camera.read())
        if problem:
            broken(f"the frame {problem}")

    @rule(
        remedy="take frames in a thread, and let `async_read(timeout_ms)` wait for the next one",
        needs=["connects"],
    )
    def test_async_read_gives_each_frame_once(self) -> None:
        """`async_read()` returns a frame that no earlier call has returned, and waits for it."""
        self._takes_colour()
        camera = self.connected()
        camera.async_read(timeout_ms=_FIRST_FRAME_S * 1000)
        start, n_frames, problem = time.monotonic(), 0, ""
        while n_frames < 5 and time.monotonic() - start < _FIRST_FRAME_S:
            frame = camera.async_read(timeout_ms=_FIRST_FRAME_S * 1000)
            problem = problem or self.frame_problem(camera, frame)
            n_frames += 1
        took_s = time.monotonic() - start
        if problem:
            broken(f"the frame {problem}")
        # A camera may be faster than it was asked to be, but not ten times.
        most = 2 + took_s * 10 * (camera.fps or 30)
        if n_frames > most:
            broken(f"{n_frames} frames came in {took_s * 1000:.1f} ms, at {camera.fps} frames a second")

    @rule(
        remedy="return the newest frame at once from `read_latest`, and leave it for `async_read`",
        needs=["connects"],
    )
    def test_read_latest_gives_a_frame(self) -> None:
        """`read_latest()` returns the newest frame, also when it was returned before: robots call it."""
        self._takes_colour()
        camera = self.connected()
        camera.async_read(timeout_ms=_FIRST_FRAME_S * 1000)
        for _ in range(2):
            problem = self.frame_problem(camera, camera.read_latest())
            if problem:
                broken(f"the frame {problem}")

    @rule(
        remedy="give each frame its own array, or return a copy: LeRobot writes pictures in the background",
        needs=["async-read-gives-each-frame-once"],
    )
    def test_frames_are_not_overwritten(self) -> None:
        """A frame that was returned stays as it was while further ones are taken."""
        import numpy as np

        camera = self.connected()
        frame = camera.async_read(timeout_ms=_FIRST_FRAME_S * 1000)
        before = np.array(frame, copy=True)
        for _ in range(3):
            later = camera.async_read(timeout_ms=_FIRST_FRAME_S * 1000)
            if later is not frame and np.shares_memory(later, frame):
                broken("two frames share their memory")
        if not np.array_equal(frame, before):
            broken("a frame changed after it was returned")

    @rule(
        remedy="forget frame and timestamp in `disconnect()`",
        needs=["refuses-use-after-disconnect", "reconnects", "read-latest-gives-a-frame"],
    )
    def test_forgets_frames_of_an_earlier_connection(self) -> None:
        """Connected again, the camera never returns a frame of the time before."""
        import numpy as np

        camera = self.connected()
        camera.async_read(timeout_ms=_FIRST_FRAME_S * 1000)
        old = camera.read_latest()
        camera.disconnect()
        self.connect(camera)
        with suppress(RuntimeError, TimeoutError):  # it has no frame yet, which is right
            if np.shares_memory(camera.read_latest(), old):
                broken("`read_latest()` returns the last frame of the connection before")

    @rule(
        remedy="raise TimeoutError from `async_read` when no new frame comes within `timeout_ms`",
        needs=["async-read-gives-each-frame-once"],
    )
    def test_async_read_times_out_when_frames_stop(self) -> None:
        """When frames stop coming, `async_read(timeout_ms)` raises TimeoutError."""
        camera = self.connected()
        camera.async_read(timeout_ms=_FIRST_FRAME_S * 1000)
        self.stop_frames(camera)
        try:
            for _ in range(3):  # one that was taken before may be left
                camera.async_read(timeout_ms=200)
        except TimeoutError:
            return
        except Exception as error:  # noqa: BLE001 - the wrong error is what is looked for
            broken(f"it raises {type(error).__name__} instead of TimeoutError: {error}")
        broken("it goes on returning frames")

    @rule(
        remedy="keep the time of each frame, and raise TimeoutError from `read_latest` when it is older than "
        "`max_age_ms`",
        needs=["read-latest-gives-a-frame"],
    )
    def test_read_latest_refuses_old_frames(self) -> None:
        """When frames stop coming, `read_latest(max_age_ms)` raises TimeoutError: old pictures mislead."""
        camera = self.connected()
        camera.async_read(timeout_ms=_FIRST_FRAME_S * 1000)
        self.stop_frames(camera)
        time.sleep(0.3)
        try:
            camera.read_latest(max_age_ms=100)
        except TimeoutError:
            return
        broken("a frame more than 100 ms old is returned with `max_age_ms=100`")

    @rule(
        remedy="convert to the order that the config's `color_mode` asks for, in every way to read",
        needs=["read-gives-a-frame"],
    )
    def test_gives_the_colours_it_is_asked_for(self) -> None:
        """`color_mode` decides the order of the channels: red first for `rgb`, blue first for `bgr`."""
        import numpy as np
        from lerobot.cameras.configs import ColorMode

        if not hasattr(self.make_config(), "color_mode"):
            skip("its config has no `color_mode`")
        if not self.scene_is_still():
            skip("`scene_is_still` is False: two frames cannot be compared")
        self.require_device()
        means = {}
        for mode in (ColorMode.RGB, ColorMode.BGR):
            camera = self.build(replace(self.make_config(), color_mode=mode))
            self.at_end(lambda camera=camera: self._put_away(camera))  # type: ignore[misc]
            self.connect(camera)
            means[mode] = np.mean(camera.read(), axis=(0, 1))
            camera.disconnect()
        if np.ptp(means[ColorMode.RGB]) < 5:
            skip("the scene is grey")
        if not np.allclose(means[ColorMode.RGB], means[ColorMode.BGR][::-1], atol=3):
            broken(f"mean colours are {means[ColorMode.RGB].round(1)} and {means[ColorMode.BGR].round(1)}")
