# SPDX-License-Identifier: Apache-2.0
"""Rules on processors and checkpoints: what must survive between training and a robot in another process."""

import copy
from pathlib import Path
from typing import Any

import torch
from lerobot.configs import NormalizationMode
from lerobot.policies.factory import make_pre_post_processors
from lerobot.processor import DataProcessorPipeline
from lerobot.utils.constants import ACTION
from torch import Tensor

from ..contract import broken, rule, skip
from .fresh import run_fresh
from .policy_subject import copied, quiet
from .policy_training import PolicyTrainingRules
from .synthetic import seed_everything, tensors_equal

_SEED = 5


class PolicySavingRules(PolicyTrainingRules):
    """Processors, checkpoints and fresh processes."""

    # ---- processors ----------------------------------------------------------------------------------------

    @rule(
        remedy="put `make_<type>_pre_post_processors(config, dataset_stats=None)` into "
        "`processor_<name>.py` beside "
        "`configuration_<name>.py`",
        needs=["type-is-registered"],
    )
    def test_processors_are_found(self) -> None:
        """LeRobot's factory finds the function that makes preprocessor and postprocessor."""
        found = self.processors(self.config())
        if not (isinstance(found, tuple) and len(found) == 2):
            broken(f"the function returns {type(found).__name__}")
        for each in found:
            if not isinstance(each, DataProcessorPipeline):
                broken(f"{type(each).__name__} is no lerobot DataProcessorPipeline")

    @rule(
        remedy="keep LeRobot's registered steps for renaming, device, normalising and unnormalising, or "
        "register "
        "yours under these names",
        needs=["processors-are-found"],
    )
    def test_processors_take_overrides(self) -> None:
        """Saved processors load with the overrides of `lerobot-train`, which go by step name."""
        config = self.config()
        stats = self.make_stats(config)
        folder = self._saved_processors(config)
        features = {**config.input_features, **config.output_features}
        norm_map = config.normalization_mapping
        with quiet():
            make_pre_post_processors(
                config,
                pretrained_path=str(folder),
                preprocessor_overrides={
                    "device_processor": {"device": "cpu"},
                    "normalizer_processor": {"features": features, "norm_map": norm_map, "stats": stats},
                    "rename_observations_processor": {"rename_map": {}},
                },
                postprocessor_overrides={
                    "unnormalizer_processor": {
                        "features": config.output_features,
                        "norm_map": norm_map,
                        "stats": stats,
                    },
                },
            )

    @rule(
        remedy="return every constructor argument of a step from `get_config`, every tensor from "
        "`state_dict`, and "
        "register the step where the plugin's `__init__` imports it",
        needs=["processors-are-found"],
    )
    def test_processors_survive_saving(self) -> None:
        """Saved and loaded processors do to a batch and to actions what the made ones did."""
        config = self.config()
        made = self.processors(config)
        with quiet():
            loaded = make_pre_post_processors(config, pretrained_path=str(self._saved_processors(config)))
        outputs = []
        for before, after in (made, loaded):
            seed_everything(_SEED)
            batch = before(self.make_batch(config, 2))
            outputs.append({"batch": batch, "actions": after(batch[ACTION])})
        found = tensors_equal(*outputs)
        if found:
            broken(f"after loading, {found}")

    @rule(
        remedy="undo in the postprocessor, in reverse order, what the preprocessor does to actions",
        needs=["processors-are-found"],
    )
    def test_postprocessor_undoes_the_preprocessor(self) -> None:
        """Actions that go through preprocessor and postprocessor come back as they were."""
        config = self.config()
        before, after = self.processors(config)
        raw = self.make_batch(config, 2)
        actions = raw[ACTION].clone()
        back = after(before(raw)[ACTION])
        if back.shape != actions.shape:
            broken(f"actions {tuple(actions.shape)} come back as {tuple(back.shape)}")
        apart = float((back - actions).abs().max() / actions.abs().max())
        if apart > 1e-3:
            broken(f"actions come back {apart:.3g} of their size apart")

    @rule(
        remedy="in `make_<type>_pre_post_processors` compare `dataset_stats` with the features to "
        "normalise, and "
        "raise a ValueError that names what is missing: LeRobot's normaliser lets such features through as "
        "they "
        "are",
        needs=["processors-are-found"],
    )
    def test_missing_statistics_are_refused(self) -> None:
        """Statistics without those of a feature that is to be normalised are refused, not passed over."""
        config = self.config()
        modes = {getattr(k, "value", k): v for k, v in config.normalization_mapping.items()}
        stats = self.make_stats(config)
        features = {**config.input_features, **config.output_features}
        normalised = [
            name
            for name, feature in features.items()
            if modes.get(feature.type.value, NormalizationMode.IDENTITY) != NormalizationMode.IDENTITY
        ]
        if not normalised:
            skip("it normalises nothing")
        for name in normalised:
            try:
                before, after = self.processors(config, {key: stats[key] for key in stats if key != name})
                after(before(self.make_batch(config, 2))[ACTION])
            except Exception as error:  # noqa: BLE001 - any refusal that names the feature will do
                if name not in str(error):
                    broken(f"without statistics of `{name}`: {type(error).__name__}: {error}")
            else:
                broken(f"`{name}` goes unnormalised when its statistics are missing, and nothing says so")

    # ---- checkpoints ---------------------------------------------------------------------------------------

    @rule(
        remedy="make every parameter and buffer in `__init__`, from the config alone, and each under one "
        "name",
        needs=["builds-without-a-dataset", "loss-is-finite", "presets-build"],
    )
    def test_checkpoint_holds_every_weight(self) -> None:
        """A trained policy loads from config and weights alone, with no weight missing and none left over."""
        policy = self._trained()
        folder = self.new_folder()
        self.save(policy, folder)
        self.load(policy, folder, strict=True)

    @rule(
        remedy="hold every tensor that matters in a parameter or a persistent buffer",
        needs=["checkpoint-holds-every-weight", "chunk-has-the-right-shape"],
    )
    def test_loading_keeps_the_actions(self) -> None:
        """A saved and loaded policy plans the same chunk to the bit."""
        policy = self._trained()
        folder = self.new_folder()
        self.save(policy, folder)
        found = tensors_equal(self.chunk(policy), self.chunk(self.load(policy, folder)))
        if found:
            broken(f"the chunk of the loaded policy: {found}")

    @rule(
        remedy="count steps in a buffer that `update()` advances: attributes are not saved",
        needs=["checkpoint-holds-every-weight", "training-is-repeatable"],
    )
    def test_training_resumes_where_it_stopped(self) -> None:
        """A policy saved during training has, when loaded, the same loss and the same next update."""
        config = self.config()
        policy = self._trained(steps=3)
        folder = self.new_folder()
        self.save(policy, folder)
        metadata = self.metadata(config)
        loaded = self.load(policy, folder, dataset_stats=metadata.stats, dataset_meta=metadata)
        batch = self.training_batch(config)
        results: list[dict[str, Any]] = []
        for each in (policy, loaded):
            each.train()
            seed_everything(_SEED)
            loss, log = each.forward(copied(batch))
            if callable(getattr(each, "update", None)):
                each.update()
            results.append({"loss": loss.detach(), "log": log, "state": each.state_dict()})
        found = tensors_equal(*results)
        if found:
            broken(f"after loading, {found}")

    @rule(
        remedy="let the plugin's `__init__` register the config, name the distribution like its package, "
        "and load "
        "nothing in the policy that the checkpoint does not hold",
        needs=["loading-keeps-the-actions", "processors-survive-saving"],
    )
    def test_fresh_process_loads_the_policy(self) -> None:
        """A process that knows the plugin only by LeRobot's discovery loads config and weights."""
        answer = self._fresh_answer()
        if answer["stage"] in ("start", "config", "policy"):
            broken(f"at the {answer['stage']}: {answer['error']}")

    @rule(
        remedy="register every processor step in a module that the plugin's `__init__` imports",
        needs=["fresh-process-loads-the-policy", "processors-take-overrides"],
    )
    def test_fresh_process_loads_the_processors(self) -> None:
        """A process that knows the plugin only by LeRobot's discovery loads the saved processors."""
        answer = self._fresh_answer()
        if answer["stage"] == "processors":
            broken(str(answer["error"]))

    @rule(
        remedy="let actions depend on the checkpoint, the observation and the seed alone",
        needs=["fresh-process-loads-the-processors", "acting-is-repeatable", "acts-in-a-rollout"],
    )
    def test_fresh_process_acts_alike(self) -> None:
        """A fresh process gives the action of this one to the bit, from the same checkpoint and seed."""
        answer = self._fresh_answer()
        if answer["stage"] == "action":
            broken(str(answer["error"]))
        found = tensors_equal(answer["here"], answer["there"])
        if found:
            broken(f"the action: {found}")

    def _fresh_answer(self) -> dict[str, Any]:
        """What the fresh process said, asked once for all rules of a class."""
        if not self._fresh:
            folder = self.new_folder()
            policy = self._trained()
            self.save(policy, folder)
            config = policy.config
            observation = self.robot_observation(config)
            inputs = {"observation": observation, "seed": _SEED, "threads": torch.get_num_threads()}
            torch.save(inputs, folder / "inputs.pt")
            answer = {"stage": "start"} | run_fresh("run_policy", folder)
            if answer["stage"] == "done":
                answer["there"] = torch.load(folder / "fresh_action.pt", weights_only=True)
                answer["here"] = self._act_once(policy, copy.copy(observation))
            self._fresh.update(answer)
        return self._fresh

    def _act_once(self, policy: Any, observation: dict[str, Any]) -> Tensor:
        before, after = self.processors(policy.config)
        policy.eval()
        seed_everything(_SEED)
        policy.reset()
        with torch.inference_mode():
            action: Tensor = after(policy.select_action(before(observation)))
        return action.clone()

    def _trained(self, steps: int = 1) -> Any:
        """A policy after a few steps: what only training fills is filled."""
        config = self.config()
        policy = self.build(config)
        batch = self.training_batch(config)
        optimizer = config.get_optimizer_preset().build(policy.get_optim_params())
        for _ in range(steps):
            self.step(policy, batch, optimizer)
        return policy

    def _saved_processors(self, config: Any) -> Path:
        folder = self.new_folder()
        for each in self.processors(config):
            each.save_pretrained(folder)
        return folder
