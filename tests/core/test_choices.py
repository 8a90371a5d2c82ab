# SPDX-License-Identifier: Apache-2.0
"""How `--set field=value` becomes a config."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lerobot.cameras.opencv import OpenCVCameraConfig
from lerobot.envs.configs import EnvConfig
from lerobot.robots.config import RobotConfig
from lerobot.robots.koch_follower import KochFollowerConfig
from lerobot_env_koch.config import KochEnvConfig

from lerobot_ext.cli.command import CommandError
from lerobot_ext.testing.check_command import _settings as settings_of
from lerobot_ext.testing.choices import PLACEHOLDER, choice_class, config_factory


def test_values_are_decoded_as_on_a_command_line():
    settings = {"task": "place", "episode_length": "7", "region.yaw_rad": "0.1"}
    make = config_factory(EnvConfig, "koch", settings)
    config = make()
    assert isinstance(config, KochEnvConfig)
    assert (config.task, config.episode_length, config.region.yaw_rad) == ("place", 7, 0.1)
    assert make() == config
    assert make() is not config
    assert make.placeholders == {}


def test_a_required_field_that_is_not_given_gets_a_named_placeholder():
    make = config_factory(RobotConfig, "koch_follower_stock", {})
    assert isinstance(make(), KochFollowerConfig)
    assert make().port == PLACEHOLDER
    assert list(make.placeholders) == ["port"]
    assert "--set port=" in make.placeholders["port"]
    given = config_factory(RobotConfig, "koch_follower_stock", {"port": "/dev/none"})
    assert given.placeholders == {}
    assert given().port == "/dev/none"


def test_a_camera_index_or_path_gets_a_placeholder_too():
    from lerobot.cameras.configs import CameraConfig

    config = config_factory(CameraConfig, "opencv", {})()
    assert isinstance(config, OpenCVCameraConfig)
    assert isinstance(config.index_or_path, (int, Path))


def test_what_cannot_be_set_is_one_clear_line():
    with pytest.raises(CommandError, match=r"no EnvConfig is registered as 'kohc'") as caught:
        choice_class(EnvConfig, "kohc")
    assert caught.value.remedy == "did you mean `koch`?"
    with pytest.raises(CommandError, match=r"`koch` cannot be made: .*`colour`") as caught:
        config_factory(EnvConfig, "koch", {"colour": "red"})()
    assert "episode_length" in caught.value.remedy
    with pytest.raises(CommandError, match="episode_length"):
        config_factory(EnvConfig, "koch", {"episode_length": "long"})()
    for both in ({"region": "1", "region.yaw_rad": "1"}, {"region.yaw_rad": "1", "region": "{}"}):
        with pytest.raises(CommandError, match="is set, and"):
            config_factory(EnvConfig, "koch", both)


@given(st.text())
def test_any_text_is_read_or_refused_in_one_line(text):
    try:
        config_factory(EnvConfig, "koch", {"task": text})
    except CommandError as error:
        refused = error
    else:
        return
    assert "`task` cannot be read" in str(refused)
    assert "\n" not in str(refused)
    assert refused.remedy


@given(st.lists(st.tuples(st.from_regex(r"[a-z_]{1,4}(\.[a-z_]{1,4}){0,2}", fullmatch=True), st.text())))
def test_settings_are_taken_over_whole_or_refused(pairs):
    texts = [f"{path}={value}" for path, value in pairs]
    paths = [path for path, _ in pairs]
    if len(set(paths)) < len(paths):
        with pytest.raises(CommandError, match="set twice"):
            settings_of(texts, ["other"])
    else:
        assert settings_of(texts, ["other"]) == {"other": dict(pairs)}
