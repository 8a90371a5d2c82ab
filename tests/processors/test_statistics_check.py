# SPDX-License-Identifier: Apache-2.0
"""A normaliser that silently does nothing is found, by its outcome and by its statistics."""

import re

import numpy as np
import pytest
import torch
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.processor import (
    DataProcessorPipeline,
    NormalizerProcessorStep,
    TransitionKey,
    UnnormalizerProcessorStep,
)
from lerobot.processor.converters import create_transition, identity_transition
from lerobot_robot_processors.steps.statistics_check import (
    MARK,
    AfterNormalizerStep,
    BeforeNormalizerStep,
    check_pipeline,
)

from lerobot_ext.processing.statistics import unusable_statistics

STATE, ACTION = "observation.state", "action"
FEATURES = {STATE: PolicyFeature(FeatureType.STATE, (3,)), ACTION: PolicyFeature(FeatureType.ACTION, (3,))}
MODES = {FeatureType.STATE: NormalizationMode.MEAN_STD, FeatureType.ACTION: NormalizationMode.MIN_MAX}


def good():
    return {
        STATE: {"mean": np.zeros(3), "std": np.ones(3)},
        ACTION: {"min": np.full(3, -9.0), "max": np.full(3, 9.0)},
    }


def pipeline(stats, normalizer=NormalizerProcessorStep, **fields):
    steps = [BeforeNormalizerStep(), normalizer(FEATURES, MODES, stats), AfterNormalizerStep(**fields)]
    return DataProcessorPipeline(
        steps, "policy_preprocessor", to_transition=identity_transition, to_output=identity_transition
    )


def given_data(action=True):
    return create_transition(
        observation={STATE: torch.rand(2, 3) * 90, "observation.images.top": torch.rand(2, 3, 4, 4)},
        action=torch.rand(2, 3) if action else None,
        complementary_data={"task": ["go"] * 2},
    )


def test_whole_statistics_pass_and_leave_no_trace():
    after = pipeline(good())(given_data())
    assert MARK not in after[TransitionKey.COMPLEMENTARY_DATA]
    assert after[TransitionKey.COMPLEMENTARY_DATA] == {"task": ["go"] * 2}
    pipeline(good())(given_data(action=False))


@pytest.mark.parametrize("lost", [STATE, ACTION])
def test_missing_statistics_are_found_in_a_reloaded_pipeline(lost, tmp_path):
    pipeline({key: value for key, value in good().items() if key != lost}).save_pretrained(tmp_path)
    loaded = DataProcessorPipeline.from_pretrained(
        tmp_path,
        "policy_preprocessor.json",
        to_transition=identity_transition,
        to_output=identity_transition,
    )
    with pytest.raises(ValueError, match=rf"`{re.escape(lost)}` went through.*no statistics.*rename_map"):
        loaded(given_data())
    with pytest.raises(ValueError, match=rf"`normalizer_processor` cannot normalise `{re.escape(lost)}`"):
        check_pipeline(loaded)


def test_an_unnormaliser_without_statistics_is_found():
    post = pipeline({}, UnnormalizerProcessorStep)
    with pytest.raises(ValueError, match="`action` went through the normaliser unchanged"):
        post(create_transition(action=torch.zeros(1, 3)))


@pytest.mark.parametrize("key", ["std", "mean"])
@pytest.mark.parametrize("value", [0.0, np.nan])
def test_numbers_that_cannot_be_divided_by_are_found(key, value):
    stats = good()
    stats[STATE][key][1] = value
    if (key, value) == ("mean", 0.0):
        pipeline(stats)(given_data())
        return check_pipeline(pipeline(stats))
    with pytest.raises(ValueError, match=r"`observation.state` is up to .* at 1: its statistics"):
        pipeline(stats)(given_data())
    with pytest.raises(ValueError, match=rf"`observation.state` \({key} is .* at 1"):
        check_pipeline(pipeline(stats))


def test_bad_data_is_not_blamed_on_the_statistics():
    data = given_data()
    data[TransitionKey.OBSERVATION][STATE][0, 2] = torch.nan
    with pytest.raises(ValueError, match=r"`observation.state` holds NaN or infinity before"):
        pipeline(good())(data)


def test_a_feature_that_is_meant_to_be_raw_is_left_out_of_keys():
    stats = {ACTION: good()[ACTION]}
    steps = [BeforeNormalizerStep([ACTION]), NormalizerProcessorStep(FEATURES, MODES, stats)]
    DataProcessorPipeline(
        [*steps, AfterNormalizerStep([ACTION])],
        to_transition=identity_transition,
        to_output=identity_transition,
    )(given_data())


def test_half_a_bracket_says_what_is_missing():
    with pytest.raises(KeyError, match="put `lerobot_ext_before_normalizer` right before the normaliser"):
        AfterNormalizerStep()(given_data())


def test_only_the_first_batches_numbers_are_looked_at():
    stats = good()
    stats[STATE]["std"][0] = 0.0
    after = AfterNormalizerStep(checks=1)
    steps = [BeforeNormalizerStep(), NormalizerProcessorStep(FEATURES, MODES, stats), after]
    whole = DataProcessorPipeline(steps, to_transition=identity_transition, to_output=identity_transition)
    with pytest.raises(ValueError, match="deviation"):
        whole(given_data())
    whole(given_data())


def test_all_modes_name_what_they_lack():
    for mode, wanted in (("QUANTILES", "q01, q99"), ("QUANTILE10", "q10, q90"), ("MIN_MAX", "min, max")):
        modes = {"STATE": NormalizationMode(mode)}
        assert unusable_statistics({STATE: FEATURES[STATE]}, modes, {}) == [
            f"`{STATE}` ({wanted} for {mode})"
        ]
    flat = {STATE: {"q01": np.ones(3), "q99": np.ones(3)}}
    found = unusable_statistics(FEATURES, {"STATE": NormalizationMode.QUANTILES}, flat)
    assert found == [f"`{STATE}` (q99 - q01 is 0 or less at 0, 1, 2: it never changed)"]
