# SPDX-License-Identifier: Apache-2.0
"""Which layers take part in which stage of the training; pure bookkeeping, no torch.

A layer that takes part has its loss counted and its features in the denoiser's condition; one that does not
is replaced by its null. Within a stage's ramp a layer fades in (or out): its loss is counted with a growing
weight, and a growing share of the samples sees its features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CurriculumStage:
    """One stage.

    Args:
        name (`str`): For the log.
        layers (`tuple[str, ...]`): Layers that take part.
        steps (`int`, *optional*, defaults to `0`): Optimizer steps of the stage; the last stage goes on to
            the end of the training, whatever its `steps`.
        ramp (`int`, *optional*, defaults to `0`): Steps over which layers fade in or out at its beginning.
    """

    name: str
    layers: tuple[str, ...]
    steps: int = 0
    ramp: int = 0


class Curriculum:
    """The stages of a training in order. Without stages all layers take part all the time.

    Args:
        stages (`Sequence[CurriculumStage]`): The stages.
        layers (`Sequence[str]`): All layers.

    Raises:
        ValueError: A stage names an unknown layer, has no length, or ramps for longer than it lasts.
    """

    def __init__(self, stages: Sequence[CurriculumStage], layers: Sequence[str]) -> None:
        self.layers = tuple(layers)
        self.stages = tuple(stages)
        for number, stage in enumerate(self.stages):
            self._check(f"curriculum[{number}]", stage, is_last=number == len(self.stages) - 1)

    def stage_at(self, step: int) -> int:
        """Index of the stage that the optimizer step `step` (from 0) belongs to; 0 without stages."""
        end = 0
        for number, stage in enumerate(self.stages[:-1]):
            end += stage.steps
            if step < end:
                return number
        return max(0, len(self.stages) - 1)

    def weights_at(self, step: int) -> tuple[float, ...]:
        """How much each layer takes part at a step, in [0, 1] each, in the order of `layers`."""
        if not self.stages:
            return (1.0,) * len(self.layers)
        number = self.stage_at(step)
        stage = self.stages[number]
        now = self._part(stage)
        into = step - sum(before.steps for before in self.stages[:number])
        if number == 0 or into >= stage.ramp:
            return now
        # The first step of a ramp counts already: nothing is gained by a step with weight 0.
        share = (into + 1) / (stage.ramp + 1)
        before = self._part(self.stages[number - 1])
        return tuple(old + share * (new - old) for old, new in zip(before, now, strict=True))

    def _part(self, stage: CurriculumStage) -> tuple[float, ...]:
        return tuple(float(name in stage.layers) for name in self.layers)

    def _check(self, field: str, stage: CurriculumStage, *, is_last: bool) -> None:
        unknown = sorted(set(stage.layers) - set(self.layers))
        if unknown:
            raise ValueError(
                f"`{field}.layers` names {', '.join(unknown)}; the layers are {', '.join(self.layers)}."
            )
        if stage.steps < 0 or (stage.steps == 0 and not is_last):
            raise ValueError(
                f"`{field}.steps` ({stage.steps}) must be 1 or more; only the last stage may leave it out, "
                "which lasts to the end of the training."
            )
        if stage.ramp < 0 or (not is_last and stage.ramp > stage.steps):
            raise ValueError(
                f"`{field}.ramp` ({stage.ramp}) must lie in 0..{stage.steps}, the stage's `steps`."
            )
