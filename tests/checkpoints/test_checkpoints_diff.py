# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext checkpoints-diff` on checkpoints that LeRobot's own functions saved."""

import json
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lerobot.common.train_utils import save_training_state
from lerobot.policies.act.modeling_act import ACTPolicy
from safetensors.torch import load_file, save_file
from serving_checkpoints import save_act

from lerobot_ext.checkpoints.compare import _flat, _of_values, compare
from lerobot_ext.cli.main import main

WEIGHTS = "pretrained_model/model.safetensors"
STATE = "training_state/optimizer_state.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint after a step of AdamW, as the trainer leaves it."""
    folder = tmp_path_factory.mktemp("run") / "000001"
    policy = ACTPolicy.from_pretrained(save_act(folder / "pretrained_model", chunk_size=4))
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3)
    sum(parameter.square().sum() for parameter in policy.parameters()).backward()
    optimizer.step()
    policy.save_pretrained(folder / "pretrained_model")
    save_training_state(folder, 1, optimizer)
    return folder


@pytest.fixture
def pair(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "b")
    return saved, tmp_path / "b"


def _edit(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_a_copy_is_the_same_and_everything_was_looked_at(pair, capsys):
    assert main(["checkpoints-diff", *map(str, pair), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["same"]
    assert said["differences"] == []
    assert said["faults"] == {"A": [], "B": []}
    n = len(load_file(pair[0] / WEIGHTS))
    assert said["compared_equal"][WEIGHTS] == n
    assert said["compared_equal"][STATE] == 3 * len(
        {name.split("/")[1] for name in load_file(pair[0] / STATE)}
    )
    assert said["compared_equal"]["pretrained_model/config.json"] > 20


def test_each_kind_of_difference_is_found_and_nothing_else(pair, capsys):
    a, b = pair

    def change(tensors):
        tensors["model.action_head.bias"] += 0.5
        tensors["model.action_head.weight"] = tensors["model.action_head.weight"].half()
        tensors["new"] = torch.zeros(2)
        del tensors["model.encoder.layers.0.norm1.weight"]
        tensors["model.encoder.layers.0.norm1.bias"] = torch.zeros(3)

    _edit(b / WEIGHTS, change)
    config = json.loads((b / "pretrained_model/config.json").read_text())
    config["n_action_steps"] = 2
    config["latent_dim"] = float(config["latent_dim"])
    (b / "pretrained_model/config.json").write_text(json.dumps(config))
    (b / "training_state/scheduler_state.json").write_text("{}")
    found = {
        (one.file, one.name, one.kind)
        for one in compare(a, b).differences
        if one.name != "model.action_head.weight" or one.kind != "value"  # the rounding to half
    }
    assert found == {
        (WEIGHTS, "model.action_head.bias", "value"),
        (WEIGHTS, "model.action_head.weight", "dtype"),
        (WEIGHTS, "new", "only in B"),
        (WEIGHTS, "model.encoder.layers.0.norm1.weight", "only in A"),
        (WEIGHTS, "model.encoder.layers.0.norm1.bias", "shape"),
        ("pretrained_model/config.json", "n_action_steps", "value"),
        ("pretrained_model/config.json", "latent_dim", "value"),
        ("training_state/scheduler_state.json", "", "only in B"),
    }
    assert main(["checkpoints-diff", str(a), str(b)]) == 1
    said = capsys.readouterr().out
    assert "n_action_steps" in said
    assert "model.action_head.bias" in said


def test_a_change_of_the_optimizer_is_found_and_a_tolerance_forgives_it(pair):
    a, b = pair
    name = next(name for name in load_file(b / STATE) if name.endswith("/exp_avg"))
    _edit(b / STATE, lambda tensors: tensors[name].add_(1e-6))
    (one,) = compare(a, b).differences
    assert (one.file, one.name, one.kind) == (STATE, name, "value")
    assert one.largest == pytest.approx(1e-6, rel=0.1)
    assert one.changed == 1.0
    assert compare(a, b, tolerance=1e-5).differences == []
    assert compare(a, b, values=False).differences == []


def test_optimizer_states_that_do_not_fit_the_policy_are_a_fault(pair):
    a, b = pair

    def change(tensors):
        tensors["state/0/exp_avg"] = torch.zeros(7)
        tensors["state/9999/exp_avg"] = torch.zeros(11)

    _edit(b / STATE, change)
    faults = compare(a, b).faults
    assert faults["A"] == []
    assert any("parameter 9999, which no group has" in fault for fault in faults["B"])
    assert any("states of parameter 0 have shapes" in fault for fault in faults["B"])
    assert any("shape [11], the policy 0 tensors" in fault for fault in faults["B"])


def test_nan_is_the_same_as_nan_and_differs_from_a_number():
    nan, inf = torch.tensor([float("nan"), float("inf"), 1.0]), float("inf")
    assert list(_of_values("f", "k", nan, nan.clone(), 0.0)) == []
    (one,) = _of_values("f", "k", nan, torch.tensor([2.0, inf, 1.0]), 1e9)
    assert one.changed == pytest.approx(1 / 3)
    assert one.largest == inf


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda b: (b / WEIGHTS).write_bytes(b"\x10"), "fewer than a header needs"),
        (lambda b: (b / "pretrained_model/config.json").write_text("{"), "cannot be read"),
        (lambda b: shutil.rmtree(b / "pretrained_model"), "holds no checkpoint"),
        (lambda b: shutil.rmtree(b), "is no folder"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(pair, damage, says, capsys):
    damage(pair[1])
    assert main(["checkpoints-diff", *map(str, pair)]) == 2
    assert says in capsys.readouterr().err


def test_the_policys_folder_alone_brings_its_training_state(pair):
    found = compare(pair[0] / "pretrained_model", pair[1])
    assert STATE in found.same
    assert not found.differences


_SETTINGS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=10,
)


@given(_SETTINGS, _SETTINGS)
def test_settings_have_equal_leaves_exactly_if_they_are_equal(first, second):
    same = [(k, repr(v)) for k, v in _flat(first)] == [(k, repr(v)) for k, v in _flat(second)]
    assert same == (json.dumps(first) == json.dumps(second))
