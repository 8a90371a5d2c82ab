# SPDX-License-Identifier: Apache-2.0
"""Rules on acting: what `lerobot-rollout` and `lerobot-eval` do with a policy, from observation to action."""

import inspect
from typing import Any

import torch
from lerobot.policies.rtc.configuration_rtc import RTCConfig
from torch import Tensor

from ..contract import broken, rule, skip
from .policy_names import _some
from .policy_subject import PolicySubject
from .synthetic import seed_everything, tensors_equal


class PolicyActingRules(PolicySubject):
    """Chunks, actions and episodes."""

    @rule(
        remedy="return (B, T, A): robots, actions of the chunk, width of an action",
        needs=["builds-without-a-dataset", "processors-are-found"],
    )
    def test_chunk_has_the_right_shape(self) -> None:
        """`predict_action_chunk` gives finite actions (B, T, A) for one robot and for three."""
        config = self.config()
        policy = self.build(config)
        for robots in (1, 3):
            chunk = self.chunk(policy, robots)
            width = config.action_feature.shape[0]
            if chunk.ndim != 3 or chunk.shape[0] != robots or chunk.shape[2] != width:
                broken(f"the chunk of {robots} robots with {width} actions has shape {tuple(chunk.shape)}")
            _check_numbers(chunk)

    @rule(
        remedy="take an observation without the axis of frames as the only one there is: real-time "
        "chunking and "
        "policy servers hand it over so",
        needs=["chunk-has-the-right-shape"],
    )
    def test_plans_from_one_observation(self) -> None:
        """`predict_action_chunk` plans from one observation (B, D), without an action selected before."""
        config = self.config()
        policy = self.build(config)
        policy.eval()
        policy.reset()
        with torch.no_grad():
            chunk = policy.predict_action_chunk(self.observation(config))
        _check_numbers(chunk)

    @rule(
        remedy="return the next action (B, A) of a chunk, and plan a new chunk when it is spent",
        needs=["builds-without-a-dataset", "processors-are-found"],
    )
    def test_action_has_the_right_shape(self) -> None:
        """`select_action` gives a finite action (B, A) at each step, for one robot and for three."""
        config = self.config()
        for robots in (1, 3):
            actions = self.episode(self.build(config), robots)
            wanted = (robots, config.action_feature.shape[0])
            if tuple(actions.shape[1:]) != wanted:
                broken(f"the action of {robots} robots has shape {tuple(actions.shape[1:])}, not {wanted}")
            _check_numbers(actions)

    @rule(
        remedy="plan at least `n_action_steps` actions, or refuse the config",
        needs=["chunk-has-the-right-shape"],
    )
    def test_chunk_covers_the_steps(self) -> None:
        """A chunk holds at least the `n_action_steps` actions that are run before the next one is planned."""
        config = self.config()
        steps = getattr(config, "n_action_steps", None)
        if not isinstance(steps, int):
            skip("the config has no `n_action_steps`")
        length = self.chunk(self.build(config)).shape[1]
        if length < steps:
            broken(f"the chunk holds {length} actions, `n_action_steps` is {steps}")

    @rule(
        remedy="let the processors add the batch axis and take it away; accept `task` as one text",
        needs=["action-has-the-right-shape"],
    )
    def test_acts_in_a_rollout(self) -> None:
        """From a robot's sensors through processors and policy comes one finite action on the CPU."""
        config = self.config()
        policy = self.build(config)
        policy.eval()
        policy.reset()
        before, after = self.processors(config)
        with torch.inference_mode():
            action = after(policy.select_action(before(self.robot_observation(config))))
        action = action.squeeze(0)
        if action.device.type != "cpu" or tuple(action.shape) != tuple(config.action_feature.shape):
            broken(f"the action is {tuple(action.shape)} on {action.device}")
        _check_numbers(action)

    @rule(
        remedy="decorate `select_action` and `predict_action_chunk` with `@torch.no_grad()`: real-time "
        "chunking "
        "calls them without",
        needs=["chunk-has-the-right-shape", "action-has-the-right-shape"],
    )
    def test_actions_carry_no_gradient(self) -> None:
        """Actions hold no graph of gradients, which would grow in memory for the length of a run."""
        config = self.config()
        policy = self.build(config)
        policy.eval()
        for method, given in (
            ("predict_action_chunk", self.chunk_observation(config)),
            ("select_action", self.observation(config)),
        ):
            policy.reset()
            if getattr(policy, method)(given).requires_grad:
                broken(f"the result of `{method}` requires a gradient")

    @rule(
        remedy="clear queues, memories and ensembles in `reset()`",
        needs=["acting-is-repeatable", "acting-leaves-the-weights-alone"],
    )
    def test_reset_begins_a_new_episode(self) -> None:
        """After `reset()` an episode is equal to the first one to the bit."""
        config = self.config()
        policy = self.build(config)
        first = self.episode(policy)
        found = tensors_equal(first, self.episode(policy))
        if found:
            broken(f"the actions of the second episode: {found}")

    @rule(
        remedy="leave the parameters alone in `select_action`, or put them back in `reset()`",
        needs=["action-has-the-right-shape"],
    )
    def test_acting_leaves_the_weights_alone(self) -> None:
        """An episode and the `reset()` after it leave every parameter as it was."""
        config = self.config()
        policy = self.build(config)
        before = {name: p.detach().clone() for name, p in policy.named_parameters()}
        self.episode(policy)
        policy.reset()
        changed = [name for name, p in policy.named_parameters() if not torch.equal(p, before[name])]
        if changed:
            broken(f"{_some(changed)} changed")

    @rule(
        remedy="draw all randomness from torch's global generator, which LeRobot seeds",
        needs=["action-has-the-right-shape"],
    )
    def test_acting_is_repeatable(self) -> None:
        """The same weights, seed and observations give the same actions to the bit."""
        config = self.config()
        first, second = (self.episode(self.build(config)) for _ in range(2))
        found = tensors_equal(first, second)
        if found:
            broken(f"the actions of two equal policies: {found}")

    @rule(
        remedy="copy the batch (`batch = dict(batch)`) before adding or changing something",
        needs=["action-has-the-right-shape", "chunk-has-the-right-shape", "forward-returns-loss-and-log"],
    )
    def test_inputs_stay_as_they_are(self) -> None:
        """`forward` and `select_action` leave the tensors they are given unchanged."""
        config = self.config()
        policy = self.build(config)
        for mode, method, given in (
            ("train", "forward", self.training_batch(config)),
            ("eval", "predict_action_chunk", self.chunk_observation(config)),
            ("eval", "select_action", self.observation(config)),
        ):
            before = {k: v.clone() for k, v in given.items() if isinstance(v, Tensor)}
            getattr(policy, mode)()
            policy.reset()
            getattr(policy, method)(given)
            for key, value in before.items():
                if key in given and tensors_equal(value, given[key]):
                    broken(f"`{method}` changes `{key}`: {tensors_equal(value, given[key])}")

    @rule(
        remedy="take `inference_delay` and `prev_chunk_left_over` in `predict_action_chunk`, or let "
        "`supports_rtc` "
        "return False",
        needs=["plans-from-one-observation"],
    )
    def test_real_time_chunks_continue_the_last(self) -> None:
        """A policy that claims real-time chunking plans with the rest of the last chunk and a delay."""
        config = self.config()
        policy = self.build(config)
        if not policy.supports_rtc():
            skip("`supports_rtc()` is False")
        from lerobot.rollout.inference.rtc import supports_rtc_inference

        if not supports_rtc_inference(policy):
            taken = inspect.signature(policy.predict_action_chunk)
            broken(
                f"it claims real-time chunking, but `predict_action_chunk{taken}` does not take its arguments"
            )
        policy.eval()
        with torch.no_grad():
            plain = policy.predict_action_chunk(self.observation(config))
        horizon = max(1, min(RTCConfig().execution_horizon, plain.shape[1] - 1))
        policy.config.rtc_config = RTCConfig(execution_horizon=horizon)
        if hasattr(policy, "init_rtc_processor"):
            policy.init_rtc_processor()
        left: Any = None
        for delay in (0, 2):
            policy.reset()
            seed_everything(5)
            chunk = policy.predict_action_chunk(
                self.observation(config), inference_delay=min(delay, horizon), prev_chunk_left_over=left
            )
            if chunk.shape != plain.shape:
                broken(
                    f"with a delay of {delay} the chunk is {tuple(chunk.shape)}, without {tuple(plain.shape)}"
                )
            _check_numbers(chunk)
            left = chunk.squeeze(0)[:horizon].clone()


def _check_numbers(actions: Tensor) -> None:
    if not actions.is_floating_point() or not actions.isfinite().all():
        broken(f"the actions are {actions.dtype}, {int((~actions.isfinite()).sum())} of them not finite")
