# SPDX-License-Identifier: Apache-2.0
"""The exported graph plans as the policy does."""

from __future__ import annotations

import json

import pytest
import torch
from lerobot_policy_hierarchical_diffusion.configuration_hierarchical_diffusion import LAYER_NAMES
from lerobot_policy_hierarchical_diffusion.curriculum import CurriculumStage
from lerobot_policy_hierarchical_diffusion.graph.plan_graph import PlanGraph, embed_task
from lerobot_policy_hierarchical_diffusion.graph.session import example_inputs
from lerobot_policy_hierarchical_diffusion.network import Observation

from lerobot_ext.cli.main import main


@pytest.mark.parametrize(("layers", "steps"), [(1, 2), (3, 0), (4, 4)])
def test_the_graph_gives_the_policys_chunk(make_policy, layers, steps):
    policy = make_policy(cameras=1, depths=1).eval()
    network = policy.average
    given = example_inputs(policy, embed_task(network, "lift the cube"))
    with torch.no_grad():
        chunk, score, _, _ = PlanGraph(network, layers, steps).eval()(*given)
    state, environment, images, _, last_action, noise = given
    observation = Observation(state, environment, images, ["lift the cube"], last_action)
    expected, info = network.plan(observation, noise, steps, frozenset(LAYER_NAMES[:layers]))
    assert torch.equal(chunk, expected)  # without statistics the filter changes nothing
    assert torch.equal(score, info["emergency_score"])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["pt2", "onnx"])
def test_the_written_file_is_compared_and_described(make_policy, tmp_path, capsys, suffix):
    policy = make_policy(cameras=1, depths=1, env=3)
    policy.save_pretrained(tmp_path / "policy")
    out = tmp_path / "new" / f"plan.{suffix}"
    words = [f"--policy.path={tmp_path / 'policy'}", f"--out={out}", "--task=lift", "--steps=2", "--json"]
    assert main(["export-graph", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["largest_difference"] <= 1e-4
    assert found["bytes"] == out.stat().st_size > 10_000
    described = json.loads(out.with_suffix(".json").read_text())
    assert described["inputs"]["images"] == {
        "observation.images.cam0": [1, 1, 3, 40, 48],
        "observation.images.depth0": [1, 1, 1, 40, 48],
    }
    assert described["state_offsets"] == list(policy.network.window.past)
    assert len(described["task_embedding"]) == policy.config.planning_dim


def test_a_graph_of_another_policy_is_not_left_behind(make_policy, tmp_path, monkeypatch, capsys):
    make_policy().save_pretrained(tmp_path)
    out = tmp_path / "plan.pt2"

    def wrong(graph, inputs, path):
        path.write_text("a graph")
        return lambda given: [torch.full((1, 16, 4), 0.5), torch.zeros(1)]

    monkeypatch.setattr("lerobot_policy_hierarchical_diffusion.graph.session._write_pt2", wrong)
    assert main(["export-graph", f"--policy.path={tmp_path}", f"--out={out}"]) != 0
    assert "differs from the policy's by" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out=plan.trt"], "is of no known format"),
        (["--out=plan.pt2", "--layers=5"], "--layers is 5"),
        (["--out=plan.pt2", "--steps=17"], "--steps is 17"),
        (["--out=plan.pt2", "--layers=2", "--steps=0"], "there is no draft"),
        (["--out=plan.pt2"], "planning, which the curriculum never let take part"),
    ],
)
def test_what_cannot_be_exported_is_named(make_policy, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    stages = [CurriculumStage("most", LAYER_NAMES[:3], 5), CurriculumStage("all", LAYER_NAMES)]
    make_policy(curriculum=stages).save_pretrained(tmp_path)
    assert main(["export-graph", f"--policy.path={tmp_path}", *words]) != 0
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert not list(tmp_path.glob("plan*"))
