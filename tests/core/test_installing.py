# SPDX-License-Identifier: Apache-2.0
"""Remedies name a command that installs from where this installation came from."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from lerobot_ext import installing


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone with one plugin, which the core was installed from."""
    root = tmp_path / "my clone"
    plugin = root / "policies" / "lerobot_policy_lapo"
    plugin.mkdir(parents=True)
    (plugin / "pyproject.toml").write_text("")
    came_from(monkeypatch, {"url": root.as_uri(), "dir_info": {"editable": True}})
    return root


def came_from(monkeypatch, origin):
    text = None if origin is None else json.dumps(origin)
    found = SimpleNamespace(read_text=lambda name: text)
    monkeypatch.setattr(installing.metadata, "distribution", lambda name: found)


@pytest.fixture
def with_pip(monkeypatch):
    monkeypatch.setattr(installing, "find_spec", lambda name: object())


@pytest.mark.parametrize(
    "origin",
    [
        None,
        {"url": "file:///wheels/lerobot_ext-0.1.0-py3-none-any.whl", "archive_info": {}},
        {"url": "https://example.org/lerobot_ext", "vcs_info": {"vcs": "git"}},
    ],
)
def test_from_an_index_a_wheel_or_a_repository_it_is_the_name(monkeypatch, with_pip, origin):
    came_from(monkeypatch, origin)
    assert installing.install_command("lerobot_policy_lapo") == "pip install lerobot_policy_lapo"
    assert installing.install_command("lerobot_ext[plot]") == "pip install 'lerobot_ext[plot]'"


def test_the_environment_of_a_clone_is_synchronised(clone, monkeypatch):
    monkeypatch.setattr(installing.sys, "prefix", str(clone / ".venv"))
    assert installing.install_command("lerobot_policy_lapo") == f"uv sync --project '{clone}'"
    monkeypatch.chdir(clone)
    assert installing.install_command("lerobot_ext[plot]") == "uv sync"


def test_an_environment_of_ones_own_takes_the_clones_folders(clone, monkeypatch, with_pip):
    monkeypatch.setattr(installing.sys, "prefix", "/home/me/.venv")
    made = installing.install_command("lerobot_policy_lapo[x]", "lerobot_ext[plot]", "matplotlib")
    plugin = clone / "policies" / "lerobot_policy_lapo"
    assert made == f"pip install '{plugin}[x]' '{clone}[plot]' matplotlib"


def test_where_there_is_no_pip_it_is_uv(monkeypatch):
    came_from(monkeypatch, None)
    monkeypatch.setattr(installing, "find_spec", lambda name: None)
    assert installing.install_command("a", "b") == "uv pip install a b"


def test_every_plugin_of_this_clone_is_found(monkeypatch, with_pip):
    root = Path(__file__).parents[2]
    came_from(monkeypatch, {"url": root.as_uri(), "dir_info": {}})
    monkeypatch.setattr(installing.sys, "prefix", "/home/me/.venv")
    files = [file for group in installing._GROUPS for file in (root / group).glob("*/pyproject.toml")]
    assert len(files) >= 8
    for plugin in (file.parent for file in files):
        assert installing.install_command(plugin.name) == f"pip install {plugin}"
