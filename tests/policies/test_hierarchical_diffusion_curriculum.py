# SPDX-License-Identifier: Apache-2.0
"""Which layers count when, and how much, for which task."""

from __future__ import annotations

import logging

import draccus
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lerobot_policy_hierarchical_diffusion import HierarchicalDiffusionConfig
from lerobot_policy_hierarchical_diffusion.configuration_hierarchical_diffusion import LAYER_NAMES
from lerobot_policy_hierarchical_diffusion.curriculum import Curriculum, CurriculumStage
from lerobot_policy_hierarchical_diffusion.loss_weights import LossWeights
from lerobot_policy_hierarchical_diffusion.modeling_hierarchical_diffusion import HierarchicalDiffusionPolicy

GRASP = CurriculumStage("grasp", ("manipulation",), steps=2)
SAFELY = CurriculumStage("safely", ("safety", "manipulation"), steps=4, ramp=3)
ALL = CurriculumStage("all", LAYER_NAMES)
STAGES = [GRASP, SAFELY, ALL]


# --- the schedule


def test_stages_ramp_and_the_last_one_stays():
    curriculum = Curriculum(STAGES, LAYER_NAMES)
    weights = [curriculum.weights_at(step) for step in range(8)]
    safety = [each[0] for each in weights]
    assert safety == [0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert [each[2] for each in weights] == [1] * 8
    assert [each[3] for each in weights] == [0] * 6 + [1] * 2
    assert [curriculum.stage_at(step) for step in (0, 1, 2, 5, 6, 10**9)] == [0, 0, 1, 1, 2, 2]


def test_without_stages_everything_counts():
    assert Curriculum([], LAYER_NAMES).weights_at(5) == (1.0,) * 4


stages = st.lists(
    st.tuples(st.sets(st.sampled_from(LAYER_NAMES)), st.integers(1, 20), st.integers(0, 20)), min_size=1
)


@given(stages, st.integers(0, 200))
def test_weights_are_shares_and_reach_the_stages_own(drawn, step):
    made = [
        CurriculumStage(str(i), tuple(layers), steps, min(ramp, steps))
        for i, (layers, steps, ramp) in enumerate(drawn)
    ]
    curriculum = Curriculum(made, LAYER_NAMES)
    assert all(0 <= weight <= 1 for weight in curriculum.weights_at(step))
    end = sum(stage.steps for stage in made) + 20
    assert curriculum.weights_at(end) == tuple(float(name in made[-1].layers) for name in LAYER_NAMES)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (CurriculumStage("a", ("gait",), 3), r"`curriculum\[0\].layers` names gait; the layers are safety"),
        (CurriculumStage("a", ("safety",), 0), r"`curriculum\[0\].steps` \(0\) must be 1 or more"),
        (CurriculumStage("a", ("safety",), 3, 4), r"`curriculum\[0\].ramp` \(4\) must lie in 0..3"),
    ],
)
def test_a_stage_that_cannot_be_is_named(make_config, stage, message):
    with pytest.raises(ValueError, match=message):
        make_config(curriculum=[stage, ALL])


def test_curriculum_and_task_weights_parse_from_the_command_line():
    config = draccus.parse(
        HierarchicalDiffusionConfig,
        args=[
            "--device=cpu",
            '--curriculum=[{"name": "grasp", "layers": ["manipulation"], "steps": 2}, '
            '{"name": "all", "layers": ["safety", "dynamics", "manipulation", "planning"]}]',
            '--task_weights={"lift": {"safety": 2.0}, "1": {"planning": 0.0}}',
        ],
    )
    assert config.curriculum == [GRASP, ALL]
    assert config.task_weights == {"lift": {"safety": 2.0}, "1": {"planning": 0.0}}


def test_a_wrong_task_weight_is_named(make_config):
    with pytest.raises(ValueError, match=r"`task_weights\['lift'\]` names gait"):
        make_config(task_weights={"lift": {"gait": 1.0}})
    with pytest.raises(ValueError, match=r"`task_weights\['lift'\]\['safety'\]` \(-1.0\) must not"):
        make_config(task_weights={"lift": {"safety": -1.0}})


# --- the weights of the losses


def losses_of(*values: float) -> dict[str, torch.Tensor]:
    return {name: torch.full((3,), value) for name, value in zip(LAYER_NAMES, values, strict=True)}


def test_each_sample_has_its_tasks_weights():
    weights = LossWeights(
        LAYER_NAMES,
        {"safety": 1.0, "manipulation": 1.0},
        {"lift": {"safety": 3.0}, "1": {"planning": 5.0}},
        learned=False,
    )
    table = weights.of(["lift", "other", None], torch.tensor([1, 1, 0]))
    assert table.tolist() == [[3, 0, 1, 0], [1, 0, 1, 5], [1, 0, 1, 0]]
    total = weights(losses_of(1, 10, 100, 1000), table, torch.tensor([1, 1, 0.5, 1]))
    assert total.tolist() == [53, 5051, 51]


def test_learned_weights_find_the_losses_size():
    """`e^-η L + η` is smallest at `η = log L`: each loss ends up counted as 1."""
    weights = LossWeights(LAYER_NAMES, dict.fromkeys(LAYER_NAMES, 1.0), {}, learned=True)
    optimizer = torch.optim.Adam(weights.parameters(), lr=0.1)
    losses = losses_of(0.1, 1.0, 5.0, 30.0)
    for _ in range(300):
        optimizer.zero_grad()
        weights(losses, weights.of(["a"], None), torch.ones(4)).sum().backward()
        optimizer.step()
    wanted = torch.tensor([0.1, 1.0, 5.0, 30.0]).log()
    torch.testing.assert_close(weights.log_variance.detach(), wanted, atol=1e-2, rtol=0)


# --- the policy


def test_layers_of_a_later_stage_do_not_count_yet(make_policy, make_batch):
    policy = make_policy(curriculum=STAGES).train()
    loss, log = policy(make_batch(policy.config, 4))
    loss.backward()
    assert log["hierarchical/stage"] == 1
    assert [log[f"hierarchical/{name}_weight"] for name in LAYER_NAMES] == [0, 0, 1, 0]
    planning = [p.grad for p in policy.network.layers["planning"].parameters()]
    assert not any(grad is not None and grad.any() for grad in planning)
    assert policy.network.layers["manipulation"].readout.grad.any()


def test_stages_follow_the_steps_and_are_logged_once(make_policy, make_batch, caplog):
    with caplog.at_level(logging.INFO):
        policy = make_policy(curriculum=STAGES).train()
        seen = []
        for _ in range(7):
            seen.append(policy(make_batch(policy.config, 4))[1]["hierarchical/stage"])
            policy.update()
    assert seen == [1, 1, 2, 2, 2, 2, 3]
    lines = [record.getMessage() for record in caplog.records if "stage" in record.getMessage()]
    assert lines == [
        "hierarchical_diffusion: stage 1 of 3, 'grasp': manipulation",
        "hierarchical_diffusion: stage 2 of 3, 'safely': safety, manipulation",
        "hierarchical_diffusion: stage 3 of 3, 'all': safety, dynamics, manipulation, planning",
    ]


def test_a_resumed_run_goes_on_in_its_stage_and_another_curriculum_starts_anew(make_policy, tmp_path):
    policy = make_policy(curriculum=STAGES)
    for _ in range(3):
        policy.update()
    policy.save_pretrained(tmp_path)
    resumed = HierarchicalDiffusionPolicy.from_pretrained(tmp_path, config=policy.config)
    assert resumed.network.stage_weights.tolist() == [0.5, 0, 1, 0]
    assert resumed.average.stage_weights.tolist() == [0.5, 0, 1, 0]

    other = policy.config
    other.curriculum = [CurriculumStage("plan", ("planning",), 2), ALL]
    renewed = HierarchicalDiffusionPolicy.from_pretrained(tmp_path, config=other)
    assert renewed.network.stage_weights.tolist() == [0, 0, 0, 1]
    renewed.update()
    renewed.update()
    assert renewed.network.stage_weights.tolist() == [1, 1, 1, 1]

    other.curriculum = []
    whole = HierarchicalDiffusionPolicy.from_pretrained(tmp_path, config=other)
    assert whole.network.stage_weights.tolist() == [1, 1, 1, 1]


def test_a_policy_leaves_out_what_never_took_part(make_policy, make_observation):
    policy = make_policy(curriculum=STAGES).eval()
    policy.select_action(make_observation(policy.config, 2))
    assert policy.last_info["active_layers"] == ["safety", "manipulation"]  # safety warns, unheard
    policy.select_action(make_observation(policy.config, 2))
    for _ in range(10):
        policy.update()
    policy.reset()
    policy.select_action(make_observation(policy.config, 2))
    assert policy.last_info["active_layers"] == list(LAYER_NAMES)


def test_all_stages_on_is_no_curriculum(make_policy, make_batch):
    plain, staged = make_policy().eval(), make_policy(curriculum=[ALL]).eval()
    batch = make_batch(plain.config, 4)
    torch.manual_seed(3)
    loss = plain(batch)[0]
    torch.manual_seed(3)
    assert torch.equal(loss, staged(batch)[0])


def test_the_learned_weights_are_trained_and_saved(make_policy, make_batch, tmp_path):
    policy = make_policy(learned_loss_weights=True).train()
    groups = policy.get_optim_params()
    assert any(p is policy.loss_weights.log_variance for p in groups[1]["params"])
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    policy(make_batch(policy.config, 4))[0].backward()
    optimizer.step()
    assert policy.loss_weights.log_variance.detach().abs().min() > 0
    policy.save_pretrained(tmp_path)
    loaded = HierarchicalDiffusionPolicy.from_pretrained(tmp_path, config=policy.config)
    assert torch.equal(loaded.loss_weights.log_variance, policy.loss_weights.log_variance)


def test_task_weights_change_the_loss_of_their_samples_alone(make_policy, make_batch):
    plain, weighted = make_policy().train(), make_policy(task_weights={"lift": {"planning": 7.0}}).train()
    batch = make_batch(plain.config, 4)
    batch["task"] = ["lift", "reach", "lift", "reach"]
    torch.manual_seed(3)
    base, log = plain(batch, reduction="none")
    torch.manual_seed(3)
    other, other_log = weighted(batch, reduction="none")
    assert torch.equal(base[1::2], other[1::2])
    assert (base[::2] < other[::2]).all()
    assert other_log["hierarchical/planning_weight"] == pytest.approx(
        (7.0 + plain.config.layer_weights["planning"]) / 2
    )
    assert "hierarchical/planning_weight" not in log
