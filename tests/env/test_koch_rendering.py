# SPDX-License-Identifier: Apache-2.0
import time

import numpy as np
import pytest
from lerobot_env_koch import rendering
from lerobot_env_koch.constants import CAMERAS
from lerobot_env_koch.physics import KochWorld
from lerobot_env_koch.rendering import OpenGL, find_opengl, resolve_renderer


def pictures(renderer: str, task: str = "place", size: tuple[int, int] = (96, 96)) -> dict[str, np.ndarray]:
    world = KochWorld(renderer=renderer)
    world.reset(task, np.random.default_rng(4))
    drawn = {camera: world.render(camera, *size) for camera in CAMERAS}
    world.close()
    return drawn


def share(picture: np.ndarray, colour: str) -> float:
    """Share of the pixels in which one channel clearly leads the others."""
    channels = picture.astype(int)
    lead = {"red": 0, "green": 1, "blue": 2}[colour]
    others = np.delete(channels, lead, axis=2).max(axis=2)
    return float((channels[..., lead] > others + 60).mean())


def test_painter_shows_cube_and_bin() -> None:
    drawn = pictures("painter")
    assert drawn["top"].shape == (96, 96, 3)
    assert drawn["top"].dtype == np.uint8
    assert share(drawn["top"], "red") > 0.002
    assert share(drawn["top"], "blue") > 0.01
    assert share(drawn["wrist"], "red") > 0.005


def test_painter_hides_what_a_task_has_not() -> None:
    assert share(pictures("painter", "lift")["top"], "blue") == 0
    assert share(pictures("painter", "lift")["top"], "green") == 0
    assert share(pictures("painter", "reach")["top"], "green") > 0.001


def test_painter_is_deterministic_and_scales() -> None:
    first, second = pictures("painter"), pictures("painter")
    np.testing.assert_array_equal(first["top"], second["top"])
    large = pictures("painter", size=(192, 192))["top"]
    shrunk = large.reshape(96, 2, 96, 2, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - first["top"]).mean() < 6


def test_painter_takes_a_few_milliseconds() -> None:
    world = KochWorld(renderer="painter")
    world.render("top", 96, 96)
    times = []
    for _ in range(20):
        start = time.thread_time()
        world.render("top", 96, 96)
        times.append(time.thread_time() - start)
    assert min(times) < 0.02  # 1.3 ms on an idle core


def test_painter_and_mujoco_draw_alike() -> None:
    if find_opengl() is None:
        pytest.skip("MuJoCo finds no OpenGL here")
    for task in ("lift", "place"):
        painted, rendered = pictures("painter", task), pictures("mujoco", task)
        for camera in CAMERAS:
            difference = np.abs(painted[camera].astype(int) - rendered[camera].astype(int))
            assert difference.mean() < 20, f"{task} {camera}"
            # Edges and shadows may differ, the picture as a whole may not.
            assert (difference.max(axis=2) > 60).mean() < 0.12, f"{task} {camera}"


@pytest.mark.parametrize(
    ("opengl", "expected"),
    [
        (None, "painter"),
        (OpenGL("egl", "llvmpipe (LLVM 15.0.6, 256 bits)"), "painter"),
        (OpenGL("egl", "unknown"), "painter"),
        (OpenGL("egl", "NVIDIA H200/PCIe/SSE2"), "mujoco"),
    ],
)
def test_auto_means_mujoco_only_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, opengl: OpenGL | None, expected: str
) -> None:
    monkeypatch.delenv("KOCH_RENDERER", raising=False)
    monkeypatch.setattr(rendering, "_has_gpu_device", lambda: True)
    monkeypatch.setattr(rendering, "find_opengl", lambda: opengl)
    assert resolve_renderer("auto") == expected


def test_machine_without_gpu_is_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KOCH_RENDERER", raising=False)
    monkeypatch.setattr(rendering, "_has_gpu_device", lambda: False)
    monkeypatch.setattr(rendering, "find_opengl", lambda: pytest.fail("probed"))
    assert resolve_renderer() == "painter"


def test_environment_variable_decides_only_for_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOCH_RENDERER", "mujoco")
    assert resolve_renderer("auto") == "mujoco"
    assert resolve_renderer("painter") == "painter"
    monkeypatch.setenv("KOCH_RENDERER", "vulkan")
    with pytest.raises(ValueError, match=r"'vulkan'.*auto, mujoco, painter.*KOCH_RENDERER"):
        resolve_renderer("auto")


def test_mujoco_without_gl_names_the_painter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disable")
    find_opengl.cache_clear()
    try:
        world = KochWorld(renderer="mujoco")
        with pytest.raises(RuntimeError, match=r"no working OpenGL.*KOCH_RENDERER=painter"):
            world.render("top", 96, 96)
    finally:
        find_opengl.cache_clear()
