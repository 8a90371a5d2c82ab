# SPDX-License-Identifier: Apache-2.0
"""Renames features by globs: `observation.images.cam_*` becomes `observation.images.*`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from lerobot.configs.types import PipelineFeatureType
from lerobot.processor import ProcessorStepRegistry, TransitionKey

from lerobot_robot_processors.configured import ConfiguredStep, Features, Transition, is_names, require

_PARTS = {"observation": TransitionKey.OBSERVATION, "action": TransitionKey.ACTION}
_KINDS = {"observation": PipelineFeatureType.OBSERVATION, "action": PipelineFeatureType.ACTION}
_PAD = "_is_pad"


@ProcessorStepRegistry.register("lerobot_ext_rename")
@dataclass
class RenameStep(ConfiguredStep):
    """Rename observations, and the named numbers of a robot's action, by globs.

    `*` stands for any text, also none; the n-th `*` of the new name is what the n-th `*` of the old one stood
    for. The first rule that matches a key counts. A key that matches no rule keeps its name, and padding
    masks (`<key>_is_pad`) follow their keys. A policy's action, a tensor, has no name to change.

    Stands before the normaliser, whose statistics have the new names then: as with LeRobot's own
    `--rename_map`.

    Args:
        rules (`dict[str, str]`, *optional*): Old names or globs to new ones.
        parts (`list[str]`, *optional*, defaults to `["observation"]`): `observation`, `action` or both.
        required (`bool`, *optional*, defaults to `True`): A rule that matches nothing is an error.

    Raises:
        ValueError: A rule has another number of `*` on its two sides; two keys would get one name.
        KeyError: A required rule matches nothing.
    """

    rules: dict[str, str] = field(default_factory=dict)
    parts: list[str] = field(default_factory=lambda: ["observation"])
    required: bool = True

    def __post_init__(self) -> None:
        text = isinstance(self.rules, dict) and is_names([*self.rules, *self.rules.values()])
        require("rules", self.rules, text, "a dict of names")
        for old, new in self.rules.items():
            even = old.count("*") == new.count("*")
            require(
                "rules", f"{old} -> {new}", even and bool(old) and bool(new), "equal in their number of `*`"
            )
        known = is_names(self.parts) and bool(self.parts) and set(self.parts) <= set(_PARTS)
        require("parts", self.parts, known, "a list of `observation` and `action`")
        self._compiled = [(_pattern(old), old, new) for old, new in self.rules.items()]

    def __call__(self, transition: Transition) -> Transition:
        """The transition with new names; values are the same objects."""
        named = {
            part: value for part in self.parts if isinstance(value := transition.get(_PARTS[part]), dict)
        }
        self._check_rules(named)
        renamed = dict(transition)
        moved: dict[str, str] = {}
        for part, values in named.items():
            names = self.mapping(values)
            renamed[_PARTS[part]] = {names[key]: value for key, value in values.items()}
            moved |= names
        extras = transition.get(TransitionKey.COMPLEMENTARY_DATA)
        if isinstance(extras, dict) and any(_mask_name(key, moved) != key for key in extras):
            renamed[TransitionKey.COMPLEMENTARY_DATA] = {
                _mask_name(key, moved): value for key, value in extras.items()
            }
        return renamed

    def transform_features(self, features: Features) -> Features:
        """The features under their new names."""
        renamed = dict(features)
        for part in self.parts:
            names = self.mapping(features.get(_KINDS[part], {}))
            renamed[_KINDS[part]] = {
                names[key]: feature for key, feature in features.get(_KINDS[part], {}).items()
            }
        return renamed

    def mapping(self, keys: Iterable[str]) -> dict[str, str]:
        """Each key's new name.

        Raises:
            ValueError: Two keys would get one name.
        """
        names = {key: self._new_name(key) for key in keys}
        holders: dict[str, str] = {}
        for key, name in names.items():
            if name in holders:
                raise ValueError(
                    f"`{holders[name]}` and `{key}` would both be `{name}`; change `rules` ({self.rules!r}) "
                    "so "
                    "that each keeps a name of its own."
                )
            holders[name] = key
        return names

    def inverted(self, keys: Iterable[str] | None = None) -> "RenameStep":
        """The step that undoes this one.

        Args:
            keys (`Iterable[str]`, *optional*): The names before. With them the inverse names every key and is
                exact. Without, its rules are these turned round, and a key that none of these matched but
                that looks like a new name is renamed too.
        """
        if keys is None:
            return RenameStep({new: old for old, new in self.rules.items()}, list(self.parts), self.required)
        moved = {new: old for old, new in self.mapping(keys).items() if old != new}
        return RenameStep(moved, list(self.parts), self.required)

    def _new_name(self, key: str) -> str:
        for pattern, _, new in self._compiled:
            found = pattern.fullmatch(key)
            if found:
                fixed = new.split("*")
                return "".join(chain.from_iterable(zip(fixed, (*found.groups(), ""), strict=True)))
        return key

    def _check_rules(self, named: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse a rule that matches nothing, in parts that are there."""
        if not self.required or not named:
            return
        for pattern, old, _ in self._compiled:
            if not any(pattern.fullmatch(key) for values in named.values() for key in values):
                there = "; ".join(
                    f"{part}: {', '.join(named.get(part, {})) or 'none'}" for part in self.parts
                )
                raise KeyError(f"the rule for `{old}` matches nothing of {there}. Correct `rules`.")


def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile("(.*)".join(re.escape(part) for part in glob.split("*")), re.DOTALL)


def _mask_name(key: str, moved: Mapping[str, str]) -> str:
    """The padding mask's key beside the new name of what it masks."""
    owner = key.removesuffix(_PAD)
    return f"{moved[owner]}{_PAD}" if key.endswith(_PAD) and owner in moved else key
