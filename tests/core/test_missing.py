# SPDX-License-Identifier: Apache-2.0
"""The hint for a plugin that is not installed."""

import json
import logging
from importlib import metadata

import pytest

from lerobot_ext import missing

NEEDS = {
    "format": 1,
    "policy": "not_here",
    "packages": [
        {"name": "lerobot", "version": metadata.version("lerobot"), "provides": []},
        {"name": "lerobot_policy_not_here", "version": "1.2", "provides": ["policy not_here"]},
    ],
}


@pytest.fixture(autouse=True)
def _warnings_only(caplog) -> None:
    """LeRobot, trained with in this process by another test, leaves the root logger at DEBUG."""
    caplog.set_level(logging.WARNING)


@pytest.fixture
def nothing_installed(monkeypatch):
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(missing.metadata, "distribution", absent)


@pytest.mark.parametrize(
    ("words", "plugin"),
    [
        (["--policy.type=act_plus"], "lerobot_policy_act_plus"),
        (["--policy.type=hierarchical_diffusion", "--steps=3"], "lerobot_policy_hierarchical_diffusion"),
        (["--steps=3", "--policy.type", "hierarchical_diffusion"], "lerobot_policy_hierarchical_diffusion"),
        (["--env.type=koch"], "lerobot_env_koch"),
    ],
)
def test_the_plugin_to_install_is_named_in_one_line(nothing_installed, caplog, words, plugin):
    missing.hint(words)
    [record] = caplog.records
    assert record.getMessage().endswith(f"pip install {plugin}`")


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


def test_a_copied_checkpoint_says_what_it_needs(tmp_path, caplog):
    (tmp_path / "lerobot_ext.json").write_text(json.dumps(NEEDS))
    missing.hint([f"--policy.path={tmp_path}"])
    [record] = caplog.records
    said = record.getMessage()
    assert "(policy not_here) needs lerobot_policy_not_here 1.2" in said
    assert said.endswith("Remedy: `pip install lerobot_policy_not_here==1.2`")


def test_a_training_that_goes_on_says_what_its_checkpoint_needs(tmp_path, caplog):
    (tmp_path / "train_config.json").write_text("{}")
    (tmp_path / "lerobot_ext.json").write_text(json.dumps(NEEDS))
    missing.hint([f"--config_path={tmp_path / 'train_config.json'}", "--resume=true"])
    missing.hint([f"--config_path={tmp_path / 'absent.json'}"])
    [record] = caplog.records
    assert "--config_path=" in record.getMessage()
    assert record.getMessage().endswith("Remedy: `pip install lerobot_policy_not_here==1.2`")


def test_a_checkpoint_on_the_hub_says_it_before_lerobot_fails(loopback_hub, caplog):
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo("user/x")
    missing.hint(["--policy.path=user/x"])
    missing.hint(["--policy.path=user/absent"])
    missing.hint(["--policy.path", "no repository at all"])
    assert caplog.records == []
    note = json.dumps(NEEDS).encode()
    api.upload_file(repo_id="user/x", path_or_fileobj=note, path_in_repo="lerobot_ext.json")
    missing.hint(["--policy.path=user/x"])
    assert "pip install lerobot_policy_not_here==1.2" in caplog.text


def test_without_a_network_it_is_asked_once_and_the_cache_answers(loopback_hub, caplog, monkeypatch):
    from huggingface_hub import HfApi, hf_hub_download

    api = HfApi()
    api.create_repo("user/x")
    note = json.dumps(NEEDS).encode()
    api.upload_file(repo_id="user/x", path_or_fileobj=note, path_in_repo="lerobot_ext.json")
    hf_hub_download("user/x", "lerobot_ext.json")
    loopback_hub.stop()
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waited to try again"))
    monkeypatch.setattr(loopback_hub, "stop", lambda: None)
    missing.hint(["--policy.path=user/x"])
    assert "pip install lerobot_policy_not_here==1.2" in caplog.text


def test_what_cannot_be_read_is_one_warning(tmp_path, caplog):
    (tmp_path / "lerobot_ext.json").write_text("{")
    missing.hint([f"--policy.path={tmp_path}"])
    [record] = caplog.records
    assert record.levelname == "WARNING"


def test_a_checkpoint_whose_packages_are_here_needs_no_hint(tmp_path, caplog):
    (tmp_path / "lerobot_ext.json").write_text(json.dumps(NEEDS | {"packages": NEEDS["packages"][:1]}))
    missing.hint([f"--policy.path={tmp_path}"])
    missing.hint([f"--policy.path={tmp_path / 'empty'}"])
    assert caplog.records == []
