# SPDX-License-Identifier: Apache-2.0
"""`--optimizer.type=accumulated_adamw` and its kin: optimizers that step every k micro-batches.

Each stock optimizer that a policy's preset names, and our `grouped_adamw`, has an `accumulated_` form: the
same fields and two more.
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from lerobot.optim.optimizers import (
    AdamConfig,
    AdamWConfig,
    OptimizerConfig,
    SGDConfig,
    XVLAAdamWConfig,
)
from torch.optim import Optimizer

from lerobot_ext.offline_rl.routing import GroupedAdamWConfig
from lerobot_ext.training.accumulation import accumulating, check_settings

PREFIX = "accumulated_"
# The form comes before the stock config in the order of fields: a config of its own would bring its own `lr`.
_Base = OptimizerConfig if TYPE_CHECKING else object


@dataclass
class AccumulatedConfig(_Base):  # type: ignore[misc,valid-type]
    """The fields that accumulation adds.

    Args:
        accumulation (`int`, *optional*, defaults to 4): Micro-batches to a step of the optimizer.
        clip_norm (`float`, *optional*, defaults to 10.0): Norm to which their mean gradient is clipped; 0
            leaves it.
        grad_clip_norm (`float`, *optional*, defaults to 0.0): Stays 0. By this field the trainer clips the
            gradient of each micro-batch, which is another algorithm.
    """

    accumulation: int = 4
    clip_norm: float = 10.0
    grad_clip_norm: float = 0.0

    def check(self) -> None:
        """Refuse what cannot be meant. Not in `__post_init__`: draccus keeps to itself what that says.

        Raises:
            ValueError: A field is out of range, or `grad_clip_norm` is set.
        """
        check_settings(self.accumulation, self.clip_norm)
        if self.grad_clip_norm != 0:
            raise ValueError(
                f"`grad_clip_norm` ({self.grad_clip_norm}) must stay 0 for `{self.type}`: the trainer would "
                "clip each micro-batch by it. Set `clip_norm`, which clips their mean once."
            )

    def build(self, params: Any) -> Optimizer:
        """The stock optimizer, accumulating.

        Args:
            params: As the stock config takes them.

        Raises:
            ValueError: As `check`.
        """
        self.check()
        stock = _stock_form(type(self))
        kept = {field.name: getattr(self, field.name) for field in fields(stock)}
        return accumulating(stock(**kept).build(params), self.accumulation, self.clip_norm)


@OptimizerConfig.register_subclass(f"{PREFIX}adamw")
@dataclass
class AccumulatedAdamWConfig(AccumulatedConfig, AdamWConfig):
    """AdamW over accumulated gradients."""


@OptimizerConfig.register_subclass(f"{PREFIX}adam")
@dataclass
class AccumulatedAdamConfig(AccumulatedConfig, AdamConfig):
    """Adam over accumulated gradients."""


@OptimizerConfig.register_subclass(f"{PREFIX}sgd")
@dataclass
class AccumulatedSGDConfig(AccumulatedConfig, SGDConfig):
    """SGD over accumulated gradients."""


@OptimizerConfig.register_subclass(f"{PREFIX}xvla-adamw")
@dataclass
class AccumulatedXVLAAdamWConfig(AccumulatedConfig, XVLAAdamWConfig):
    """XVLA's AdamW over accumulated gradients."""


@OptimizerConfig.register_subclass(f"{PREFIX}grouped_adamw")
@dataclass
class AccumulatedGroupedAdamWConfig(AccumulatedConfig, GroupedAdamWConfig):
    """AdamW whose groups are clipped one by one, over accumulated gradients.

    Args:
        clip_norm (`float`, *optional*, defaults to 0.0): Of all groups together, besides.
    """

    clip_norm: float = 0.0


_FORMS: dict[type[OptimizerConfig], type[AccumulatedConfig]] = {
    AdamWConfig: AccumulatedAdamWConfig,
    AdamConfig: AccumulatedAdamConfig,
    SGDConfig: AccumulatedSGDConfig,
    XVLAAdamWConfig: AccumulatedXVLAAdamWConfig,
    GroupedAdamWConfig: AccumulatedGroupedAdamWConfig,
}


def accumulated_preset(asked: AccumulatedConfig, preset: OptimizerConfig) -> AccumulatedConfig:
    """A policy's preset in its accumulated form.

    Args:
        asked (`AccumulatedConfig`): What the command line says; only its `accumulation` counts.
        preset (`OptimizerConfig`): The policy's own optimizer.

    Raises:
        ValueError: The preset is of another kind, has no accumulated form, or the command line sets a field
            that the preset decides.
    """
    own = "`--use_policy_training_preset=false`"
    form = _FORMS.get(type(preset))
    if form is None:
        known = ", ".join(f"`{stock.get_choice_name(stock)}`" for stock in _FORMS)
        raise ValueError(
            f"the policy's preset is `{preset.type}`, which has no accumulated form ({known} have); "
            f"drop `--optimizer.type={asked.type}`, or choose an optimizer yourself with {own}."
        )
    if form is not type(asked):
        raise ValueError(
            f"the policy's preset is `{preset.type}`: to accumulate it, say "
            f"`--optimizer.type={PREFIX}{preset.type}`; to choose an optimizer yourself, add {own}."
        )
    plain = type(asked)(accumulation=asked.accumulation)
    changed = [
        field.name for field in fields(asked) if getattr(asked, field.name) != getattr(plain, field.name)
    ]
    if changed:
        raise ValueError(
            f"the policy's preset decides `{'`, `'.join(changed)}`: set `--policy.optimizer_…` instead, or "
            f"choose the whole optimizer yourself with {own}."
        )
    kept = {field.name: getattr(preset, field.name) for field in fields(preset)}
    clip_norm = kept.pop("grad_clip_norm")
    return form(**kept, accumulation=asked.accumulation, clip_norm=max(0.0, clip_norm))


def _stock_form(form: type[AccumulatedConfig]) -> type[OptimizerConfig]:
    return next(stock for stock, accumulated in _FORMS.items() if accumulated is form)
