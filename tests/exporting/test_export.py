# SPDX-License-Identifier: Apache-2.0
"""What is exported is a stock checkpoint, and acts as the policy did."""

import json
from pathlib import Path

import pytest
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot_robot_processors.steps.augment import AugmentStep
from lerobot_robot_processors.steps.smoothing import EmaSmoothingStep
from serving_checkpoints import features, save, save_act
from small_hierarchical import SMALL

from lerobot_ext.cli.command import CommandError
from lerobot_ext.cli.main import main
from lerobot_ext.exporting.export import act_without_plugins, export
from lerobot_ext.exporting.protocol import NotExportableError, stock_policy_of


def _with_step(folder: Path, step: object, pipeline: str = "pre") -> Path:
    """Put a step of ours before the last one of a saved pipeline."""
    before, after = make_pre_post_processors(None, pretrained_path=str(folder))
    chosen = before if pipeline == "pre" else after
    chosen.steps = [*chosen.steps[:-1], step, chosen.steps[-1]]
    chosen.save_pretrained(folder)
    return folder


def _names(folder: Path, pipeline: str) -> list[str]:
    return [step["registry_name"] for step in json.loads((folder / f"{pipeline}.json").read_text())["steps"]]


@pytest.mark.slow
def test_a_stock_policy_is_stripped_of_our_steps_and_acts_the_same_without_our_packages(tmp_path, capsys):
    folder = _with_step(save_act(tmp_path / "act"), AugmentStep(brightness=0.2))
    assert "lerobot_ext_augment" in _names(folder, "policy_preprocessor")
    out = tmp_path / "actor"
    assert main(["export", f"--policy.path={folder}", "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["type"] == "act"
    assert said["left_out"] == ["lerobot_ext_augment"]
    assert said["compared"] == 3
    assert "lerobot_ext" not in (out / "policy_preprocessor.json").read_text()
    assert set(_names(out, "policy_preprocessor")) == set(_names(folder, "policy_preprocessor")) - {
        "lerobot_ext_augment"
    }
    assert get_policy_class(PreTrainedConfig.from_pretrained(out).type) is ACTPolicy


def test_a_step_that_changes_actions_is_refused_and_nothing_is_written(tmp_path):
    folder = _with_step(save_act(tmp_path / "act"), EmaSmoothingStep(), "post")
    with pytest.raises(CommandError, match="lerobot_ext_ema_smoothing") as raised:
        export(folder, tmp_path / "actor")
    assert "train it without the step" in raised.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["act"]


def test_an_augmentation_that_never_stops_is_no_step_to_leave_out(tmp_path):
    folder = _with_step(save_act(tmp_path / "act"), AugmentStep(brightness=0.2, when="always"))
    with pytest.raises(CommandError, match="changes what the policy does"):
        export(folder, tmp_path / "actor")


def test_hierarchical_diffusion_has_no_stock_class_and_points_to_the_graph(tmp_path):
    folder = save(tmp_path / "h", "hierarchical_diffusion", features(), **SMALL)
    with pytest.raises(CommandError, match="no policy of LeRobot's own") as raised:
        export(folder, tmp_path / "actor")
    assert "lerobot-ext export-graph" in raised.value.remedy
    assert not (tmp_path / "actor").exists()


class Actor(torch.nn.Module):
    """A policy of ours whose actor is a stock one."""

    def __init__(self, stock, refuse=""):
        super().__init__()
        self.actor, self.config, self._refuse = stock, stock.config, refuse

    def stock_policy(self):
        if self._refuse:
            raise NotExportableError(self._refuse, "turn it off")
        return self.actor


def test_a_policy_gives_its_stock_actor_or_says_why_it_cannot(tmp_path):
    stock = ACTPolicy.from_pretrained(save_act(tmp_path / "act"))
    assert stock_policy_of(stock) is stock
    assert stock_policy_of(Actor(stock)) is stock
    with pytest.raises(NotExportableError, match="`prefix_steps` is 4"):
        stock_policy_of(Actor(stock, "`prefix_steps` is 4"))
    with pytest.raises(TypeError, match="no policy of LeRobot's own"):
        stock_policy_of(Actor(Actor(stock)))


def test_an_actor_that_acts_otherwise_is_not_written(tmp_path):
    folder = save_act(tmp_path / "act")

    def acting(_, observations):
        return torch.zeros(len(observations), 1, 6)

    with pytest.raises(CommandError, match="acts otherwise"):
        export(folder, tmp_path / "actor", check=acting)
    assert [path.name for path in tmp_path.iterdir()] == ["act"]


def test_what_is_there_is_not_overwritten(tmp_path):
    folder = save_act(tmp_path / "act")
    with pytest.raises(CommandError, match="is there already"):
        export(folder, folder)
    assert (folder / "model.safetensors").exists()


def test_the_device_of_the_checkpoint_is_kept_where_there_is_none(tmp_path):
    folder = save_act(tmp_path / "act")
    for name in ("config.json", "policy_preprocessor.json"):
        text = (folder / name).read_text()
        assert '"device": "cpu"' in text
        (folder / name).write_text(text.replace('"device": "cpu"', '"device": "cuda"'))
    export(folder, tmp_path / "actor")
    for name in ("config.json", "policy_preprocessor.json"):
        assert '"device": "cuda"' in (tmp_path / "actor" / name).read_text()


@pytest.mark.slow
def test_a_process_without_plugins_refuses_a_checkpoint_that_needs_one(tmp_path):
    folder = save(tmp_path / "h", "hierarchical_diffusion", features(), **SMALL)
    with pytest.raises(CommandError, match="LeRobot alone cannot run"):
        act_without_plugins(folder, [])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--policy.path=/no/such"], "there is no such folder"),
        (["--policy.path=.", "--asset=../up"], "is no name of a folder"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(words, says, tmp_path, capsys):
    assert main(["export", *words, "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err
