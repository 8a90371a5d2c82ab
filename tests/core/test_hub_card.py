# SPDX-License-Identifier: Apache-2.0
"""The model card, the picture in it, and where its figures come from."""

import json

import pytest
from huggingface_hub import ModelCard
from hypothesis import example, given
from hypothesis import strategies as st

from lerobot_ext.hub import plot
from lerobot_ext.hub.card import MARK, add_requirements, make_card
from lerobot_ext.hub.history import (
    MAX_POINTS,
    Evaluation,
    TrainingHistory,
    evaluations_of,
)
from lerobot_ext.hub.providers import Package
from lerobot_ext.hub.requirements import Requirements

CONFIG = {
    "type": "toy",
    "license": "mit",
    "tags": ["mine"],
    "input_features": {
        "observation.state": {"type": "STATE", "shape": [6]},
        "observation.images.wrist": {"type": "VISUAL", "shape": [3, 96, 96]},
    },
    "output_features": {"action": {"type": "ACTION", "shape": [6]}},
}
HISTORY = TrainingHistory(
    loss=[(10, 4.0), (20, 0.25)],
    evaluations=[Evaluation("koch", 9, 10, step=20, mean_reward=0.5), Evaluation("other", 0, 5)],
)


def needs(**more) -> Requirements:
    training = {
        "dataset": {
            "repo_id": "me/data",
            "episodes": 4,
            "frames": 80,
            "fps": 30,
            "robot_type": "koch_follower",
            "tasks": ['Lift "it" | now'],
        },
        "steps": 20,
        "batch_size": 8,
        "seed": 0,
        "base_model": "lerobot/base",
        "environment": {
            "type": "koch",
            "task": "lift",
            "packages": [{"name": "lerobot_env_koch", "version": "0.1.0"}],
        },
    }
    packages = (
        Package("lerobot", "0.6.1", ("step normalizer_processor",)),
        Package("lerobot_policy_toy", "0.2.0", ("policy toy",), editable=True),
    )
    values = {"history": HISTORY.to_json(), "training": training} | more
    return Requirements("toy", packages, python="3.12", lerobot="0.6.1", **values)


def test_the_card_is_one_the_hub_reads():
    card = ModelCard(make_card(CONFIG, needs(), "me/toy_lift", "training.png"))
    data = card.data
    assert (data.license, data.library_name, data.pipeline_tag) == ("mit", "lerobot", "robotics")
    assert data.tags == ["koch_follower", "lerobot", "lerobot_ext", "mine", "robotics", "toy"]
    assert (data.datasets, data.base_model) == (["me/data"], "lerobot/base")
    results = {entry.dataset_name: entry.metric_value for entry in data.eval_results}
    assert results == {"koch": 90.0, "other": 0.0}


def test_the_card_says_what_to_install_to_run_and_how_well_it_does():
    text = make_card(CONFIG, needs(), "me/toy_lift", "training.png")
    assert "pip install lerobot==0.6.1 lerobot_policy_toy==0.2.0\n" in text
    assert "| `lerobot_policy_toy` | 0.2.0 (from source) | `policy toy` |" in text
    assert "--policy.path=me/toy_lift" in text
    assert "--robot.type=koch_follower" in text
    assert '--robot.cameras="{wrist: {…}}"' in text
    assert "--env.type=koch --env.task=lift" in text
    assert "`lerobot_env_koch==0.1.0`" in text
    # Wilson by hand: 9 of 10 is 59.6 to 98.2 %, 0 of 5 is 0 to 43.4 %.
    assert "| koch | 20 | 9/10 | 90.0 % (60-98 %) | 0.5 |" in text
    assert "| other |  | 0/5 | 0.0 % (0-43 %) |  |" in text
    assert "4 at step 10, 0.25 at step 20" in text
    assert "![Training loss and success](training.png)" in text
    assert '| tasks | Lift "it" \\| now |' in text
    assert "| input | `observation.images.wrist` | VISUAL | (3, 96, 96) |" in text


def test_what_is_not_known_is_not_in_the_card():
    bare = Requirements("toy", (Package("lerobot", "0.6.1"),))
    text = make_card({"type": "toy"}, bare, "me/x")
    for absent in ("Results", "## Training", "## Features", "None", "datasets", "base_model", "png"):
        assert absent not in text
    assert ModelCard(text).data.license == "apache-2.0"


def test_a_dataset_of_this_machine_alone_is_not_linked():
    local = needs(training={"dataset": {"repo_id": "local/koch_lift"}})
    assert ModelCard(make_card(CONFIG, local, "me/x")).data.datasets is None


def test_a_part_without_a_package_is_pointed_out():
    alone = Requirements("toy", (Package("lerobot", "0.6.1"),), unpackaged=("step script.Gain",))
    assert "No package provides `step script.Gain`" in make_card(CONFIG, alone, "me/x")


def test_a_card_of_someone_else_gets_the_packages_once():
    theirs = "---\nlicense: mit\n---\n# Mine\n"
    once = add_requirements(theirs, needs(), "me/x")
    assert once.startswith(theirs.rstrip())
    assert "pip install" in once
    assert add_requirements(once, needs(), "me/x") == once
    assert once.count(MARK) == 1


# The picture


def test_the_same_history_draws_the_same_bytes(tmp_path):
    assert plot.draw(HISTORY, tmp_path / "a.png")
    assert plot.draw(HISTORY, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_to_draw_leaves_no_picture(tmp_path):
    assert not plot.draw(TrainingHistory(loss=[(1, 2.0)]), tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_without_matplotlib_there_is_a_line_and_no_picture(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(plot, "find_spec", lambda name: None)
    assert not plot.draw(HISTORY, tmp_path / "a.png")
    assert "pip install matplotlib" in caplog.text


# Where the figures come from


def result(*groups: tuple[str, list[bool]]) -> dict:
    """What `eval_policy_all` returns, as far as it is read."""
    return {
        "per_task": [
            {
                "task_group": name,
                "task_id": index,
                "metrics": {"successes": won, "sum_rewards": [1.0] * len(won)},
            }
            for index, (name, won) in enumerate(groups)
        ]
    }


def test_evaluations_are_counted_by_group():
    info = result(("a", [True, False]), ("b", [False]), ("a", [True]))
    assert evaluations_of(info, step=7) == [
        Evaluation("a", 2, 3, step=7, mean_reward=1.0),
        Evaluation("b", 0, 1, step=7, mean_reward=1.0),
    ]


@pytest.mark.parametrize(
    "info", [{}, {"per_task": []}, {"per_task": [{"task_group": "a"}]}, result(("a", []))]
)
def test_what_is_no_evaluation_is_refused(info):
    with pytest.raises(ValueError, match=r"lerobot-eval"):
        evaluations_of(info)


def test_losses_that_are_no_numbers_are_left_out():
    history = TrainingHistory()
    for step, loss in ((100, 2.0), (200, float("nan")), (300, 1.0)):
        history.add_loss(step, loss)
    assert history.loss == [(100, 2.0), (300, 1.0)]


def test_a_resumed_run_replaces_what_it_repeats():
    history = TrainingHistory([(10, 1.0), (20, 0.9), (30, 0.8)], [Evaluation("a", 1, 2, step=20)])
    history.add_loss(20, 0.7)
    history.add_evaluations([Evaluation("a", 2, 2, step=20)])
    assert history.loss == [(10, 1.0), (20, 0.7)]
    assert history.evaluations == [Evaluation("a", 2, 2, step=20)]


@given(st.lists(st.floats(-1e6, 1e6), max_size=20))
@example([float(i) for i in range(3 * MAX_POINTS + 1)])
def test_a_long_history_is_thinned_and_keeps_its_end(losses):
    history = TrainingHistory(loss=list(enumerate(losses)))
    kept = TrainingHistory.from_json(json.loads(json.dumps(history.to_json()))).loss
    assert len(kept) <= MAX_POINTS
    if losses:
        assert kept[-1] == (len(losses) - 1, pytest.approx(losses[-1], rel=1e-5))
    assert [step for step, _ in kept] == sorted({step for step, _ in kept})


@pytest.mark.parametrize(
    "raw",
    [
        {"loss": 3},
        {"loss": [[1]]},
        {"loss": [["a", 1]]},
        {"evaluations": [{}]},
        {"evaluations": [{"task": "a", "successes": 3, "episodes": 2}]},
    ],
)
def test_a_broken_history_is_refused(raw):
    with pytest.raises(ValueError, match="`history`"):
        TrainingHistory.from_json(raw)
