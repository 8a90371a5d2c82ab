# SPDX-License-Identifier: Apache-2.0
"""The actor alone, and what a training takes: `lerobot-ext export`, `memory`, `checkpoints-diff`."""

from __future__ import annotations

import json

import pytest
import torch
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
from lerobot.policies.factory import make_pre_post_processors
from q_chunking_over import ACTORS, SMALL, build, diffusion, over, stats_of

from lerobot_ext.cli.command import CommandError
from lerobot_ext.cli.main import main
from lerobot_ext.exporting.export import act_without_plugins, export
from lerobot_ext.memory.measure import measure
from lerobot_ext.memory.step import estimate
from lerobot_ext.memory.subject import Robot, open_subject

OVER_DIFFUSION = {
    "extraction": "best_of_n",
    "actor.type": "diffusion",
    "actor.horizon": 8,
    "actor.n_action_steps": 4,
    "actor.down_dims": "[16,32]",
    "actor.n_groups": 4,
    "actor.num_train_timesteps": 10,
    "actor.num_inference_steps": 2,
}
ROBOT = Robot(state=5, action=4, cameras=1, height=48, width=64)


def saved(folder, config):
    """A policy whose average is not what is trained, and its processors."""
    policy = build(config)
    with torch.no_grad():
        for parameter in policy.actor.parameters():
            parameter.add_(0.1)
    for part in (policy, *make_pre_post_processors(config, dataset_stats=stats_of(config))):
        part.save_pretrained(folder)
    return folder, policy


@pytest.mark.slow
def test_a_stock_actor_acts_the_same_without_our_packages(tmp_path):
    folder, policy = saved(tmp_path / "policy", over(diffusion(), extraction="awr"))
    done = export(folder, tmp_path / "actor", check=act_without_plugins)
    assert (done.type, done.compared, done.apart) == ("diffusion", 3, 0.0)
    assert done.parameters == sum(p.numel() for p in policy.actor.parameters()) < done.before / 2
    alone = DiffusionPolicy.from_pretrained(tmp_path / "actor")
    for name, tensor in policy.actor_ema.state_dict().items():  # what acts
        assert alone.state_dict()[name].equal(tensor), name


@pytest.mark.parametrize(
    ("config", "says", "remedy"),
    [
        (lambda: over(diffusion()), r"choose among `num_samples` \(3\)", "extraction=awr"),
        (lambda: over(ACTORS["hierarchical_diffusion"](), extraction="awr"), "no policy of LeRobot's", "run"),
        (lambda: over(None, extraction="distill"), "own flow is no class of LeRobot's", "actor.type"),
    ],
)
def test_what_a_stock_class_cannot_do_is_refused(tmp_path, config, says, remedy):
    folder, _ = saved(tmp_path / "policy", config())
    with pytest.raises(CommandError, match=says) as raised:
        export(folder, tmp_path / "actor")
    assert remedy in raised.value.remedy
    assert not (tmp_path / "actor").exists()


def words_of(fields, monkeypatch):
    small = {name: value for name, value in SMALL.items() if name not in ("device", "push_to_hub")}
    small["image_size"] = "[32,32]"
    words = [f"--policy.{name}={value}" for name, value in {**small, **fields}.items()]
    words = ["--policy.type=q_chunking", *words]
    monkeypatch.setattr("sys.argv", ["lerobot-ext", "memory", *words])  # read for the actor's options
    return words


@pytest.mark.parametrize("fields", [{"actor_hidden_dim": 32}, OVER_DIFFUSION], ids=["own", "diffusion"])
def test_a_step_takes_what_was_estimated(fields, monkeypatch):
    subject = open_subject(words_of(fields, monkeypatch), ROBOT)
    optimizer = subject.config.get_optimizer_preset()
    found = estimate(subject, 4, optimizer, foreach=None)
    real = measure(subject, 4, optimizer, "cpu")
    for kind in ("parameters", "gradients", "optimizer", "ema", "target"):
        assert found.parts[kind] == real.usage.parts[kind], kind
    assert abs(found.peak - real.peak) <= 0.06 * real.peak
    for kind, copy, source in (("ema", "actor_ema", "actor"), ("target", "critic_target", "critic")):
        whole = found.below("parameters", source) + found.below("buffers", source)
        assert found.below(kind, copy) == whole > 0


def test_the_table_has_the_parts_and_the_largest_batch(monkeypatch, capsys):
    words = words_of(OVER_DIFFUSION, monkeypatch)
    rest = ["--cameras=1", "--pictures=48x64", "--batch_size=4", "--measure=no", "--memory=2GiB"]
    assert main(["memory", *words, *rest, "--no-savings", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    names = {module["name"] for module in said["modules"]}
    assert {"actor", "actor_ema", "critic", "critic_target"} <= names
    assert said["largest_batch"] > 4


def test_two_checkpoints_are_compared_with_averages_and_targets(tmp_path, capsys):
    config = over(diffusion())
    folder, policy = saved(tmp_path / "a", config)
    policy.update()
    for part in (policy, *make_pre_post_processors(config, dataset_stats=stats_of(config))):
        part.save_pretrained(tmp_path / "b")
    assert main(["checkpoints-diff", str(folder), str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same"]
    assert main(["checkpoints-diff", str(folder), str(tmp_path / "b"), "--json", "--top", "1000"]) == 1
    changed = {one["name"].split(".")[0] for one in json.loads(capsys.readouterr().out)["differences"]}
    assert changed == {"actor_ema", "train_step"}  # the critics were equal already
