# SPDX-License-Identifier: Apache-2.0
"""A bracket around the normaliser that raises where it silently did nothing.

LeRobot's normaliser hands a feature on as it is, the same object, when it has no statistics of it: a policy
then trains on raw degrees, or a robot gets numbers around 0 for joint angles. A step is given neither the
pipeline nor the statistics in it, so it cannot look them up in a reloaded checkpoint. What it can see for
certain is the outcome: the first step of the bracket notes which objects go into the normaliser, the second
finds out which of them came out untouched, and what statistics of zero or NaN have made of the others. It
costs a few microseconds and works for saved, reloaded and pushed pipelines, for `normalizer_processor` and
`unnormalizer_processor` alike.

`check_pipeline` looks at the statistics themselves, for who holds a pipeline: before a run rather than during
it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from lerobot.processor import ProcessorStepRegistry, TransitionKey
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE
from torch import Tensor

from lerobot_ext.processing.statistics import unusable_statistics
from lerobot_robot_processors.configured import (
    ConfiguredStep,
    Features,
    Transition,
    is_names,
    is_number,
    require,
)

MARK = "lerobot_ext_not_yet_normalized"
_REMEDY = (
    "Recompute the dataset's statistics (`lerobot-edit-dataset --operation.type recompute_stats`), give the "
    "feature "
    "the dataset's name with `--rename_map`, or take it out of `keys`."
)


def _vectors() -> list[str]:
    return [OBS_STATE, OBS_ENV_STATE, ACTION]


@dataclass
class _Bracket(ConfiguredStep):
    keys: list[str] = field(default_factory=_vectors)

    def leaves_actions_alone(self) -> bool:
        """Whether a policy that runs, rather than trains, acts the same without this step."""
        return True

    def __post_init__(self) -> None:
        named = is_names(self.keys) and bool(self.keys)
        require("keys", self.keys, named, "a list of features' names or globs")

    def transform_features(self, features: Features) -> Features:
        """Unchanged."""
        return features

    def _values(self, transition: Transition) -> dict[str, Any]:
        """The observation and action by name, as far as `keys` names them."""
        observation = transition.get(TransitionKey.OBSERVATION) or {}
        named = {**observation, ACTION: transition.get(TransitionKey.ACTION)}
        return {
            key: value
            for key, value in named.items()
            if isinstance(value, Tensor) and any(fnmatchcase(key, pattern) for pattern in self.keys)
        }


@ProcessorStepRegistry.register("lerobot_ext_before_normalizer")
@dataclass
class BeforeNormalizerStep(_Bracket):
    """Note what goes into the normaliser; stands right before it.

    Args:
        keys (`list[str]`, *optional*): Names or globs of what must be normalised; by default
            `observation.state`, `observation.environment_state` and `action`, as far as they are there.

    Raises:
        ValueError: `keys` is empty.
    """

    def __call__(self, transition: Transition) -> Transition:
        """The transition with a note in its complementary data."""
        extras = {**(transition.get(TransitionKey.COMPLEMENTARY_DATA) or {}), MARK: self._values(transition)}
        return {**transition, TransitionKey.COMPLEMENTARY_DATA: extras}


@ProcessorStepRegistry.register("lerobot_ext_after_normalizer")
@dataclass
class AfterNormalizerStep(_Bracket):
    """Raise if the normaliser left a feature alone, or made it NaN or absurdly large; stands right after it.

    Args:
        keys (`list[str]`, *optional*): As in `lerobot_ext_before_normalizer`.
        largest (`float`, *optional*, defaults to `1e4`): A normalised number beyond it comes from a deviation
            or a range of zero. After an unnormaliser it is in the action's own unit.
        checks (`int`, *optional*, defaults to `20`): How many batches' numbers are looked at, as this makes a
            GPU wait; 0 looks at all. Missing statistics are found in each batch.

    Raises:
        ValueError: A field is out of range; a feature was not normalised, or not to usable numbers.
        KeyError: There is no `lerobot_ext_before_normalizer` before the normaliser.
    """

    largest: float = 1e4
    checks: int = 20
    _seen: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        require("largest", self.largest, is_number(self.largest) and self.largest > 0, "above 0")
        require("checks", self.checks, isinstance(self.checks, int) and self.checks >= 0, "0 or more")

    def __call__(self, transition: Transition) -> Transition:
        """The transition without the note."""
        extras = dict(transition.get(TransitionKey.COMPLEMENTARY_DATA) or {})
        if MARK not in extras:
            raise KeyError(
                f"the transition's complementary_data has no `{MARK}`: put `lerobot_ext_before_normalizer` "
                "right "
                "before the normaliser."
            )
        before, after = extras.pop(MARK), self._values(transition)
        # A feature without numbers (an action of width 0) has nothing to normalise.
        untouched = [key for key, value in after.items() if value is before.get(key) and value.numel()]
        if untouched:
            raise ValueError(
                f"{_listed(untouched)} went through the normaliser unchanged: it has no statistics of "
                f"{'it' if len(untouched) == 1 else 'them'}, or its type is IDENTITY in "
                "`normalization_mapping`. "
                f"{_REMEDY}"
            )
        if self.checks == 0 or self._seen < self.checks:
            self._seen += 1
            for key, value in after.items():
                self._check_numbers(key, value, before.get(key))
        return {**transition, TransitionKey.COMPLEMENTARY_DATA: extras}

    def reset(self) -> None:
        """Nothing is kept of an episode; the count of looks goes on."""

    def _check_numbers(self, key: str, value: Tensor, before: Tensor | None) -> None:
        if not value.numel():
            return
        columns = value.detach().abs().float().reshape(-1, value.shape[-1]).amax(0)
        bad = ~(columns <= self.largest)  # NaN is not below anything
        if not bool(bad.any()):
            return
        if before is not None and not bool(torch.isfinite(before).all()):
            raise ValueError(
                f"`{key}` holds NaN or infinity before it is normalised; repair or drop those frames."
            )
        places = ", ".join(str(place) for place in bad.nonzero().flatten().tolist()[:8])
        raise ValueError(
            f"`{key}` is up to {float(columns.nan_to_num(nan=float('inf')).max()):.3g} once normalised, at "
            f"{places}: "
            "its statistics there are NaN, or a deviation or range of zero, as of a joint that never "
            f"moved. {_REMEDY}"
        )


def check_pipeline(pipeline: Any) -> None:
    """Raise if a (un)normaliser of a pipeline lacks statistics that it needs, or has unusable ones.

    Args:
        pipeline (`DataProcessorPipeline`): Built or loaded; each step with `norm_map`, `features` and
            statistics.

    Raises:
        ValueError: Names the step, each feature and what is wrong with its statistics.
    """
    for step in pipeline.steps:
        modes, features = getattr(step, "norm_map", None), getattr(step, "features", None)
        statistics = getattr(step, "_tensor_stats", None)
        if not isinstance(modes, Mapping) or not isinstance(features, Mapping) or statistics is None:
            continue
        wrong = unusable_statistics(features, modes, statistics)
        if wrong:
            name = getattr(step, "_registry_name", type(step).__name__)
            raise ValueError(f"`{name}` cannot normalise {'; '.join(wrong)}. {_REMEDY}")


def _listed(keys: list[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys)
