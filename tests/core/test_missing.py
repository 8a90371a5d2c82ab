# SPDX-License-Identifier: Apache-2.0
"""The hint for a plugin that is not installed."""

from importlib import metadata

import pytest

from lerobot_ext import missing


@pytest.fixture
def nothing_installed(monkeypatch):
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(missing.metadata, "distribution", absent)


@pytest.mark.parametrize(
    ("words", "plugin"),
    [
        (["--policy.type=hierarchical_diffusion", "--steps=3"], "lerobot_policy_hierarchical_diffusion"),
        (["--steps=3", "--policy.type", "hierarchical_diffusion"], "lerobot_policy_hierarchical_diffusion"),
        (["--env.type=koch"], "lerobot_env_koch"),
    ],
)
def test_the_plugin_to_install_is_named_in_one_line(nothing_installed, caplog, words, plugin):
    missing.hint(words)
    [record] = caplog.records
    assert f"Remedy: `pip install {plugin}`" in record.getMessage()


@pytest.mark.parametrize(
    "words", [[], ["--env.type"], ["--policy.type=act"], ["--policy.path=hierarchical_diffusion"]]
)
def test_other_command_lines_are_left_alone(nothing_installed, caplog, words):
    missing.hint(words)
    assert caplog.records == []


def test_an_installed_plugin_needs_no_hint(monkeypatch, caplog):
    monkeypatch.setattr(missing.metadata, "distribution", lambda name: object())
    missing.hint(["--env.type=koch"])
    assert caplog.records == []
