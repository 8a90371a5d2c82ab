# SPDX-License-Identifier: Apache-2.0
"""Shows a policy the recorded frames, one after another as a robot would, and keeps what it says.

Several episodes run side by side as a batch, as `lerobot-eval` runs environments; those that end earlier keep
showing their last frame, and what the policy says to that is not looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from lerobot_ext.cli.command import CommandError
from lerobot_ext.evaluation.episodes import ACTION, Episode
from lerobot_ext.evaluation.errors import Floats
from lerobot_ext.plugins import describe_error
from lerobot_ext.policy_memory import with_stacked_cameras

if TYPE_CHECKING:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    from lerobot_ext.evaluation.loading import Loaded

OBSERVATION: Final = "observation."


@dataclass(frozen=True)
class Plan:
    """What to ask the policy.

    Args:
        select (`bool`): `select_action` at every frame.
        chunk (`bool`): `predict_action_chunk` at each `every`-th frame.
        every (`int`): Frames between two chunks.
        batch_size (`int`): Episodes side by side.
        num_workers (`int`): Processes that read frames; 0 reads them in this one.
        seed (`int`): For whatever the policy draws.
    """

    select: bool
    chunk: bool
    every: int = 1
    batch_size: int = 1
    num_workers: int = 0
    seed: int = 1000


@dataclass
class Replay:
    """What a policy said, by the episode's index, in the dataset's units.

    Args:
        selected (`dict[int, Floats]`): (T, A), an action a frame.
        planned (`dict[int, list[int]]`): Frames at which `select_action` planned a new chunk.
        chunks (`dict[int, Floats]`): (K, H, A).
        select_s (`list[float]`), plan_s (`list[float]`), chunk_s (`list[float]`): Seconds of a call from
            the observation to the action: of all `select_action`, of those among them that planned, and of
            `predict_action_chunk`. The first call is left out.
        knows_plans (`bool`): Whether the policy plans through `predict_action_chunk`, which is watched.
    """

    selected: dict[int, Floats] = field(default_factory=dict)
    planned: dict[int, list[int]] = field(default_factory=dict)
    chunks: dict[int, Floats] = field(default_factory=dict)
    select_s: list[float] = field(default_factory=list)
    plan_s: list[float] = field(default_factory=list)
    chunk_s: list[float] = field(default_factory=list)
    knows_plans: bool = False


class NoChunks(Exception):  # noqa: N818 - reads as what it says
    """The policy gives one action at a time."""


def replay(
    loaded: Loaded,
    dataset: LeRobotDataset,
    episodes: Sequence[Episode],
    plan: Plan,
    step: Callable[[int], None] = lambda frames: None,
) -> Replay:
    """Run a policy over episodes.

    Args:
        loaded (`Loaded`): The policy.
        dataset (`LeRobotDataset`): What `episodes` are rows of.
        episodes (`Sequence[Episode]`): In this order.
        plan (`Plan`): What to ask.
        step (`Callable`, *optional*): Called with the number of frames done.

    Raises:
        CommandError: The policy fails, or says what is no action.
        NoChunks: It was asked for chunks and has none.
    """
    from lerobot.utils.random_utils import set_seed

    set_seed(plan.seed)
    runner = _Runner(loaded, dataset, plan)
    groups = [episodes[start : start + plan.batch_size] for start in range(0, len(episodes), plan.batch_size)]
    with runner.watching():
        frames = runner.frames(groups)
        for group in groups:
            runner.run(group, frames, step)
    return runner.found


class _Runner:
    """One replay."""

    def __init__(self, loaded: Loaded, dataset: LeRobotDataset, plan: Plan) -> None:
        self.found = Replay()
        self._loaded = loaded
        self._dataset = dataset
        self._plan = plan
        self._device = torch.device(str(loaded.config.device))
        self._plans = 0  # calls of `predict_action_chunk` by the policy itself
        self._is_first = True

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count the chunks that `select_action` plans."""
        policy = self._loaded.policy
        stock = policy.predict_action_chunk
        is_own = "predict_action_chunk" in vars(policy)  # `torch.compile` puts it there

        def counted(*words: Any, **named: Any) -> Any:
            self._plans += 1
            return stock(*words, **named)

        policy.predict_action_chunk = counted
        try:
            yield
        finally:
            if is_own:
                policy.predict_action_chunk = stock
            else:
                del policy.predict_action_chunk

    def run(
        self, group: Sequence[Episode], frames: Iterator[dict[str, Any]], step: Callable[[int], None]
    ) -> None:
        """Episodes side by side; their observations are the next of `frames`."""
        actions: list[Floats] = []
        planned: list[int] = []
        chunks: list[Floats] = []
        self._loaded.policy.reset()
        for pipeline in (self._loaded.preprocessor, self._loaded.postprocessor):
            pipeline.reset()
        for at in self._times(group):
            batch = next(frames)
            if not self._walks:
                self._loaded.policy.reset()
            wants_chunk = self._plan.chunk and at % self._plan.every == 0
            said = self._ask(batch, len(group), wants_chunk=wants_chunk)
            if said.action is not None:
                actions.append(said.action)
            if said.planned:
                planned.append(at)
            if said.chunk is not None:
                chunks.append(said.chunk)
            step(self._done(group, at))
        for place, episode in enumerate(group):
            self._keep(episode, place, actions, planned, chunks)

    @property
    def _walks(self) -> bool:
        """Whether every frame is shown: `select_action` wants it, and so does a memory of observations."""
        # A policy says so itself by the observations that its training takes.
        deltas = getattr(self._loaded.config, "observation_delta_indices", None) or [0]
        return self._plan.select or len(deltas) > 1

    def _times(self, group: Sequence[Episode]) -> range:
        longest = max(len(episode) for episode in group)
        return range(0, longest, 1 if self._walks else self._plan.every)

    def _done(self, group: Sequence[Episode], at: int) -> int:
        """Frames that this step went over, those between two chunks included."""
        stride = 1 if self._walks else self._plan.every
        return sum(min(stride, len(episode) - at) for episode in group if at < len(episode))

    def frames(self, groups: Sequence[Sequence[Episode]]) -> Iterator[dict[str, Any]]:
        """All observations to show, group after group, collated; one loader, whose processes start once."""
        from lerobot.utils.collate import lerobot_collate_fn

        rows = [
            [episode.first + min(at, len(episode) - 1) for episode in group]
            for group in groups
            for at in self._times(group)
        ]
        workers = self._plan.num_workers
        loader = torch.utils.data.DataLoader(
            self._dataset,
            batch_sampler=rows,
            num_workers=workers,
            collate_fn=lerobot_collate_fn,
            # As the stock trainer: video decoders do not survive a fork.
            multiprocessing_context="spawn" if workers else None,
        )
        robot = str(self._dataset.meta.robot_type or "")
        for batch in loader:
            seen = {key: value for key, value in batch.items() if key.startswith(OBSERVATION)}
            yield {**seen, "task": batch["task"], "robot_type": robot}

    def _ask(self, observation: dict[str, Any], size: int, *, wants_chunk: bool) -> _Said:
        """One frame, to one action or a chunk of them or both."""
        mixed = self._device.type == "cuda" and getattr(self._loaded.config, "use_amp", False)
        with torch.inference_mode(), torch.autocast(self._device.type) if mixed else nullcontext():
            try:
                return self._call(observation, size, wants_chunk=wants_chunk)
            except (NoChunks, CommandError):
                raise
            except Exception as error:
                raise CommandError(
                    f"{self._loaded.name} failed on a recorded frame: {describe_error(error)}",
                    "`lerobot-ext inspect-batch` with the same --policy.path and --dataset shows the shapes "
                    "on the way",
                ) from error

    def _call(self, observation: dict[str, Any], size: int, *, wants_chunk: bool) -> _Said:
        started = time.perf_counter()
        raw = {
            key: value.to(self._device) if isinstance(value, torch.Tensor) else value
            for key, value in observation.items()
        }
        batch = self._loaded.preprocessor(raw)
        prepared = time.perf_counter() - started
        said = _Said()
        if self._walks:
            before, started = self._plans, time.perf_counter()
            selected = self._loaded.policy.select_action(dict(batch))
            said.action = self._as_actions(self._loaded.postprocessor(selected), (size,))
            said.planned = self._plans > before
            self._time(self.found.select_s, prepared + time.perf_counter() - started)
            if said.planned:
                self._time(self.found.plan_s, prepared + time.perf_counter() - started)
            self.found.knows_plans |= said.planned
        if wants_chunk:
            started = time.perf_counter()
            said.chunk = self._chunk(batch, size)
            self._time(self.found.chunk_s, prepared + time.perf_counter() - started)
        self._is_first = False
        return said

    def _chunk(self, batch: dict[str, Any], size: int) -> Floats:
        """(B, H, A) in the dataset's units; what the policy draws later does not depend on it."""
        devices = [self._device] if self._device.type == "cuda" else []
        # The pipeline adds an empty action, which policies with queues would look for in those.
        given = {key: value for key, value in batch.items() if key != ACTION}
        with torch.random.fork_rng(devices):
            try:
                chunk = self._loaded.policy.predict_action_chunk(
                    with_stacked_cameras(self._loaded.policy, given)
                )
            except NotImplementedError as error:
                raise NoChunks from error
        if chunk.ndim != 3 or chunk.shape[0] != size:
            raise CommandError(
                f"predict_action_chunk of {self._loaded.name} gave shape {tuple(chunk.shape)}, not "
                f"({size}, horizon, joints)",
                "use --mode select",
            )
        # One at a time, as stock does: a saved pipeline promises no more.
        steps = [self._loaded.postprocessor(chunk[:, place]) for place in range(chunk.shape[1])]
        return self._as_actions(torch.stack(steps, dim=1), (size, chunk.shape[1]))

    def _as_actions(self, said: torch.Tensor, leading: tuple[int, ...]) -> Floats:
        """Actions as numbers, of the dataset's width."""
        width = self._dataset.meta.features[ACTION]["shape"][0]
        if tuple(said.shape) != (*leading, width):
            raise CommandError(
                f"the postprocessor of {self._loaded.name} gave shape {tuple(said.shape)}; the dataset's "
                f"actions want {(*leading, width)}",
                "`lerobot-ext inspect-batch` shows the shapes on the way",
            )
        return said.double().cpu().numpy()  # type: ignore[no-any-return]

    def _time(self, spent: list[float], seconds: float) -> None:
        """Note a call, unless it is the very first: that one also starts libraries up."""
        if not self._is_first:
            spent.append(seconds)

    def _keep(
        self,
        episode: Episode,
        place: int,
        actions: Sequence[Floats],
        planned: Sequence[int],
        chunks: Sequence[Floats],
    ) -> None:
        """Take one episode's part out of a batch."""
        n_frames, found = len(episode), self.found
        if self._plan.select:
            found.selected[episode.index] = np.stack([action[place] for action in actions[:n_frames]])
            self._refuse_nan(found.selected[episode.index], episode, 1)
            found.planned[episode.index] = [frame for frame in planned if frame < n_frames]
        if self._plan.chunk:
            count = len(range(0, n_frames, self._plan.every))
            found.chunks[episode.index] = np.stack([chunk[place] for chunk in chunks[:count]])
            self._refuse_nan(found.chunks[episode.index], episode, self._plan.every)

    def _refuse_nan(self, values: Floats, episode: Episode, stride: int) -> None:
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            raise CommandError(
                f"{self._loaded.name} said NaN or infinity for joint {bad[0][-1]} at frame "
                f"{bad[0][0] * stride} of episode {episode.index} ({len(bad)} such numbers in the episode)",
                f"`lerobot-ext doctor --policy.path={self._loaded.name}` looks for NaN in weights and "
                "statistics",
            )


@dataclass
class _Said:
    """What the policy said to one frame: (B, A), (B, H, A)."""

    action: Floats | None = None
    planned: bool = False
    chunk: Floats | None = None
