# SPDX-License-Identifier: Apache-2.0
"""CameraContract: a healthy toy keeps it; of each broken one exactly the rule that it breaks is told."""

from typing import ClassVar

import numpy as np
import pytest
from broken_plugins import broken_configs, broken_connections, failures, rule_names
from lerobot.cameras.utils import make_cameras_from_configs
from toy_devices import ToyCamera, ToyCameraConfig

from lerobot_ext.testing import CameraContract


class Healthy(CameraContract):
    device: ClassVar[type] = ToyCamera

    def make_config(self):
        return ToyCameraConfig()

    def bad_settings(self):
        return {"speed": 0}

    def build(self, config):
        return self.device(config)

    def stop_frames(self, camera):
        camera.paused.set()

    def scene_is_still(self):
        return True


def broken(**members):
    """The toy with some members exchanged."""
    return type("Broken", (Healthy,), {"device": type("BrokenCamera", (ToyCamera,), members)})


def forget_size(self, config):
    ToyCamera.__init__(self, config)
    self.width = 640


def newest(self, timeout_ms=200):
    self.require()
    self.fresh.wait(timeout_ms / 1000)
    return self.frame


def newest_or_timeout(self, timeout_ms=200):
    return newest(self, timeout_ms) if not self.paused.is_set() else ToyCamera.async_read(self, timeout_ms)


def once(self, max_age_ms=500):
    frame = ToyCamera.read_latest(self, max_age_ms)
    self.frame = None
    return frame


def same_array(self):
    if not hasattr(self, "buffer"):
        self.buffer = ToyCamera.picture(self)
    self.buffer = self.buffer  # drawn over each time
    self.buffer[0, 0, 0] += 1
    return self.buffer


def keep_frame(self):
    kept = getattr(self, "frame", None), getattr(self, "taken_s", 0.0)
    ToyCamera_reset(self)
    self.frame, self.taken_s = kept


ToyCamera_reset = ToyCamera.reset


def wrong_error(self, timeout_ms=200):
    try:
        return ToyCamera.async_read(self, timeout_ms)
    except TimeoutError as error:
        raise RuntimeError("no frame") from error


def any_age(self, max_age_ms=500):
    return ToyCamera.read_latest(self, 1e9)


def always_rgb(self):
    frame = np.zeros((self.height, self.width, 3), np.uint8)
    frame[..., 0] = 200
    return frame


BROKEN = {
    "keeps-the-size-it-is-given": broken(__init__=forget_size),
    "finds-cameras-without-an-object": broken(find_cameras=lambda self: []),
    "read-gives-a-frame": broken(read=lambda self: ToyCamera.read(self) / np.float32(255)),
    "async-read-gives-each-frame-once": broken(async_read=newest_or_timeout),
    "read-latest-gives-a-frame": broken(read_latest=once),
    "frames-are-not-overwritten": broken(picture=same_array),
    "forgets-frames-of-an-earlier-connection": broken(reset=keep_frame, first_frame_s=0.3),
    "async-read-times-out-when-frames-stop": broken(async_read=wrong_error),
    "read-latest-refuses-old-frames": broken(read_latest=any_age),
    "gives-the-colours-it-is-asked-for": broken(picture=always_rgb),
    **broken_configs(Healthy, ToyCameraConfig),
    **broken_connections(Healthy, ToyCamera, ToyCameraConfig),
}


class TestHealthy(Healthy):
    def build(self, config):
        return make_cameras_from_configs({"toy": config})["toy"]


@pytest.mark.parametrize("rule", sorted(BROKEN))
def test_a_broken_camera_is_caught_by_exactly_its_rule(rule):
    assert failures(BROKEN[rule]) == [rule]


def test_every_rule_has_a_broken_camera():
    assert set(BROKEN) == rule_names(CameraContract)


def test_what_cannot_be_provoked_is_skipped():
    class Real(Healthy):
        def stop_frames(self, camera):
            CameraContract.stop_frames(self, camera)

        def scene_is_still(self):
            return False

    assert failures(Real) == []
    assert "not overridden" in Real().judge("test_read_latest_refuses_old_frames").found
    assert "`scene_is_still` is False" in Real().judge("test_gives_the_colours_it_is_asked_for").found
