# SPDX-License-Identifier: Apache-2.0
"""Configs of the broken policies: most only differ by type, some are what is broken."""

from dataclasses import dataclass

from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.optim import OptimizerConfig
from lerobot_policy_toy.configuration_toy import ToyConfig


def registered(name, module=__name__, **members):
    """A registered config class `<Name>Config`, importable from `module`."""
    title = "".join(word.capitalize() for word in name.split("_"))
    cls = type(f"{title}Config", (ToyConfig,), {**members, "__module__": module})
    cls = PreTrainedConfig.register_subclass(name)(dataclass(cls))
    return cls


# Policies whose config is healthy: what is broken is in `modeling_broken` or `processor_broken`.
PLAIN = [
    "policy_class_is_found",
    "names_agree",
    "builds_for_training",
    "builds_without_a_dataset",
    "takes_unknown_arguments",
    "missing_features_are_refused",
    "optimizer_has_every_parameter",
    "wrapped_modules_exist",
    "forward_returns_loss_and_log",
    "loss_is_finite",
    "log_holds_plain_numbers",
    "log_leaves_the_meters_of_lerobot_alone",
    "backward_reaches_every_parameter",
    "training_is_repeatable",
    "padded_actions_do_not_count",
    "sample_losses_average_to_the_loss",
    "forward_works_in_evaluation",
    "trains_in_mixed_precision",
    "other_widths_work",
    "cameras_of_different_size_work_or_are_refused",
    "training_goes_on_after_acting",
    "chunk_has_the_right_shape",
    "action_has_the_right_shape",
    "chunk_covers_the_steps",
    "acts_in_a_rollout",
    "actions_carry_no_gradient",
    "reset_begins_a_new_episode",
    "acting_leaves_the_weights_alone",
    "acting_is_repeatable",
    "inputs_stay_as_they_are",
    "real_time_chunks_continue_the_last",
    "processors_are_found",
    "processors_take_overrides",
    "processors_survive_saving",
    "postprocessor_undoes_the_preprocessor",
    "missing_statistics_are_refused",
    "checkpoint_holds_every_weight",
    "loading_keeps_the_actions",
    "training_resumes_where_it_stopped",
    "fresh_process_loads_the_processors",
    "fresh_process_acts_alike",
]
for _name in PLAIN:
    _class = registered(_name)
    globals()[_class.__name__] = _class


@PreTrainedConfig.register_subclass("plans_from_one_observation")
@dataclass
class PlansFromOneObservationConfig(ToyConfig):
    n_obs_steps: int = 2


@PreTrainedConfig.register_subclass("config_builds")
@dataclass
class ConfigBuildsConfig(ToyConfig):
    def __post_init__(self):
        super().__post_init__()
        self.output_features = {"gripper": PolicyFeature(FeatureType.ACTION, (1,))}


@dataclass
class TypeIsRegisteredConfig(ToyConfig):
    pass


@PreTrainedConfig.register_subclass("config_survives_json")
@dataclass
class ConfigSurvivesJsonConfig(ToyConfig):
    def __post_init__(self):
        super().__post_init__()
        self.gain *= 2


@PreTrainedConfig.register_subclass("bad_settings_are_refused")
@dataclass
class BadSettingsAreRefusedConfig(ToyConfig):
    def __post_init__(self):
        PreTrainedConfig.__post_init__(self)


@PreTrainedConfig.register_subclass("delta_indices_are_frames")
@dataclass
class DeltaIndicesAreFramesConfig(ToyConfig):
    @property
    def reward_delta_indices(self):
        return [0.5]


@PreTrainedConfig.register_subclass("config_crosses_to_a_worker")
@dataclass
class ConfigCrossesToAWorkerConfig(ToyConfig):
    def __post_init__(self):
        super().__post_init__()
        self.schedule = lambda step: step


class TwoOptimizers(OptimizerConfig):
    grad_clip_norm = 1.0

    def build(self, params):
        return {"actor": None, "critic": None}


@PreTrainedConfig.register_subclass("presets_build")
@dataclass
class PresetsBuildConfig(ToyConfig):
    def get_optimizer_preset(self):
        return TwoOptimizers(lr=1.0, weight_decay=0.0, grad_clip_norm=1.0)
