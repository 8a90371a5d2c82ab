# SPDX-License-Identifier: Apache-2.0
"""PyAV for the stock LeRobot CLIs: the video backend `pyav`, and a camera for any source PyAV opens.

Importing this package makes `--dataset.video_backend=pyav` ours as soon as LeRobot's dataset code is
imported, and registers the camera type `pyav`; PyAV and torch are imported no earlier than LeRobot does.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from lerobot_ext.plugins import lazy_attributes, load_all, when_imported

if TYPE_CHECKING:
    from lerobot_camera_pyav.config_pyav_camera import PyAVCameraConfig
    from lerobot_camera_pyav.pyav_camera import PyAVCamera

__version__ = "0.1.0"
__all__ = ["PyAVCamera", "PyAVCameraConfig"]

__getattr__ = lazy_attributes(
    __name__, {"PyAVCamera": "pyav_camera", "PyAVCameraConfig": "config_pyav_camera"}
)


def _install(part: str) -> None:
    """Put a part of `backend` in place; while `backend` itself is being imported, it does so at its end."""
    function = getattr(import_module(f"{__name__}.backend"), part, None)
    if function is not None:
        function()


when_imported("lerobot.cameras", lambda: import_module(f"{__name__}.config_pyav_camera"))
when_imported("lerobot.datasets.dataset_reader", lambda: _install("install"))
when_imported("lerobot.datasets.streaming_dataset", lambda: _install("install_for_streaming"))
load_all()
