# SPDX-License-Identifier: Apache-2.0
"""The broken policies: each a toy with one override."""

import os
from collections import deque

import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot_policy_toy.modeling_toy import ToyPolicy
from torch import nn

from . import configuration_broken


def breaks(rule):
    """Give a policy class the name, type and config that LeRobot expects for `rule`."""

    def decorate(cls):
        title = "".join(word.capitalize() for word in rule.split("_"))
        config = getattr(configuration_broken, f"{title}Config")
        members = {"config_class": config, "name": rule, "__module__": __name__}
        named = type(f"{title}Policy", (cls,), members)
        globals()[named.__name__] = named
        return cls

    return decorate


for _rule in (
    *(r for r in configuration_broken.PLAIN if r not in ("policy_class_is_found", "names_agree")),
    *("config_survives_json", "bad_settings_are_refused", "delta_indices_are_frames"),
    *("config_crosses_to_a_worker", "presets_build"),
):
    breaks(_rule)(ToyPolicy)


class NamesAgreePolicy(ToyPolicy):
    config_class = configuration_broken.NamesAgreeConfig
    name = "names_disagree"


@breaks("builds_for_training")
class OnlyConfig(ToyPolicy):
    def __init__(self, config):
        super().__init__(config)


@breaks("builds_without_a_dataset")
class NeedsDataset(ToyPolicy):
    def __init__(self, config, dataset_stats, **kwargs):
        super().__init__(config, dataset_stats)


@breaks("takes_unknown_arguments")
class NoOtherArguments(ToyPolicy):
    def __init__(self, config, dataset_stats=None, dataset_meta=None):
        super().__init__(config)


@breaks("missing_features_are_refused")
class Careless(ToyPolicy):
    def check(self, config):
        pass


@breaks("optimizer_has_every_parameter")
class TrainsTheHead(ToyPolicy):
    def get_optim_params(self):
        return self.head.parameters()


@breaks("wrapped_modules_exist")
class WrapsNothing(ToyPolicy):
    _fsdp_wrap_modules = ("RenamedBlock",)


@breaks("forward_returns_loss_and_log")
class OnlyLoss(ToyPolicy):
    def forward(self, batch, reduction="mean"):
        return super().forward(batch, reduction)[0]


@breaks("loss_is_finite")
class NotANumber(ToyPolicy):
    def weight(self):
        return float("nan")


@breaks("log_holds_plain_numbers")
class LogsTensors(ToyPolicy):
    def forward(self, batch, reduction="mean"):
        loss, _ = super().forward(batch, reduction)
        return loss, {"toy_loss": loss.detach()}


@breaks("log_leaves_the_meters_of_lerobot_alone")
class LogsLoss(ToyPolicy):
    def forward(self, batch, reduction="mean"):
        loss, log = super().forward(batch, reduction)
        return loss, {"loss": log["toy_loss"]}


@breaks("backward_reaches_every_parameter")
class UnusedLayer(ToyPolicy):
    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.unused = nn.Linear(2, 2)


@breaks("training_is_repeatable")
class OwnNoise(ToyPolicy):
    def losses(self, batch, plan):
        return super().losses(batch, plan) * ((1 + os.urandom(1)[0] / 256) if self.training else 1)


@breaks("padded_actions_do_not_count")
class CountsPadding(ToyPolicy):
    def losses(self, batch, plan):
        return (plan - batch["action"]).abs().mean((1, 2))


@breaks("sample_losses_average_to_the_loss")
class SumsSamples(ToyPolicy):
    def forward(self, batch, reduction="mean"):
        loss, log = super().forward(batch, reduction)
        return (loss * self.config.horizon if reduction == "none" else loss), log


@breaks("forward_works_in_evaluation")
class OnlyTrains(ToyPolicy):
    def forward(self, batch, reduction="mean"):
        assert self.training, "not in training mode"
        return super().forward(batch, reduction)


@breaks("trains_in_mixed_precision")
class FixedPrecision(ToyPolicy):
    def losses(self, batch, plan):
        filled = torch.zeros_like(batch["action"])
        filled[torch.arange(len(plan))] = plan
        return super().losses(batch, filled)


@breaks("other_widths_work")
class SixJoints(ToyPolicy):
    def plan(self, batch):
        return super().plan(batch).reshape(-1, self.config.horizon, 6)


@breaks("cameras_of_different_size_work_or_are_refused")
class StacksCameras(ToyPolicy):
    def features(self, batch):
        torch.stack([batch[name] for name in self.config.image_features])
        return super().features(batch)


@breaks("training_goes_on_after_acting")
class KeepsWhatItPlanned(ToyPolicy):
    planned = None

    def sample(self, batch):
        self.planned = super().sample(batch)
        return self.planned

    def losses(self, batch, plan):
        losses = super().losses(batch, plan)
        return losses if self.planned is None else losses + (plan[:1] * self.planned).mean()


@breaks("plans_from_one_observation")
class WantsFrames(ToyPolicy):
    @torch.no_grad()
    def predict_action_chunk(self, batch, **kwargs):
        assert batch["observation.state"].ndim == 3
        return super().predict_action_chunk(batch, **kwargs)


@breaks("chunk_has_the_right_shape")
class OneRobotsChunk(ToyPolicy):
    def predict_action_chunk(self, batch, **kwargs):
        return super().predict_action_chunk(batch, **kwargs)[0]


@breaks("action_has_the_right_shape")
class OneRobotsAction(ToyPolicy):
    def select_action(self, batch):
        return super().select_action(batch)[0]


@breaks("chunk_covers_the_steps")
class ShortChunk(ToyPolicy):
    def predict_action_chunk(self, batch, **kwargs):
        return super().predict_action_chunk(batch, **kwargs)[:, :1]


@breaks("acts_in_a_rollout")
class WantsListOfTasks(ToyPolicy):
    def select_action(self, batch):
        assert isinstance(batch["task"], list), f"task {batch['task']!r}"
        return super().select_action(batch)


@breaks("actions_carry_no_gradient")
class KeepsGraph(ToyPolicy):
    def predict_action_chunk(self, batch, **kwargs):
        return ToyPolicy.predict_action_chunk.__wrapped__(self, batch, **kwargs)


@breaks("reset_begins_a_new_episode")
class Remembers(ToyPolicy):
    def reset(self):
        if not hasattr(self, "queue"):
            self.queue = deque()


@breaks("acting_leaves_the_weights_alone")
class TunesItself(ToyPolicy):
    @torch.no_grad()
    def select_action(self, batch):
        self.head.bias += 1e-4
        return super().select_action(batch)


@breaks("acting_is_repeatable")
class ActsByChance(ToyPolicy):
    def select_action(self, batch):
        return super().select_action(batch) + os.urandom(1)[0] / 256


@breaks("inputs_stay_as_they_are")
class ScalesInPlace(ToyPolicy):
    def forward(self, batch, reduction="mean"):
        batch["action"].mul_(0.5)
        return super().forward(batch, reduction)


@breaks("real_time_chunks_continue_the_last")
class OnlyClaimsRealTime(ToyPolicy):
    def predict_action_chunk(self, batch):
        return super().predict_action_chunk(batch)


@breaks("checkpoint_holds_every_weight")
class OffsetOfTheDataset(ToyPolicy):
    def __init__(self, config, dataset_stats=None, **kwargs):
        super().__init__(config)
        if dataset_stats:
            self.register_buffer("offset", torch.zeros(3))


@breaks("loading_keeps_the_actions")
class UnsavedTensor(ToyPolicy):
    def __init__(self, config, **kwargs):
        super().__init__(config)
        self.style = torch.randn(config.action_feature.shape[0])

    def sample(self, batch):
        return super().sample(batch) + self.style


@breaks("training_resumes_where_it_stopped")
class UnsavedCount(ToyPolicy):
    steps = 0

    def weight(self):
        return 1 + 0.1 * self.steps

    def update(self):
        self.steps += 1


@breaks("fresh_process_acts_alike")
class KnowsItsProcess(ToyPolicy):
    def select_action(self, batch):
        return super().select_action(batch) + (os.getpid() % 1009) / 1009


assert issubclass(ToyPolicy, PreTrainedPolicy)
