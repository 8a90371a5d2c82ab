# SPDX-License-Identifier: Apache-2.0
"""Where steps go in the pipelines of a policy, and whether LeRobot will still load and follow them there.

LeRobot's commands override steps of saved pipelines by name, and take the features of observations and
actions from the dataset or the environment, before any step. What they cannot follow is refused here, when
the steps are added, not on the day of the evaluation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lerobot.configs import FeatureType, NormalizationMode

from lerobot_ext.pipelines.build import build_steps, step_name
from lerobot_ext.pipelines.features import Features, features_after
from lerobot_ext.pipelines.file import (
    POLICY_SIDE,
    POSTPROCESSOR,
    PREPROCESSOR,
    PipelineEntry,
    PipelineError,
    read_file,
)

PLACES = ("start", "before_normalizer", "after_normalizer", "end")
DEFAULT_PLACE = {PREPROCESSOR: "before_normalizer", POSTPROCESSOR: "after_normalizer"}
"""Steps before the policy see the dataset's own values; steps behind it commands in the robot's units."""

NORMALIZER = {PREPROCESSOR: "normalizer_processor", POSTPROCESSOR: "unnormalizer_processor"}
OVERRIDDEN = {
    PREPROCESSOR: ("device_processor", "rename_observations_processor", "normalizer_processor"),
    POSTPROCESSOR: ("unnormalizer_processor",),
}
"""Steps that lerobot-train, -eval and -rollout override by name: they refuse a checkpoint without one, and
override both of two."""

_STATISTICS = {
    NormalizationMode.MEAN_STD: "mean",
    NormalizationMode.MIN_MAX: "min",
    NormalizationMode.QUANTILES: "q01",
    NormalizationMode.QUANTILE10: "q10",
}


_SHIFT, _SPREAD = 0.25, (0.5, 2.0)
"""A mean that moves by more of the spread, or another spread, makes statistics those of something else."""


@dataclass
class ExtraSteps:
    """Steps for the two pipelines of a policy.

    Args:
        entries (`dict[str, PipelineEntry]`): What the files say, by pipeline.
        where (`dict[str, str]`): The place in each pipeline.
        steps (`dict[str, list]`): The steps themselves.
        path (`Path`): The file, for messages.
    """

    path: Path
    entries: dict[str, PipelineEntry]
    where: dict[str, str]
    steps: dict[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def load(
        cls,
        path: Path | str | None,
        post: Path | str | None = None,
        where: Mapping[str, str] | None = None,
    ) -> "ExtraSteps":
        """Read files of steps and make the steps.

        Args:
            path (`Path`, *optional*): A file with `policy_preprocessor` and `policy_postprocessor`, or a
                plain one for the preprocessor.
            post (`Path`, *optional*): A plain file for the postprocessor.
            where (`Mapping`, *optional*): Places that count more than those in the files.

        Raises:
            PipelineError: A file or a step of it is wrong, or names a step that LeRobot overrides.
        """
        entries: dict[str, PipelineEntry] = {}
        for file, plain in ((path, PREPROCESSOR), (post, POSTPROCESSOR)):
            for key, entry in (read_file(file, POLICY_SIDE) if file else {}).items():
                if (key or plain) in entries:
                    raise PipelineError(f"{file} and {path} both have a {key or plain}", "name it once")
                entries[key or plain] = entry
        chosen = {
            key: (where or {}).get(key) or entry.where or DEFAULT_PLACE[key] for key, entry in entries.items()
        }
        made = cls(Path(str(path or post)), entries, chosen)
        for key, entry in entries.items():
            made.steps[key] = build_steps(entry)
            _refuse_overridden(key, entry, made.steps[key])
        return made

    def inputs_after(self, inputs: Features, outputs: Features) -> Features:
        """The features of a policy's inputs behind these steps.

        Raises:
            PipelineError: A step does not take them, or changes what LeRobot takes from the dataset.
        """
        entry = self.entries.get(PREPROCESSOR)
        if entry is None:
            return dict(inputs)
        action, observation = features_after(self.steps[PREPROCESSOR], outputs, inputs, place=entry.place())
        self._refuse_changed_action(entry, outputs, action)
        _refuse_renamed_pictures(entry, inputs, observation)
        return observation

    def check_outputs(self, outputs: Features) -> None:
        """Make sure that the steps behind the policy leave the action's shape alone.

        Raises:
            PipelineError: They do not.
        """
        entry = self.entries.get(POSTPROCESSOR)
        if entry is not None:
            action, _ = features_after(self.steps[POSTPROCESSOR], outputs, {}, place=entry.place())
            self._refuse_changed_action(entry, outputs, action)

    @staticmethod
    def _refuse_changed_action(entry: PipelineEntry, before: Features, after: Features) -> None:
        if {name: tuple(one.shape) for name, one in before.items()} != {
            name: tuple(one.shape) for name, one in after.items()
        }:
            raise PipelineError(
                f"{entry.place()} changes the action from {_shapes(before)} to {_shapes(after)}",
                "LeRobot takes the action's shape from the dataset: change it there, or on the robot's side "
                "(docs/pipelines.md)",
            )

    def check_statistics(
        self, before: Features, after: Features, modes: Mapping[Any, Any], stats: Mapping[str, Any] | None
    ) -> None:
        """Make sure that what is normalised behind these steps has statistics of its shape.

        Args:
            before (`dict`): The dataset's features.
            after (`dict`): The same behind the steps.
            modes (`Mapping`): The policy's `normalization_mapping`.
            stats (`Mapping`, *optional*): The dataset's; `None` passes.

        Raises:
            PipelineError: A feature that the steps made has none, or of another shape: LeRobot would leave it
                unnormalised without a word.
        """
        entry = self.entries.get(PREPROCESSOR)
        if entry is None or stats is None or self.where[PREPROCESSOR] not in ("start", "before_normalizer"):
            return
        by_name = {getattr(kind, "value", kind): mode for kind, mode in modes.items()}
        for name, feature in after.items():
            mode = by_name.get(feature.type.value, NormalizationMode.IDENTITY)
            key = _STATISTICS.get(NormalizationMode(mode))
            if key is None or (name in before and tuple(before[name].shape) == tuple(feature.shape)):
                continue
            value = (stats.get(name) or {}).get(key)
            shape = tuple(getattr(value, "shape", ()))
            fits = shape[:1] == tuple(feature.shape)[:1] and all(one == 1 for one in shape[1:])
            if value is None or not fits:
                raise PipelineError(
                    f"{entry.place()} gives {name} of shape {tuple(feature.shape)}, and the dataset has "
                    + (f"statistics of {shape}" if value is not None else "no statistics of it"),
                    'put these steps behind the normaliser ("where": "after_normalizer"), or set the '
                    "feature's type to IDENTITY in `normalization_mapping`",
                )


def moved_values(extra: ExtraSteps, before: Features, modes: Mapping[Any, Any]) -> list[str]:
    """Features that steps before the normaliser give another mean or spread, so that its statistics are off.

    Told by made-up values; a picture that is cropped, turned or tinted a little is not meant.

    Raises:
        PipelineError: A step does not take made-up values of these features.
    """
    if PREPROCESSOR not in extra.entries or extra.where[PREPROCESSOR] not in ("start", "before_normalizer"):
        return []
    import torch

    batch = _made_up(before)
    with torch.random.fork_rng(devices=[]):  # a step may draw: the training draws what it would without
        after = _behind(extra, batch)
    by_name = {getattr(kind, "value", kind): NormalizationMode(mode) for kind, mode in modes.items()}
    moved = []
    for name, feature in before.items():
        old, new = batch[name], after.get(name)
        normalised = (
            by_name.get(feature.type.value, NormalizationMode.IDENTITY) is not NormalizationMode.IDENTITY
        )
        if not normalised or not torch.is_tensor(new) or new.numel() == 0:
            continue
        shift, spread = float((new.float().mean() - old.mean()).abs()), float(old.std())
        ratio = float(new.float().std()) / max(spread, 1e-9)
        if shift > _SHIFT * spread or not _SPREAD[0] <= ratio <= _SPREAD[1]:
            moved.append(name)
    return moved


def _made_up(features: Features) -> dict[str, Any]:
    """A few observations with these features; pictures in [0, 1]."""
    import torch

    generator = torch.Generator().manual_seed(0)
    draw = {True: torch.rand, False: torch.randn}
    return {
        name: draw[one.type is FeatureType.VISUAL](
            64 if len(one.shape) < 2 else 2, *one.shape, generator=generator
        )
        for name, one in features.items()
    }


def _behind(extra: ExtraSteps, batch: Mapping[str, Any]) -> dict[str, Any]:
    from lerobot.lerobot_types import TransitionKey
    from lerobot.processor.converters import create_transition

    from lerobot_ext.plugins import describe_error

    transition = create_transition(observation=dict(batch), complementary_data={"task": [""]})
    for index, step in enumerate(extra.steps[PREPROCESSOR]):
        try:
            transition = step(transition)
        except Exception as error:  # the boundary to anybody's step
            raise PipelineError(
                f"{extra.entries[PREPROCESSOR].place(index)} fails on made-up values: "
                f"{describe_error(error)}",
                "it does not fit these features, or its code is wrong",
            ) from error
    for step in extra.steps[PREPROCESSOR]:
        step.reset()
    return dict(transition[TransitionKey.OBSERVATION])


def index_of(place: str, key: str, names: Sequence[str]) -> int:
    """Where in a pipeline of these steps a place is.

    Args:
        place (`str`): One of `PLACES`, or an index.
        key (`str`): Which of a policy's pipelines it is.
        names (`Sequence[str]`): The registry names of its steps.

    Raises:
        PipelineError: There is no such place.
    """
    if place.lstrip("-").isdigit():
        index = int(place)
        if not 0 <= index <= len(names):
            raise PipelineError(f"{key} has {len(names)} steps, no place {index}", f"0 to {len(names)}")
        return index
    if place not in PLACES:
        raise PipelineError(f"{place!r} is no place in {key}", f"{', '.join(PLACES)}, or the index of a step")
    if place in ("start", "end"):
        return 0 if place == "start" else len(names)
    if NORMALIZER[key] not in names:
        raise PipelineError(
            f"{key} has no {NORMALIZER[key]}: its steps are {', '.join(names)}", "name an index instead"
        )
    return names.index(NORMALIZER[key]) + (place == "after_normalizer")


def check_names(key: str, names: Sequence[str]) -> None:
    """Make sure that a policy's pipeline has the steps that LeRobot's commands override by name.

    Raises:
        PipelineError: One is missing.
    """
    missing = [name for name in OVERRIDDEN[key] if name not in names]
    if missing:
        raise PipelineError(
            f"{key} has no {', '.join(missing)}: its steps are {', '.join(names)}",
            "lerobot-train, -eval and -rollout override these by name and would refuse it: build it from "
            "`make_default_policy_processor_steps`",
        )


def _refuse_overridden(key: str, entry: PipelineEntry, steps: Sequence[Any]) -> None:
    for index, step in enumerate(steps):
        if step_name(step) in OVERRIDDEN[key]:
            raise PipelineError(
                f"{entry.place(index)} has a name that LeRobot's commands override: its configuration would "
                "be replaced at the next evaluation",
                "every policy has this step already; use another one",
            )


def _refuse_renamed_pictures(entry: PipelineEntry, before: Features, after: Features) -> None:
    """LeRobot compares the names of a policy's cameras with those of the environment, before any step."""
    old, new = (
        {n for n, one in features.items() if one.type is FeatureType.VISUAL} for features in (before, after)
    )
    if not (new <= old or old <= new):
        raise PipelineError(
            f"{entry.place()} gives pictures {', '.join(sorted(new))} of {', '.join(sorted(old))}",
            "lerobot-eval and -rollout would refuse other names: keep them, or rename with `--rename_map`",
        )


def _shapes(features: Features) -> str:
    return ", ".join(f"{name} {tuple(one.shape)}" for name, one in features.items()) or "nothing"
