# SPDX-License-Identifier: Apache-2.0
"""The camera `pyav`: files, network streams and test pictures under stock's camera contract."""

import logging
import re
import threading
import time
from itertools import pairwise
from pathlib import Path

import av
import draccus
import numpy as np
import pytest
from lerobot.cameras.configs import CameraConfig, ColorMode, Cv2Rotation
from lerobot.cameras.utils import make_cameras_from_configs
from lerobot.utils.errors import DeviceAlreadyConnectedError, DeviceNotConnectedError
from lerobot_camera_pyav import PyAVCamera, PyAVCameraConfig
from make_videos import Kind, decoded, write
from mjpeg_server import MjpegServer, serving

from lerobot_ext.testing import CameraContract

SOON_MS = 20_000  # for what comes at once on an idle machine


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A file of half a second, its path as text."""
    return str(write(tmp_path_factory.mktemp("clip") / "clip.mp4", Kind("libx264", 5, n=15)))


@pytest.fixture
def camera():
    """Builds connected cameras and puts them away at the end; no thread may stay."""
    made = []

    def build(source: str, connect: bool = True, **fields) -> PyAVCamera:
        config = PyAVCameraConfig(source=source, **{"warmup_s": 0, **fields})
        made.append(make_cameras_from_configs({"top": config})["top"])
        if connect:
            made[-1].connect()
        return made[-1]

    yield build
    for one in made:
        if one.is_connected:
            one.disconnect()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("PyAVCamera")]


def keep_reading(
    eye: PyAVCamera, timeout_ms: float, n: int = 300, despite: tuple[type[Exception], ...] = ()
) -> None:
    """Read `n` frames, going on after errors of these kinds."""
    for _ in range(n):
        try:
            eye.async_read(timeout_ms)
        except Exception as error:
            if not isinstance(error, despite):
                raise


class TestAFileKeepsTheContract(CameraContract):
    @pytest.fixture(autouse=True)
    def _clip(self, clip):
        self.clip = clip

    def make_config(self):
        return PyAVCameraConfig(source=self.clip, warmup_s=0)

    def bad_settings(self):
        return {"source": "", "fps": 0, "read_timeout_s": -1.0, "rotation": 45, "color_mode": "grey"}


class TestANetworkCameraKeepsTheContract(CameraContract):
    @pytest.fixture(autouse=True)
    def _server(self):
        with serving(still=True) as self.server:
            yield

    def make_config(self):
        return PyAVCameraConfig(source=self.server.url, warmup_s=0, read_timeout_s=3)

    def stop_frames(self, camera):
        self.server.silent.set()

    def scene_is_still(self):
        return True


def test_the_config_survives_the_command_line(clip):
    words = {"type": "pyav", "source": clip, "rotation": 90, "options": {"a": "b"}, "width": 48, "height": 64}
    config = draccus.decode(CameraConfig, words)
    assert isinstance(config, PyAVCameraConfig)
    assert config.type == "pyav"
    assert config.capture_size == (64, 48)
    assert draccus.decode(CameraConfig, draccus.encode(config, CameraConfig)) == config


def test_the_readmes_cameras_are_what_a_stock_command_line_takes():
    from lerobot.scripts.lerobot_teleoperate import TeleoperateConfig

    readme = (Path(__file__).parents[2] / "robots/lerobot_camera_pyav/README.md").read_text()
    [cameras] = re.findall(r"--robot\.cameras='(.*?)'", readme, re.DOTALL)
    words = ["--robot.type=koch_follower", "--robot.port=x", "--teleop.type=koch_leader", "--teleop.port=y"]
    config = draccus.parse(TeleoperateConfig, args=[*words, f"--robot.cameras={cameras}"])
    assert [camera.source for camera in config.robot.cameras.values()] == [
        "rtsp://10.0.0.7/stream",
        "/dev/video0",
    ]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"source": ""}, "`source` is empty"),
        ({"width": 64}, "belong together"),
        ({"width": 0, "height": 48}, r"`width` \(0\) must be positive"),
        ({"fps": -1}, r"`fps` \(-1\) must be positive"),
        ({"read_timeout_s": 0}, r"`read_timeout_s` \(0\) must be positive"),
        ({"reconnect_s": -1.0}, r"`reconnect_s` \(-1.0\) must not be negative"),
        ({"rotation": 45}, "45"),
        ({"color_mode": "grey"}, "grey"),
    ],
)
def test_a_wrong_config_is_refused_with_field_and_value(fields, said):
    with pytest.raises(ValueError, match=said):
        PyAVCameraConfig(**{"source": "video.mp4", **fields})


def test_a_file_gives_its_own_frames_and_starts_anew_at_its_end(camera, clip):
    _, frames = decoded(clip)
    known = {frame.transpose(1, 2, 0).tobytes(): number for number, frame in enumerate(frames)}
    eye = camera(clip)
    assert (eye.width, eye.height, eye.fps) == (64, 48, 30)
    numbers = [known[eye.async_read(SOON_MS).tobytes()] for _ in range(40)]
    assert any(after < before for before, after in pairwise(numbers))
    assert len(set(numbers)) > 5


def test_a_file_is_played_at_its_own_pace(camera, clip):
    eye = camera(clip)
    eye.async_read(SOON_MS)
    began, first = time.perf_counter(), eye._pump.newest()[0]
    time.sleep(1.5)
    number, _, _ = eye._pump.newest()
    shown = number - first
    # A host that holds the thread up makes it fewer, and what was late is made good: never many more.
    assert 5 <= shown <= (time.perf_counter() - began + 1.2) * 30


def test_a_file_that_is_not_to_start_anew_says_when_it_is_over(camera, clip):
    eye = camera(clip, loop=False)
    with pytest.raises(ConnectionError, match="the file is over and `loop` is off"):
        keep_reading(eye, SOON_MS)
    time.sleep(0.01)
    with pytest.raises(ConnectionError, match="the file is over"):
        eye.read_latest(max_age_ms=0)
    eye.disconnect()
    assert not eye.is_connected


@pytest.mark.parametrize("mode", ["rgb", "bgr"])
@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_colours_and_rotation_are_stocks(camera, mode, rotation):
    import cv2
    from lerobot.cameras.utils import get_cv2_rotation

    pattern = "testsrc2=size=64x48:rate=30:duration=0.02"  # a single picture
    with av.open(pattern, format="lavfi") as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    expected = picture if mode == "rgb" else picture[..., ::-1]
    turn = get_cv2_rotation(Cv2Rotation(rotation))
    expected = expected if turn is None else cv2.rotate(np.ascontiguousarray(expected), turn)
    eye = camera(pattern, format="lavfi", color_mode=mode, rotation=rotation)
    got = eye.read_latest(max_age_ms=SOON_MS)
    assert np.array_equal(got, expected)
    assert (eye.height, eye.width) == got.shape[:2]
    assert got.flags.c_contiguous


def test_another_colour_mode_for_one_frame(camera):
    eye = camera("color=c=0xC83C14:size=64x48:rate=30", format="lavfi")
    assert np.array_equal(eye.read(ColorMode.BGR), eye.read()[..., ::-1])


def test_size_and_rate_are_checked_against_the_source(camera, clip):
    assert camera(clip, width=48, height=64, rotation=90, fps=30).read_latest(SOON_MS).shape == (64, 48, 3)
    for fields, said in (
        ({"width": 640, "height": 480}, "gives pictures of 64x48, and `width` and `height` ask for 640x480"),
        ({"width": 64, "height": 48, "rotation": 90}, "ask for 48x64 before rotation"),
        ({"fps": 60}, "gives 30 pictures a second, and `fps` asks for 60"),
    ):
        eye = camera(clip, connect=False, **fields)
        with pytest.raises(RuntimeError, match=said):
            eye.connect()
        assert not eye.is_connected
        assert (eye.width, eye.fps) == (fields.get("width"), fields.get("fps"))


@pytest.mark.parametrize(
    ("source", "fields"),
    [
        ("no_such_file.mp4", {}),
        ("http://127.0.0.1:9/stream", {"open_timeout_s": 3}),
        ("rtsp://127.0.0.1:9/stream", {"open_timeout_s": 3}),
        ("/dev/video97", {}),
        ("nonsense", {"format": "no_such_format"}),
        ("no_such_filter", {"format": "lavfi"}),
        ("sine=frequency=440", {"format": "lavfi"}),
    ],
)
def test_a_source_that_cannot_be_opened_is_named_at_connect(camera, source, fields):
    eye = camera(source, connect=False, **fields)
    with pytest.raises(ConnectionError, match=r"PyAVCamera\(.*\) cannot be opened: .+ Check `source`"):
        eye.connect()
    assert not eye.is_connected


def test_a_file_that_is_no_video_and_one_of_sound_only(camera, tmp_path):
    path = tmp_path / "text.mp4"
    path.write_text("no video" * 100)
    with pytest.raises(ConnectionError, match="cannot be opened: Invalid data"):
        camera(str(path))


def test_a_file_that_breaks_off_ends_with_its_reason(camera, tmp_path):
    path = write(tmp_path / "cut.ts", Kind("libx264", 5, n=30, suffix="ts"))
    path.write_bytes(path.read_bytes()[:6000])
    eye = camera(str(path), loop=False)
    with pytest.raises(ConnectionError, match="gives no more pictures: "):
        keep_reading(eye, SOON_MS)


def test_calls_in_the_wrong_order_are_stocks_errors(camera, clip):
    eye = camera(clip, connect=False)
    for call in (eye.read, eye.async_read, eye.read_latest, eye.disconnect):
        with pytest.raises(DeviceNotConnectedError):
            call()
    eye.connect()
    with pytest.raises(DeviceAlreadyConnectedError):
        eye.connect()


def number_in(frame: np.ndarray) -> int:
    """The number of a picture of the server's, up to what JPEG makes of it."""
    return round(float(frame[..., 0].mean())) - 20


def test_a_slow_reader_of_a_network_camera_gets_the_newest_picture(camera):
    with serving() as server:
        eye = camera(server.url)
        seen = []
        for _ in range(4):
            time.sleep(0.5)
            frame = eye.async_read(SOON_MS)
            seen.append((server.sent - number_in(frame)) % 200)
        assert min(seen) <= 8, "pictures wait somewhere"
        eye.disconnect()


def test_a_network_camera_that_hangs_up_comes_back(camera, caplog):
    with serving() as server, caplog.at_level(logging.WARNING):
        eye = camera(server.url)
        eye.async_read(SOON_MS)
        server.hang_up()
        end = time.monotonic() + 20
        while "is back after" not in caplog.text and time.monotonic() < end:
            time.sleep(0.05)
        before = eye._pump.newest()[0]
        keep_reading(eye, SOON_MS, 5)
        assert eye._pump.newest()[0] > before
        eye.disconnect()
    said = [record.getMessage() for record in caplog.records if record.name.startswith("lerobot_camera_pyav")]
    assert len(said) == 2
    assert "dropped" in said[0]


def test_a_network_camera_that_goes_away_and_returns_is_found_again(camera):
    first = MjpegServer()
    eye = camera(first.url, reconnect_s=60)
    eye.async_read(SOON_MS)
    first.go_away()
    with pytest.raises(TimeoutError, match=r"it dropped .* s ago \(.+\) and is opened again"):
        keep_reading(eye, 200)
    time.sleep(0.3)
    with pytest.raises(TimeoutError, match=r"too old: .*it dropped"):
        eye.read_latest(max_age_ms=200)
    with serving(port=first.port):
        assert eye.async_read(SOON_MS).shape == (48, 64, 3)
        eye.disconnect()


def test_a_network_camera_that_stays_away_is_given_up_in_time(camera):
    server = MjpegServer()
    eye = camera(server.url, reconnect_s=0.5)
    server.go_away()
    with pytest.raises(ConnectionError, match=r"did not come back in 0\.5 s \("):
        keep_reading(eye, 500, despite=(TimeoutError,))
    with pytest.raises(ConnectionError, match="did not come back"):
        eye.read()


def test_a_silent_network_camera_does_not_keep_its_reader(camera):
    with serving() as server:
        eye = camera(server.url, read_timeout_s=0.5, reconnect_s=30)
        eye.async_read(SOON_MS)
        server.silent.set()
        with pytest.raises(TimeoutError):
            keep_reading(eye, 100)
        eye.disconnect()  # the fixture checks that its thread ended


def test_a_picture_of_another_size_is_refused(camera):
    with serving() as server:
        eye = camera(server.url)
        server.size = (32, 24)
        with pytest.raises(RuntimeError, match="changed from 64x48 to 32x24"):
            keep_reading(eye, SOON_MS)
        eye.disconnect()


def test_searching_for_cameras_needs_none():
    assert isinstance(PyAVCamera.find_cameras(), list)
