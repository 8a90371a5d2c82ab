# SPDX-License-Identifier: Apache-2.0
"""LeRobot's `opencv` camera under the camera contract, above a capture that OpenCV would open."""

import time

import cv2
import numpy as np
import pytest
from lerobot.cameras.opencv import OpenCVCameraConfig

from lerobot_ext.testing import CameraContract


class FakeCapture:
    """As `cv2.VideoCapture` of a webcam: 60 red frames a second in the size that is asked for."""

    paused = False

    def __init__(self, index=0, backend=0):
        self.values = {cv2.CAP_PROP_FRAME_WIDTH: 640.0, cv2.CAP_PROP_FRAME_HEIGHT: 480.0}
        self.values[cv2.CAP_PROP_FPS] = 30.0
        self.open = True

    def isOpened(self):  # noqa: N802
        return self.open

    def get(self, prop):
        return self.values.get(prop, 0.0)

    def set(self, prop, value):
        self.values[prop] = value
        return True

    def read(self):
        time.sleep(1 / 60)
        while self.paused and self.open:  # as a driver that waits for a frame
            time.sleep(0.01)
        if not self.open:
            return False, None
        height, width = (int(self.values[p]) for p in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
        frame = np.zeros((height, width, 3), np.uint8)
        frame[..., 2] = 200  # OpenCV's order is blue, green, red
        return True, frame

    def release(self):
        self.open = False

    def getBackendName(self):  # noqa: N802
        return "FAKE"


@pytest.fixture(autouse=True)
def _fake_capture(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)


class TestOpenCV(CameraContract):
    def make_config(self):
        return OpenCVCameraConfig(index_or_path=0, width=64, height=48, fps=30, warmup_s=0)

    def bad_settings(self):
        return {"fourcc": "TOO LONG", "rotation": 45}

    def has_device(self):
        return True

    def scene_is_still(self):
        return True

    def stop_frames(self, camera):
        camera.videocapture.paused = True
