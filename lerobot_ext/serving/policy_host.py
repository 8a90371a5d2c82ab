# SPDX-License-Identifier: Apache-2.0
"""Loads allowed checkpoints, any registered policy with its own processors, and runs them."""

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies import get_policy_class, make_pre_post_processors
from lerobot.policies.utils import prepare_observation_for_inference
from lerobot.utils.constants import ACTION

from lerobot_ext.plugins import describe_error
from lerobot_ext.policy_memory import observation_queues, remember, with_stacked_cameras
from lerobot_ext.serving.allowlist import Allowed
from lerobot_ext.serving.contract import action_order, wanted_features
from lerobot_ext.serving.messages import MAX_CHUNK, MAX_FRAMES, Chunk, Join, Observation, Welcome

logger = logging.getLogger(__name__)

_PROCESSORS: Final = ("policy_preprocessor.json", "policy_postprocessor.json")


class PolicyFailed(RuntimeError):  # noqa: N818 - reads as what it says
    """A checkpoint cannot be loaded, or its policy failed; the message says why."""


class PolicyHost:
    """Keeps loaded policies, the least recently used go first.

    Args:
        device (`str`, *optional*): Where policies run; as their checkpoints say when it is empty.
        max_loaded (`int`, *optional*): Policies kept in memory.
    """

    def __init__(self, device: str = "", max_loaded: int = 2) -> None:
        self._device = device
        self._max_loaded = max_loaded
        self._loaded: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()
        # A session that ran out may still be at it when the next one begins, with the same policy.
        self._running = threading.Lock()
        self.n_loads = 0

    def load(self, allowed: Allowed) -> Any:
        """The policy of a checkpoint, loaded once.

        Raises:
            PolicyFailed: It cannot be loaded.
        """
        with self._lock:
            if allowed.source in self._loaded:
                self._loaded.move_to_end(allowed.source)
                return self._loaded[allowed.source]
            started = time.monotonic()
            policy = self._read(allowed)
            self.n_loads += 1
            self._loaded[allowed.source] = policy
            while len(self._loaded) > self._max_loaded:
                self._loaded.popitem(last=False)
            logger.info(
                "loaded %s (%s) on %s in %.1f s",
                allowed.name,
                policy.config.type,
                policy.config.device,
                time.monotonic() - started,
            )
            return policy

    def open(self, allowed: Allowed, join: Join, lease_s: float) -> "PolicySession":
        """A session of a policy for one robot, at the start of an episode.

        Raises:
            PolicyFailed: The checkpoint cannot be loaded.
            Mismatch: It does not fit the robot.
        """
        policy = self.load(allowed)
        device = str(policy.config.device)
        try:
            preprocessor, postprocessor = make_pre_post_processors(
                policy.config,
                pretrained_path=allowed.source,
                preprocessor_overrides={
                    "device_processor": {"device": device},
                    "rename_observations_processor": {"rename_map": dict(join.rename_map)},
                },
            )
        except Exception as error:  # the plugin boundary
            raise PolicyFailed(
                f"the processors of {allowed.name} cannot be loaded: {describe_error(error)}"
            ) from error
        config = policy.config
        order = action_order(join, config.action_feature, getattr(config, "action_feature_names", None))
        welcome = Welcome(
            policy=allowed.name,
            policy_type=config.type,
            wanted=wanted_features(join, config.input_features or {}, preprocessor),
            jpeg=join.jpeg,
            frames=_history(policy),
            chunk_size=min(_chunk_size(config), join.actions_per_chunk or MAX_CHUNK),
            action_names=join.action_names,
            lease_s=lease_s,
        )
        session = PolicySession(
            policy, preprocessor, postprocessor, welcome, order, join.robot_type, self._running
        )
        session.reset()
        return session

    def _read(self, allowed: Allowed) -> Any:
        folder = Path(allowed.source)
        missing = [name for name in _PROCESSORS if folder.is_dir() and not (folder / name).is_file()]
        if missing:
            raise PolicyFailed(
                f"{allowed.name} lacks {' and '.join(missing)}: an old checkpoint; migrate it with "
                "`python -m lerobot.processor.migrate_policy_normalization --pretrained-path FOLDER`"
            )
        try:
            config = PreTrainedConfig.from_pretrained(allowed.source)
            if getattr(config, "use_peft", False):
                raise PolicyFailed(f"{allowed.name} is a PEFT adapter; merge it into its base model first")
            if self._device:
                config.device = self._device
            return get_policy_class(config.type).from_pretrained(allowed.source, config=config)
        except PolicyFailed:
            raise
        except Exception as error:  # the plugin boundary
            raise PolicyFailed(f"{allowed.name} cannot be loaded: {describe_error(error)}") from error


class PolicySession:
    """One policy driving one robot.

    Args:
        policy: A LeRobot policy.
        preprocessor, postprocessor: The checkpoint's.
        welcome (`Welcome`): What the client was told.
        order (`Sequence[int]`): Columns of the policy's actions in the robot's order.
        robot_type (`str`): LeRobot's name of the robot.
        running (`Lock`): Held while the policy runs.
    """

    def __init__(
        self,
        policy: Any,
        preprocessor: Any,
        postprocessor: Any,
        welcome: Welcome,
        order: Sequence[int],
        robot_type: str,
        running: threading.Lock,
    ) -> None:
        self.welcome = welcome
        self._policy = policy
        self._preprocessor = preprocessor
        self._postprocessor = postprocessor
        self._order = list(order)
        self._robot_type = robot_type
        self._lock = running

    def reset(self) -> None:
        """Start a new episode: policy and processors forget the last one."""
        with self._lock:
            self._policy.reset()
            self._preprocessor.reset()
            self._postprocessor.reset()

    def chunk(self, observation: Observation) -> Chunk:
        """The actions that follow an observation; the first is for its `timestep`.

        Raises:
            PolicyFailed: The policy failed, or gave something that must not reach a robot.
        """
        started = time.perf_counter()
        with self._lock:
            try:
                actions = self._predict(observation)
            except Exception as error:  # the plugin boundary
                logger.exception("policy %s failed", self.welcome.policy)
                raise PolicyFailed(f"policy {self.welcome.policy} failed: {describe_error(error)}") from error
        if not np.isfinite(actions).all():
            raise PolicyFailed(
                f"policy {self.welcome.policy} gave NaN or infinity, which no robot may get: look at its "
                "training and its normalisation statistics"
            )
        spent_ms = (time.perf_counter() - started) * 1e3
        return Chunk(observation.timestep, observation.timestamp, actions, spent_ms)

    def _predict(self, observation: Observation) -> npt.NDArray[np.float32]:
        """(T, A) in the robot's units and order."""
        device = torch.device(str(self._policy.config.device))
        mixed = device.type == "cuda" and getattr(self._policy.config, "use_amp", False)
        with torch.inference_mode(), torch.autocast(device.type) if mixed else nullcontext():
            batch: dict[str, Any] = {}
            for frame in observation.frames:
                # LeRobot's helper replaces the entries of the dictionary it is given.
                raw = prepare_observation_for_inference(
                    dict(frame), device, observation.task, self._robot_type
                )
                # The pipeline adds an empty action, which policies with queues would look for in those.
                batch = {key: value for key, value in self._preprocessor(raw).items() if key != ACTION}
                remember(self._policy, batch)
            chunk = _predict_chunk(self._policy, batch)[:, : self.welcome.chunk_size]
            # One at a time, as stock does: a saved pipeline promises no more.
            steps = [self._postprocessor(chunk[:, step]) for step in range(chunk.shape[1])]
        actions = torch.stack(steps, dim=1).squeeze(0).float().cpu().numpy()  # (T, A)
        if actions.shape[1] != len(self._order):
            raise ValueError(
                f"the postprocessor gave {actions.shape[1]} actions a step instead of {len(self._order)}"
            )
        return np.ascontiguousarray(actions[:, self._order])


def _history(policy: Any) -> int:
    """Newest observations the policy keeps queues for; 1 where it keeps none."""
    lengths = [queue.maxlen or 1 for queue in observation_queues(policy).values()]
    return min(max(lengths, default=1), MAX_FRAMES)


def _predict_chunk(policy: Any, batch: dict[str, Any]) -> torch.Tensor:
    """(1, T, A), normalised; a policy without chunks gives T = 1."""
    batch = with_stacked_cameras(policy, batch)
    try:
        chunk = policy.predict_action_chunk(batch)
    except NotImplementedError:
        chunk = policy.select_action(batch).unsqueeze(1)
    if chunk.ndim == 2:
        chunk = chunk.unsqueeze(0)
    return chunk  # type: ignore[no-any-return]


def _chunk_size(config: Any) -> int:
    """Longest chunk the policy gives; the tensor itself is cut to it."""
    for name in ("chunk_size", "horizon", "action_chunk_size", "n_action_steps"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return min(value, MAX_CHUNK)
    return 1


def read_policy_type(allowed: Allowed) -> str:
    """The type a local checkpoint names, without loading it; empty for a Hub id."""
    config = Path(allowed.source) / "config.json"
    if not config.is_file():
        return ""
    return str(json.loads(config.read_text(encoding="utf-8")).get("type", ""))
