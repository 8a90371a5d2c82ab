# SPDX-License-Identifier: Apache-2.0
"""What the trainer has to know of accumulation: presets, the learning rate's schedule, `policy.update()`.

Three places of LeRobot are changed, all without effect unless an accumulating optimizer is asked for:

- `TrainPipelineConfig.validate` replaces any optimizer by the policy's preset, without a word. With an
  `accumulated_` one the preset's own optimizer accumulates; what is run is in `train_config.json`;
- the scheduler is built for `steps / accumulation` steps and advances with the optimizer's own;
- `policy.update()` (moving averages, target networks, curricula) runs after those only.

`uninstall` puts everything back. LeRobot versions other than those tested are left alone, and the optimizers
are not registered, so that they cannot be asked for.
"""

import logging
import math
import os
from types import ModuleType
from typing import Any

from lerobot.configs.train import TrainPipelineConfig

from lerobot_ext.patches import Patch
from lerobot_ext.training.accumulation import Accumulating, once_an_update

logger = logging.getLogger(__name__)

_patch = Patch("training loop", lost="there is no `--optimizer.type=accumulated_adamw`")
_optimizer: Accumulating | None = None


def install(script: ModuleType) -> bool:
    """Register the optimizers and put the hooks into the training script; again changes nothing.

    Args:
        script (`ModuleType`): `lerobot.scripts.lerobot_train`, under whatever name it runs.

    Returns:
        Whether they are in place: not with a LeRobot outside the tested window, which is logged.
    """
    replacements = {
        (TrainPipelineConfig, "validate"): _validate,
        (script, "make_optimizer_and_scheduler"): _make_optimizer_and_scheduler,
        (script, "has_method"): _has_method,
    }
    if not _patch.install(replacements):
        return False
    # Registers them.
    from lerobot_ext.training import config_accumulation  # noqa: F401

    return True


def uninstall() -> None:
    """Give LeRobot its own code back; the optimizers stay registered."""
    global _optimizer
    _patch.uninstall()
    _optimizer = None


def _validate(self: TrainPipelineConfig) -> None:
    """Stock's; with an accumulating optimizer, the preset that it puts in its place accumulates."""
    from lerobot_ext.training.config_accumulation import AccumulatedConfig, accumulated_preset

    asked = self.optimizer
    if isinstance(asked, AccumulatedConfig):
        asked.check()
    _patch.stock("validate")(self)
    if not isinstance(asked, AccumulatedConfig):
        return
    if self.optimizer is not asked:
        self.optimizer = accumulated_preset(asked, self.optimizer)
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("true", "1"):
        raise ValueError(
            f"`--optimizer.type={asked.type}` does not work under FSDP, where no process knows the norm of "
            "the whole gradient: use DDP, or a stock optimizer and a larger batch."
        )


def _make_optimizer_and_scheduler(cfg: Any, policy: Any) -> tuple[Any, Any]:
    """Stock's; a scheduler counts the steps of an accumulating optimizer."""
    global _optimizer
    from lerobot_ext.training.config_accumulation import AccumulatedConfig

    _optimizer = None
    if not isinstance(cfg.optimizer, AccumulatedConfig):
        return _patch.stock("make_optimizer_and_scheduler")(cfg, policy)  # type: ignore[no-any-return]
    _say(cfg)
    stock_steps = cfg.steps
    try:
        cfg.steps = math.ceil(stock_steps / cfg.optimizer.accumulation)
        _optimizer, scheduler = _patch.stock("make_optimizer_and_scheduler")(cfg, policy)
    finally:
        cfg.steps = stock_steps
    assert isinstance(_optimizer, Accumulating)
    return _optimizer, None if scheduler is None else once_an_update(scheduler, _optimizer)


def _say(cfg: Any) -> None:
    """Say once what the steps of this run mean."""
    k, rest = cfg.optimizer.accumulation, cfg.steps % cfg.optimizer.accumulation
    logger.info(
        "lerobot_ext: %s steps on the mean gradient of %d batches: %d own steps in %d of the trainer's.",
        cfg.optimizer.type,
        k,
        cfg.steps // k,
        cfg.steps,
    )
    if rest:
        logger.warning(
            "lerobot_ext: `steps` (%d) is no multiple of `optimizer.accumulation` (%d): the last %d batches "
            "are accumulated and never used. Take %d steps.",
            cfg.steps,
            k,
            rest,
            cfg.steps - rest + k,
        )


def _has_method(thing: object, name: str) -> bool:
    """Stock's, by which the loop asks for `policy.update` after each batch."""
    if name == "update" and _optimizer is not None and not _optimizer.take_update("policy"):
        return False
    return bool(_patch.stock("has_method")(thing, name))
