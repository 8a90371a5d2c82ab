# SPDX-License-Identifier: Apache-2.0
"""A policy's `camera_delta_indices` reach LeRobot's dataset; without them nothing changes."""

from types import SimpleNamespace

import lerobot
import pytest
from lerobot.datasets import factory

from lerobot_ext.data import camera_window

META = SimpleNamespace(
    features={"observation.state": {}, "observation.images.top": {}, "action": {}, "timestamp": {}},
    camera_keys=["observation.images.top"],
    fps=10,
)


def config(**more):
    return SimpleNamespace(
        observation_delta_indices=[-1, 0], action_delta_indices=[0, 1], reward_delta_indices=None, **more
    )


@pytest.fixture
def installed():
    before = factory.resolve_delta_timestamps
    camera_window.uninstall()
    stock = factory.resolve_delta_timestamps
    assert camera_window.install()
    yield stock
    factory.resolve_delta_timestamps = before


@pytest.mark.usefixtures("installed")
def test_only_the_cameras_get_the_narrow_window():
    windows = factory.resolve_delta_timestamps(config(camera_delta_indices=[0]), META)
    assert windows == {
        "observation.state": [-0.1, 0.0],
        "observation.images.top": [0.0],
        "action": [0.0, 0.1],
    }


def test_other_policies_are_read_as_in_stock(installed):
    assert factory.resolve_delta_timestamps(config(), META) == installed(config(), META)


def test_installing_twice_wraps_once(installed):
    assert camera_window.install()
    assert factory.resolve_delta_timestamps.__wrapped__ is installed
    camera_window.uninstall()
    assert factory.resolve_delta_timestamps is installed


def test_another_lerobot_is_left_alone_with_one_line(installed, monkeypatch, caplog):
    camera_window.uninstall()
    monkeypatch.setattr(lerobot, "__version__", "0.9.0")
    assert not camera_window.install()
    assert factory.resolve_delta_timestamps is installed
    assert "Install lerobot>=0.6.1,<0.7" in caplog.text


@pytest.mark.usefixtures("installed")
def test_lerobot_still_calls_the_function_we_wrap():
    """Fails when LeRobot no longer looks the function up where we put ours."""
    assert "resolve_delta_timestamps" in factory.make_dataset.__code__.co_names
    assert factory.make_dataset.__globals__["resolve_delta_timestamps"] is factory.resolve_delta_timestamps
