# SPDX-License-Identifier: Apache-2.0
"""Processors of the broken policies: the toy's, but for those that are what is broken."""

from lerobot.processor.factory import (
    make_default_policy_processor_steps,
    make_default_pre_post_processors,
    make_policy_processor_pipelines,
)
from lerobot_policy_toy.processor_toy import make_toy_pre_post_processors

from .steps_broken import ForgetfulShift, Shift


def make_missing_statistics_are_refused_pre_post_processors(config, dataset_stats=None):
    return make_default_pre_post_processors(config, dataset_stats)


def make_processors_take_overrides_pre_post_processors(config, dataset_stats=None):
    before, after = make_toy_pre_post_processors(config, dataset_stats)
    before.steps = [step for step in before.steps if "Rename" not in type(step).__name__]
    return before, after


def make_acts_in_a_rollout_pre_post_processors(config, dataset_stats=None):
    make_toy_pre_post_processors(config, dataset_stats)
    s = make_default_policy_processor_steps(config, dataset_stats)
    return make_policy_processor_pipelines(
        input_steps=[s.rename_observations, s.to_device, s.normalize],
        output_steps=[s.unnormalize, s.to_cpu],
    )


def make_processors_survive_saving_pre_post_processors(config, dataset_stats=None):
    before, after = make_toy_pre_post_processors(config, dataset_stats)
    before.steps = [*before.steps, ForgetfulShift(0.5)]
    after.steps = [ForgetfulShift(-0.5), *after.steps]
    return before, after


def make_postprocessor_undoes_the_preprocessor_pre_post_processors(config, dataset_stats=None):
    before, after = make_toy_pre_post_processors(config, dataset_stats)
    before.steps = [*before.steps, Shift(0.5)]
    return before, after


def make_fresh_process_loads_the_processors_pre_post_processors(config, dataset_stats=None):
    from .late.processor_late import LateShift

    before, after = make_toy_pre_post_processors(config, dataset_stats)
    before.steps = [*before.steps, LateShift()]
    return before, after


def __getattr__(name):
    if name == "make_processors_are_found_pre_post_processors" or not name.startswith("make_"):
        raise AttributeError(name)
    return make_toy_pre_post_processors
