# SPDX-License-Identifier: Apache-2.0
"""Lets the stock trainer make one batch and stops it there, with a look at each place on the way.

Dataset, policy, processors and loader are those of `lerobot-train`, so that any option of its works, and what
is seen is what a training sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

import torch

from lerobot_ext.evaluation.batch_stages import Stage, stage
from lerobot_ext.evaluation.module_trace import ModuleTrace
from lerobot_ext.patches import replaced
from lerobot_ext.plugins import describe_error
from lerobot_ext.training.quiet import quiet_training

FINAL: Final = "what policy.forward receives"
COLLATED: Final = "collated batch"
TRANSITION: Final = "as LeRobot's transition"
ITEM: Final = "dataset item (frame 0)"


@dataclass
class Forward:
    """A forward pass in training mode, without gradients.

    Args:
        loss (`float`, *optional*): `None` if it failed, or is not a single number.
        log (`dict[str, Any]`): What the policy reports.
        trace (`ModuleTrace`): Its submodules.
    """

    loss: float | None
    log: dict[str, Any]
    trace: ModuleTrace


@dataclass
class Seen:
    """What was found on the way.

    Args:
        stages (`list[Stage]`): In order.
        at (`str`): What was being done; where it failed, if it did.
        error (`str`): Type and message of what ended it; empty when nothing did.
        config: The policy's configuration, once there is a policy.
        features (`dict`), stats (`dict`): The dataset's.
        cameras (`list[str]`), depth_cameras (`list[str]`): Its features that are pictures.
        n_parameters (`int`): Of the policy.
        forward (`Forward`, *optional*): If it was asked for.
    """

    stages: list[Stage] = field(default_factory=list)
    at: str = "reading the options"
    error: str = ""
    config: Any = None
    features: dict[str, Any] = field(default_factory=dict)
    stats: dict[str, Any] = field(default_factory=dict)
    cameras: list[str] = field(default_factory=list)
    depth_cameras: list[str] = field(default_factory=list)
    n_parameters: int = 0
    forward: Forward | None = None

    def add(self, name: str, batch: Mapping[str, Any]) -> None:
        """Note a stage; the first one has nothing to be compared with, the second other shapes throughout."""
        self.stages.append(stage(name, batch, self.stages[-1] if self.stages else None))


class _Enough(BaseException):
    """Ends the trainer; no handler of errors takes it for one."""


def look(words: list[str], *, forward: bool, depth: int) -> Seen:
    """Follow one batch.

    Args:
        words (`list[str]`): Options of `lerobot-train`.
        forward (`bool`): Whether to run `policy.forward` as well.
        depth (`int`): Of submodules, if so.

    Raises:
        SystemExit: LeRobot's parser refused the options, and has said why.
    """
    from lerobot.scripts import lerobot_train

    session = _Session(forward=forward, depth=depth)
    with session.inside(lerobot_train):
        try:
            quiet_training([*words, "--steps=1"])
        except _Enough:
            pass
        except Exception as error:  # noqa: BLE001 - whatever LeRobot or a plugin raises is the result
            session.seen.error = describe_error(error)
    return session.seen


class _Session:
    """The hooks of one look."""

    def __init__(self, *, forward: bool, depth: int) -> None:
        self.seen = Seen()
        self._wants_forward = forward
        self._depth = depth
        self._stock: dict[str, Any] = {}

    @contextmanager
    def inside(self, script: ModuleType) -> Iterator[None]:
        """Put the hooks into the training script, for a while."""
        hooks: dict[str, Callable[..., Any]] = {
            "init_logging": lambda **_: None,
            # Its bar would stand still between our tables.
            "tqdm": lambda *words, **named: self._stock["tqdm"](*words, **{**named, "disable": True}),
            "make_train_eval_datasets": self._make_datasets,
            "make_policy": self._make_policy,
            "make_pre_post_processors": self._make_processors,
            "cycle": self._cycle,
            "update_policy": self._update_policy,
        }
        with replaced(script, **hooks) as self._stock:
            yield

    def _make_datasets(self, cfg: Any) -> Any:
        self.seen.at = "opening the dataset"
        made = self._stock["make_train_eval_datasets"](cfg)
        meta = made[0].meta
        self.seen.features, self.seen.stats = dict(meta.features), dict(meta.stats or {})
        self.seen.cameras, self.seen.depth_cameras = list(meta.camera_keys), list(meta.depth_keys)
        self.seen.at = "reading a frame of the dataset"
        self.seen.add(ITEM, made[0][0])
        return made

    def _make_policy(self, *words: Any, **named: Any) -> Any:
        self.seen.at = "making the policy"
        policy = self._stock["make_policy"](*words, **named)
        self.seen.config = policy.config
        self.seen.n_parameters = sum(parameter.numel() for parameter in policy.parameters())
        return policy

    def _make_processors(self, *words: Any, **named: Any) -> Any:
        self.seen.at = "making the processors"
        before, after = self._stock["make_pre_post_processors"](*words, **named)
        names = [_step_name(place, step) for place, step in enumerate(before.steps)]

        def entering(place: int, transition: Any) -> None:
            if place == 0:
                self.seen.add(TRANSITION, self._as_batch(transition))
            self.seen.at = f"preprocessor step {names[place]}"

        def leaving(place: int, transition: Any) -> None:
            self.seen.add(f"preprocessor step {names[place]}", self._as_batch(transition))

        before.before_step_hooks.append(entering)
        before.after_step_hooks.append(leaving)
        self.seen.at = "making the optimizer and the loader"
        return before, after

    def _as_batch(self, transition: Any) -> dict[str, Any]:
        from lerobot.processor.converters import transition_to_batch

        return transition_to_batch(transition)  # type: ignore[no-any-return]

    def _cycle(self, loader: Any) -> Iterator[Any]:
        for batch in self._stock["cycle"](loader):
            self.seen.add(COLLATED, batch)
            self.seen.at = "the preprocessor"
            yield batch

    def _update_policy(self, _tracker: Any, policy: Any, batch: Any, *_: Any, **named: Any) -> Any:
        self.seen.add(FINAL, batch)
        if self._wants_forward:
            self.seen.at = "policy.forward"
            self._forward(policy, batch, named["accelerator"])
        self.seen.at = ""
        raise _Enough

    def _forward(self, policy: Any, batch: Any, accelerator: Any) -> None:
        found = self.seen.forward = Forward(None, {}, ModuleTrace(self._depth))
        bare = accelerator.unwrap_model(policy)
        policy.train()
        with found.trace.watching(bare), torch.no_grad(), accelerator.autocast():
            loss, log = policy.forward(batch)
        found.loss = float(loss) if loss.numel() == 1 else None
        found.log = dict(log or {})


def _step_name(place: int, step: Any) -> str:
    """Number and registered name, or class, of a step."""
    name = getattr(type(step), "_registry_name", None) or type(step).__name__
    return f"{place + 1} {name}"
