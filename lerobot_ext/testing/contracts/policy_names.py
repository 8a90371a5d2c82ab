# SPDX-License-Identifier: Apache-2.0
"""Rules on a policy's names, config and presets: what LeRobot needs before it has a model."""

import dataclasses
import pickle
from collections.abc import Sequence
from typing import Any

import draccus
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.datasets.factory import resolve_delta_timestamps
from lerobot.optim import LRSchedulerConfig, OptimizerConfig
from lerobot.policies.factory import get_policy_class
from lerobot.policies.pretrained import PreTrainedPolicy

from ..contract import broken, rule, skip
from .fresh import run_fresh
from .policy_subject import PolicySubject, quiet

# Errors that say what the author of the policy forgot, not what its user did wrong.
_ACCIDENTS = (AttributeError, IndexError, KeyError, TypeError)


class PolicyNameRules(PolicySubject):
    """Names, config and presets."""

    @rule(
        remedy="return a config on which LeRobot's `PreTrainedConfig.__post_init__` ran, with an action "
        "feature"
    )
    def test_config_builds(self) -> None:
        """`make_config` gives a policy config that takes an action feature."""
        config = self.config()
        if config.action_feature is None:
            broken(f"`output_features` has no `action`: {sorted(config.output_features or {})}")

    @rule(
        remedy="decorate the config with `@PreTrainedConfig.register_subclass('my_policy')`, and give each "
        "class "
        "one name",
        needs=["config-builds"],
    )
    def test_type_is_registered(self) -> None:
        """The config's `type` is the name under which its class is registered."""
        config = self.config()
        try:
            found = PreTrainedConfig.get_choice_class(config.type)
        except Exception as error:  # noqa: BLE001 - draccus raises what its dict does
            broken(f"{type(config).__name__} is not registered: {type(error).__name__}: {error}")
        if found is not type(config):
            broken(f"type {config.type!r} names {found.__name__}, not {type(config).__name__}")

    @rule(
        remedy="for config class `FooConfig` in `configuration_foo.py` put class `FooPolicy` into "
        "`modeling_foo.py` "
        "beside it",
        needs=["type-is-registered"],
    )
    def test_policy_class_is_found(self) -> None:
        """LeRobot's factory finds the policy class from the config's name and module."""
        found = get_policy_class(self.config().type)
        if not (isinstance(found, type) and issubclass(found, PreTrainedPolicy)):
            broken(f"{found!r} is no lerobot PreTrainedPolicy")

    @rule(
        remedy="set `name` to the registered type and `config_class` to the config's class",
        needs=["policy-class-is-found"],
    )
    def test_names_agree(self) -> None:
        """The policy class has the registered type as `name`, and the config's class as `config_class`."""
        config = self.config()
        policy = get_policy_class(config.type)
        if policy.name != config.type:
            broken(f"{policy.__name__}.name is {policy.name!r}, the registered type {config.type!r}")
        if policy.config_class is not type(config):
            broken(f"{policy.__name__}.config_class is {policy.config_class!r}, not {type(config).__name__}")

    @rule(
        remedy="keep in fields only what the constructor takes, of types that draccus can write; make "
        "derived values "
        "properties",
        needs=["type-is-registered"],
    )
    def test_config_survives_json(self) -> None:
        """A config saved to `config.json` and loaded again is the same config."""
        config = self.config()
        folder = self.new_folder()
        with quiet():
            config.save_pretrained(folder)
            loaded = PreTrainedConfig.from_pretrained(folder)
        if type(loaded) is not type(config):
            broken(f"{type(config).__name__} came back as {type(loaded).__name__}")
        before, after = (draccus.encode(each, PreTrainedConfig) for each in (config, loaded))
        changed = [key for key in before if before[key] != after.get(key)]
        if changed:
            broken(", ".join(f"`{key}` was {before[key]!r}, is {after.get(key)!r}" for key in changed))

    @rule(
        remedy="check values in `__post_init__` and raise a ValueError that names field and value",
        needs=["config-builds"],
    )
    def test_bad_settings_are_refused(self) -> None:
        """A config with a value that cannot work is refused with a message that names the field."""
        bad = self.bad_settings(self.config())
        if not bad:
            skip("`bad_settings` names none")
        for field, value in bad.items():
            config = self.config()
            try:
                with quiet():
                    dataclasses.replace(config, **{field: value}).validate_features()
            except (ValueError, NotImplementedError, AssertionError) as error:
                if field not in str(error):
                    broken(f"`{field}` = {value!r} is refused without being named: {error}")
            else:
                broken(f"`{field}` = {value!r} is taken")

    @rule(
        remedy="return None, or a list of whole numbers: frames before (negative) and after the current one",
        needs=["config-builds"],
    )
    def test_delta_indices_are_frames(self) -> None:
        """The delta indices are None or lists of whole numbers, from which LeRobot can build a dataset."""
        config = self.config()
        for name in ("observation_delta_indices", "action_delta_indices", "reward_delta_indices"):
            indices = getattr(config, name)
            whole = isinstance(indices, Sequence) and all(
                isinstance(i, int) and not isinstance(i, bool) for i in indices
            )
            if indices is not None and not (whole and len(indices) > 0):
                broken(f"`{name}` is {indices!r}")
        resolve_delta_timestamps(config, self.metadata(config))

    @rule(
        remedy="keep locks, open files, lambdas and classes made inside functions out of the config",
        needs=["config-survives-json"],
    )
    def test_config_crosses_to_a_worker(self) -> None:
        """A pickled config arrives whole in a worker process that has not looked for plugins."""
        config = self.config()
        folder = self.new_folder()
        (folder / "config.pickle").write_bytes(pickle.dumps(config))
        answer = run_fresh("unpickle_config", folder)
        if "error" in answer:
            broken(f"in a new process: {answer['error']}")
        for name, value in answer.items():
            here = getattr(config, name)
            if value != (None if here is None else list(here)):
                broken(f"`{name}` is {here!r} here and {value!r} in a new process")

    @rule(
        remedy="end the signature of `__init__` with `dataset_stats=None, dataset_meta=None, **kwargs`",
        needs=["names-agree"],
    )
    def test_builds_for_training(self) -> None:
        """The policy builds from config, statistics and metadata, as `lerobot-train` builds it."""
        self.build(self.config())

    @rule(
        remedy="give `dataset_stats` and `dataset_meta` the default None; keep statistics that the policy "
        "itself "
        "needs in buffers",
        needs=["builds-for-training"],
    )
    def test_builds_without_a_dataset(self) -> None:
        """The policy builds from its config alone, as `lerobot-eval` and `lerobot-rollout` build it."""
        config = self.config()
        with quiet():
            get_policy_class(config.type)(config=config)

    @rule(remedy="end the signature of `__init__` with `**kwargs`", needs=["builds-without-a-dataset"])
    def test_takes_unknown_arguments(self) -> None:
        """A keyword that a later LeRobot may hand over does not stop the policy from being built."""
        config = self.config()
        with quiet():
            get_policy_class(config.type)(config=config, argument_of_a_later_lerobot=None)

    @rule(
        remedy="call `config.validate_features()` in `__init__` (LeRobot does not), and let it raise a "
        "ValueError "
        "that says which feature is missing",
        needs=["builds-without-a-dataset"],
    )
    def test_missing_features_are_refused(self) -> None:
        """A policy without any input feature is refused with a message when it is built."""
        config = self.config()
        config.input_features = {}
        try:
            with quiet():
                get_policy_class(config.type)(config=config)
        except _ACCIDENTS as error:
            broken(f"it fails by accident: {type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001 - any other error is a refusal
            if not str(error):
                broken(f"{type(error).__name__} without a message")
        else:
            broken("it is built")

    @rule(
        remedy="return an `OptimizerConfig` whose `build` gives one torch optimizer, and None or an "
        "`LRSchedulerConfig`",
        needs=["builds-for-training"],
    )
    def test_presets_build(self) -> None:
        """The presets give one optimizer over `get_optim_params()`, and a scheduler or None."""
        config = self.config()
        policy = self.build(config)
        preset, schedule = config.get_optimizer_preset(), config.get_scheduler_preset()
        if not isinstance(preset, OptimizerConfig):
            broken(f"`get_optimizer_preset` returned {type(preset).__name__}")
        if not isinstance(getattr(preset, "grad_clip_norm", None), (int, float)):
            broken(f"{type(preset).__name__} has no number `grad_clip_norm`")
        optimizer = preset.build(policy.get_optim_params())
        if not isinstance(optimizer, torch.optim.Optimizer):
            broken(f"the preset builds {type(optimizer).__name__}; lerobot-train steps one torch optimizer")
        if schedule is not None:
            if not isinstance(schedule, LRSchedulerConfig):
                broken(f"`get_scheduler_preset` returned {type(schedule).__name__}")
            schedule.build(optimizer, 100)

    @rule(
        remedy="hand every parameter with `requires_grad` to exactly one group, or turn its gradient off",
        needs=["presets-build"],
    )
    def test_optimizer_has_every_parameter(self) -> None:
        """Each trainable parameter is in the optimizer, once."""
        config = self.config()
        policy = self.build(config)
        optimizer = config.get_optimizer_preset().build(policy.get_optim_params())
        given = [id(p) for group in optimizer.param_groups for p in group["params"]]
        missing = [n for n, p in policy.named_parameters() if p.requires_grad and id(p) not in set(given)]
        if missing:
            broken(f"{_some(missing)} of the policy are in no group of the optimizer")
        if len(set(given)) != len(given):
            broken(f"{len(given) - len(set(given))} parameters are in the optimizer twice")

    @rule(
        remedy="name classes of the modules the policy has (`type(module).__name__`)",
        needs=["builds-for-training"],
    )
    def test_wrapped_modules_exist(self) -> None:
        """The module classes that the policy names for sharded training occur in it."""
        policy = self.build(self.config())
        have = {type(module).__name__ for module in policy.modules()}
        named: list[tuple[str, Any]] = [
            (attribute, getattr(policy, attribute, None))
            for attribute in ("_fsdp_wrap_modules", "_no_split_modules")
        ]
        if not any(names for _, names in named):
            skip("it names none")
        for attribute, names in named:
            absent = sorted(set(names or ()) - have)
            if absent:
                broken(f"`{attribute}` names {absent}; the policy has {sorted(have)}")


def _some(names: Sequence[str]) -> str:
    """A few of many names."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"`{name}`" for name in names[:3]) + more
