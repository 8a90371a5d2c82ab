# SPDX-License-Identifier: Apache-2.0
"""Layers and steps are chosen so that a plan is ready in time."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lerobot_policy_hierarchical_diffusion.configuration_hierarchical_diffusion import LAYER_NAMES
from lerobot_policy_hierarchical_diffusion.deadline.calibrate import measure_costs, measure_errors
from lerobot_policy_hierarchical_diffusion.deadline.chooser import Chooser
from lerobot_policy_hierarchical_diffusion.deadline.planner import TimedPlanner
from lerobot_policy_hierarchical_diffusion.deadline.table import (
    FILE_NAME,
    Choice,
    Costs,
    LatencyTable,
    choices,
    machine_name,
    percentile,
)
from lerobot_policy_hierarchical_diffusion.modeling_hierarchical_diffusion import HierarchicalDiffusionPolicy

COSTS = Costs("a machine", encode_ms=1.0, layers_ms=(1.0, 1.0, 4.0, 2.0), condition_ms=1.0, step_ms=2.0)
COSTS_HERE = replace(COSTS, machine=machine_name("cpu", 1))
ALL = choices(LAYER_NAMES, 16)


# --- the table


def test_costs_add_up():
    assert COSTS.of(Choice(layers=3, steps=2)) == 1 + 6 + 1 + 4


def test_without_a_draft_there_is_no_plan_of_zero_steps():
    assert Choice(2, 0) not in ALL
    assert {choice.steps for choice in ALL if choice.layers == 4} == {0, 1, 2, 4, 8, 16}
    assert max(choice.steps for choice in choices(LAYER_NAMES, 6)) == 6


@given(st.lists(st.floats(0, 1e3), min_size=1), st.sampled_from([0.5, 0.9, 0.95, 1.0]))
def test_the_percentile_is_the_smallest_that_covers_the_share(values, share):
    found = percentile(values, share)
    covered = sum(value <= found for value in values) / len(values)
    assert covered >= share
    smaller = [value for value in values if value < found]
    assert not smaller or sum(value <= max(smaller) for value in values) / len(values) < share


def test_a_table_is_read_as_it_was_written(tmp_path):
    table = LatencyTable(COSTS, {Choice(3, 2): 0.25, Choice(4, 0): 0.5})
    table.save(tmp_path)
    assert LatencyTable.load(tmp_path, 4) == table
    assert LatencyTable.load(tmp_path / "elsewhere", 4) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"errors": []}', '{"errors": [{"layers": 1}], "machine": ""}'])
def test_a_damaged_table_says_how_to_write_it_anew(tmp_path, text):
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(ValueError, match="lerobot-ext latency"):
        LatencyTable.load(tmp_path, 4)


def test_a_table_of_another_policy_is_refused(tmp_path):
    LatencyTable(COSTS).save(tmp_path)
    with pytest.raises(ValueError, match="has 4 layers and the policy 3"):
        LatencyTable.load(tmp_path, 3)


# --- the choice


def test_layers_come_before_steps_where_nothing_else_is_known():
    assert Chooser(LatencyTable(COSTS), 100).choose(ALL) == Choice(4, 16)
    assert Chooser(LatencyTable(COSTS), 12).choose(ALL) == Choice(4, 0)
    assert Chooser(LatencyTable(COSTS), 9).choose(ALL) == Choice(3, 0)
    assert Chooser(LatencyTable(COSTS), 1).choose(ALL) == Choice(1, 1)  # nothing fits: the cheapest


def test_time_that_is_gone_already_is_not_spent_twice():
    chooser = Chooser(LatencyTable(COSTS), 12)
    assert chooser.choose(ALL) == Choice(4, 0)
    assert chooser.choose(ALL, spent_ms=2.0) == Choice(3, 0)


def test_measured_errors_decide():
    errors = dict.fromkeys(ALL, 1.0) | {Choice(3, 2): 0.5, Choice(4, 16): 0.6}
    assert Chooser(LatencyTable(COSTS, errors), 100).choose(ALL) == Choice(3, 2)
    assert Chooser(LatencyTable(COSTS, errors), 11).choose(ALL) == Choice(1, 1)  # equal errors: the cheapest


costs = st.builds(
    Costs,
    st.just("m"),
    st.floats(0.01, 20),
    st.tuples(*[st.floats(0.01, 20)] * 4),
    st.floats(0.01, 5),
    st.floats(0.01, 20),
)


@given(costs, st.floats(1, 200), st.lists(st.floats(0.1, 300), max_size=5))
def test_what_is_chosen_fits_whenever_anything_fits(drawn, budget, took):
    chooser = Chooser(LatencyTable(drawn), budget)
    for ms in took:
        chooser.learn(Choice(4, 4), ms)
    chosen = chooser.choose(ALL)
    fits = [choice for choice in ALL if chooser.expected_ms(choice) <= 0.9 * budget]
    assert chosen in fits or not fits


@given(costs, st.floats(1, 200), st.floats(0, 300), st.sampled_from([0, 1]))
def test_steps_are_given_up_when_time_has_gone(drawn, budget, elapsed, fewest):
    chooser = Chooser(LatencyTable(drawn), budget)
    choice = Choice(4, 8)
    steps = chooser.steps_in_time(choice, elapsed, fewest)
    assert fewest <= steps <= choice.steps
    assert steps == fewest or elapsed + steps * drawn.step_ms <= budget


def test_a_slower_machine_is_noticed_and_forgiven():
    chooser = Chooser(LatencyTable(COSTS), 25)
    before = chooser.choose(ALL)
    for _ in range(20):
        chooser.learn(before, 3 * COSTS.of(before))
    slow = chooser.choose(ALL)
    assert COSTS.of(slow) < COSTS.of(before)
    for _ in range(40):
        chooser.learn(slow, 0.9 * COSTS.of(slow))
    assert chooser.choose(ALL) == before


def test_one_pause_is_not_the_machines_speed():
    chooser = Chooser(LatencyTable(COSTS), 25)
    before = chooser.choose(ALL)
    chooser.learn(before, 1000 * COSTS.of(before))
    assert chooser.correction <= 1.3


# --- the policy


def test_a_budget_shows_in_the_last_info(make_policy, make_observation):
    policy = make_policy(latency_budget_ms=10_000.0, num_inference_steps=4).eval()
    policy.select_action(make_observation(policy.config, 1))
    info = policy.last_info
    assert info["active_layers"] == list(LAYER_NAMES)
    assert (info["steps"], info["budget_ms"], info["within_budget"]) == (4, 10_000.0, True)


def test_what_comes_before_the_plan_counts(make_policy, make_observation, monkeypatch):
    policy = make_policy(latency_budget_ms=200.0).eval()
    policy._planner = TimedPlanner(LatencyTable(replace(COSTS_HERE, layers_ms=(1.0, 1.0, 4.0, 150.0))), 4)
    observation = make_observation(policy.config, 1)
    policy.select_action(observation)
    assert len(policy.last_info["active_layers"]) == 4

    remembered = policy._memory.observation

    def slow(*args, **kwargs):
        time.sleep(0.1)
        return remembered(*args, **kwargs)

    policy.reset()
    monkeypatch.setattr(policy._memory, "observation", slow)
    policy.select_action(observation)
    assert len(policy.last_info["active_layers"]) == 3
    assert policy.last_info["ms"]["remember"] >= 100
    assert policy.last_info["ms"]["total"] >= 100


def test_a_budget_too_small_for_anything_runs_the_least_and_says_so(make_policy, make_observation):
    policy = make_policy(latency_budget_ms=1e-3).eval()
    policy._planner = TimedPlanner(LatencyTable(COSTS_HERE), 4)
    action = policy.select_action(make_observation(policy.config, 1))
    assert torch.isfinite(action).all()
    assert policy.last_info["active_layers"] == ["safety"]
    assert policy.last_info["steps"] == 1
    assert policy.last_info["within_budget"] is False


@pytest.mark.parametrize("off", LAYER_NAMES[1:])
def test_a_layer_that_is_switched_off_stays_off(make_policy, make_observation, off):
    policy = make_policy(latency_budget_ms=10_000.0).eval()
    policy.set_layer_enabled(off, False)
    policy.select_action(make_observation(policy.config, 1))
    assert off not in policy.last_info["active_layers"]
    assert policy.last_info["started_from"] == ("noise" if off == "manipulation" else "draft")


def test_a_stored_table_is_used_on_its_machine_alone(make_policy, make_observation, monkeypatch):
    policy = make_policy().eval()
    here = machine_name("cpu", torch.get_num_threads())
    measured = []
    monkeypatch.setattr(
        "lerobot_policy_hierarchical_diffusion.deadline.planner.measure_costs",
        lambda *_: measured.append(1) or COSTS,
    )
    observation = policy.observation_from_batch(make_observation(policy.config, 1))
    for machine, times in ((here, 0), ("another", 1)):
        table = LatencyTable(Costs(machine, 0.1, (0.1,) * 4, 0.1, 0.1))
        planner = TimedPlanner(table, 4)
        for _ in range(3):
            planner.plan(policy.network, observation, None, frozenset(LAYER_NAMES), 1e4)
        assert len(measured) == times


def test_a_checkpoint_brings_its_table(make_policy, make_observation, tmp_path):
    policy = make_policy(latency_budget_ms=1e4)
    policy.save_pretrained(tmp_path)
    here = machine_name("cpu", torch.get_num_threads())
    errors = dict.fromkeys(choices(LAYER_NAMES, 16), 1.0) | {Choice(3, 8): 0.1}
    LatencyTable(Costs(here, 0.1, (0.1,) * 4, 0.1, 0.1), errors).save(tmp_path)
    loaded = HierarchicalDiffusionPolicy.from_pretrained(tmp_path, config=policy.config).eval()
    loaded.select_action(make_observation(loaded.config, 1))
    assert loaded.last_info["active_layers"] == list(LAYER_NAMES[:3])
    assert loaded.last_info["steps"] == 8


def test_costs_are_measured_and_leave_no_trace(make_policy, make_observation):
    policy = make_policy(cameras=1).eval()
    policy.network.stage_weights[1] = 0.0
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    observation = policy.observation_from_batch(make_observation(policy.config, 1))
    found = measure_costs(policy.network, observation, repeats=3)
    assert all(ms > 0 for ms in (found.encode_ms, *found.layers_ms, found.condition_ms, found.step_ms))
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())


def test_the_measured_error_is_the_plans_own(make_policy, make_batch):
    policy = make_policy().eval()
    batch = make_batch(policy.config, 5)
    batch["action_is_pad"][:, 11:] = True
    observation = policy.observation_from_batch(batch)
    found = measure_errors(policy.network, [(observation, batch)], [Choice(4, 0)])
    draft, _ = policy.network.plan(observation, None, 0, frozenset(LAYER_NAMES))
    by_hand = (draft - batch["action"][:, 1:])[:, :10].abs().mean((1, 2))
    mean, spread = found[Choice(4, 0)]
    assert mean == pytest.approx(float(by_hand.mean()), rel=1e-5)
    assert spread == pytest.approx(float(by_hand.std() / 5**0.5), rel=1e-5)


def test_the_command_stores_a_table(make_policy, tmp_path, capsys):
    from lerobot_ext.cli.main import main

    make_policy().save_pretrained(tmp_path)
    words = ["latency", f"--policy.path={tmp_path}", "--policy.device=cpu", "--repeats", "3", "--json"]
    assert main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    stored = LatencyTable.load(tmp_path, 4)
    assert stored is not None
    assert printed["costs"]["step_ms"] == stored.costs.step_ms
    assert len(printed["budgets"]) == 6


def test_the_command_marks_what_does_not_fit_and_names_its_reserve(capsys):
    from lerobot_policy_hierarchical_diffusion.deadline.command import _as_json, _show
    from lerobot_policy_hierarchical_diffusion.deadline.session import Measured

    from lerobot_ext.cli.look import console

    cheap, dear = Choice(1, 1), Choice(4, 0)  # 5 ms and 10 ms
    errors = {cheap: (0.2, 0.0), dear: (0.1, 0.0)}
    table = LatencyTable(replace(COSTS, step_ms=2.0), {cheap: 0.2, dear: 0.1})
    found = Measured(table, errors, 3, None, LAYER_NAMES)
    assert found.by_budget([5.0, 10.0, 12.0]) == [
        (5.0, cheap, False),
        (10.0, cheap, True),
        (12.0, dear, True),
    ]
    assert [row["fits"] for row in _as_json(found)["budgets"]] == [False, *[True] * 5]
    _show(console(), found)
    said = capsys.readouterr().out
    assert said.count("does not fit") == 1
    assert "10% of a budget are kept" in said


def test_the_command_refuses_what_is_no_checkpoint_of_ours(tmp_path, capsys):
    from lerobot_ext.cli.main import main

    assert main(["latency", f"--policy.path={tmp_path}"]) != 0
    assert "no config.json" in capsys.readouterr().err
