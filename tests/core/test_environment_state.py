# SPDX-License-Identifier: Apache-2.0
"""The step that splits a tracker's values off the robot's state."""

import numpy as np
import pytest
import torch
from lerobot.configs.types import FeatureType, PipelineFeatureType, PolicyFeature
from lerobot.processor import PolicyProcessorPipeline, ProcessorStepRegistry, TransitionKey
from lerobot.utils.constants import OBS_ENV_STATE, OBS_STATE

from lerobot_ext.processing.environment_state import REGISTRY_NAME, SplitEnvironmentStateStep

STEP = SplitEnvironmentStateStep(state_dim=2, environment_dim=3)


@pytest.mark.parametrize("leading", [(), (1,), (4,), (4, 2)])
def test_the_tail_becomes_the_environment_state(leading):
    state = torch.arange(5.0).expand(*leading, 5)
    given = {OBS_STATE: state, "observation.images.top": torch.zeros(3, 2, 2)}
    split = STEP.observation(given)
    assert torch.equal(split[OBS_STATE], torch.tensor([0.0, 1.0]).expand(*leading, 2))
    assert torch.equal(split[OBS_ENV_STATE], torch.tensor([2.0, 3.0, 4.0]).expand(*leading, 3))
    assert split["observation.images.top"] is given["observation.images.top"]
    assert set(given) == {OBS_STATE, "observation.images.top"}, "the input must stay as it was"


def test_an_array_splits_like_a_tensor():
    split = STEP.observation({OBS_STATE: np.arange(5, dtype=np.float32)})
    np.testing.assert_array_equal(split[OBS_ENV_STATE], [2, 3, 4])


@pytest.mark.parametrize(
    ("step", "observation"),
    [
        (STEP, {OBS_STATE: torch.zeros(2), OBS_ENV_STATE: torch.ones(3)}),
        (STEP, {OBS_STATE: torch.zeros(99), OBS_ENV_STATE: torch.ones(3)}),
        (STEP, {"observation.images.top": torch.zeros(3, 2, 2)}),
        (SplitEnvironmentStateStep(state_dim=6), {OBS_STATE: torch.zeros(9)}),
    ],
    ids=["has it", "has it, other width", "no state", "policy takes none"],
)
def test_everything_else_passes(step, observation):
    assert step.observation(observation) is observation


@pytest.mark.parametrize(("width", "fix"), [(2, "--robot.tracker"), (4, "trained with"), (6, "trained with")])
def test_a_wrong_width_names_both_widths_and_the_fix(width, fix):
    with pytest.raises(ValueError, match=rf"is {width} wide instead of 5") as caught:
        STEP.observation({OBS_STATE: torch.zeros(1, width)})
    assert fix in str(caught.value)
    assert "(2 values)" in str(caught.value)
    assert "(3 values)" in str(caught.value)


@pytest.mark.parametrize("field", ["state_dim", "environment_dim"])
@pytest.mark.parametrize("value", [-1, 1.5, "6", True, None])
def test_a_bad_width_in_the_config_is_named(field, value):
    with pytest.raises(ValueError, match=field):
        SplitEnvironmentStateStep(**{field: value})


def test_features_split_like_observations():
    features = {
        PipelineFeatureType.OBSERVATION: {OBS_STATE: PolicyFeature(FeatureType.STATE, (5,))},
        PipelineFeatureType.ACTION: {"action": PolicyFeature(FeatureType.ACTION, (2,))},
    }
    split = STEP.transform_features(features)
    assert split[PipelineFeatureType.OBSERVATION] == {
        OBS_STATE: PolicyFeature(FeatureType.STATE, (2,)),
        OBS_ENV_STATE: PolicyFeature(FeatureType.ENV, (3,)),
    }
    assert split[PipelineFeatureType.ACTION] == features[PipelineFeatureType.ACTION]
    assert STEP.transform_features(split) is split


def test_a_saved_pipeline_comes_back_through_the_registry(tmp_path):
    pipeline = PolicyProcessorPipeline(steps=[STEP], name="policy_preprocessor")
    pipeline.save_pretrained(tmp_path)
    loaded = PolicyProcessorPipeline.from_pretrained(
        tmp_path, config_filename="policy_preprocessor.json", overrides={}
    )
    assert loaded.steps == [STEP]
    assert ProcessorStepRegistry.get(REGISTRY_NAME) is SplitEnvironmentStateStep
    out = loaded({OBS_STATE: torch.arange(5.0)[None]})
    assert out[OBS_ENV_STATE].tolist() == [[2.0, 3.0, 4.0]]


def test_a_transition_keeps_its_other_parts():
    transition = {
        TransitionKey.OBSERVATION: {OBS_STATE: torch.zeros(1, 5)},
        TransitionKey.ACTION: torch.ones(1, 2),
    }
    assert torch.equal(STEP(transition)[TransitionKey.ACTION], torch.ones(1, 2))
