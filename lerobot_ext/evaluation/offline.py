# SPDX-License-Identifier: Apache-2.0
"""Open-loop evaluation: policies and baselines on the same recorded episodes, summed up for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lerobot_ext.evaluation import baselines as simple
from lerobot_ext.evaluation.errors import Breakdown, EpisodeErrors, Floats, break_down
from lerobot_ext.evaluation.plain import plain
from lerobot_ext.evaluation.smoothness import Smoothness, smoothness

if TYPE_CHECKING:
    from lerobot_ext.evaluation.episodes import Episode, Recordings
    from lerobot_ext.evaluation.replay import Plan, Replay

SELECT: Final = "select"
CHUNK: Final = "chunk"


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a call, from the observation to the action; what the median and one of 20 exceed.

    Args:
        p50_ms (`float`), p95_ms (`float`): Percentiles.
        calls (`int`): Calls measured.
        batch_size (`int`): Episodes side by side in a call.
    """

    p50_ms: float
    p95_ms: float
    calls: int
    batch_size: int


@dataclass(frozen=True)
class Mode:
    """A policy's figures in one mode.

    Args:
        errors (`Breakdown`): `whole` and `by_task` are over the first `Evaluation.horizon` steps.
        smoothness (`Smoothness`, *optional*): In chunk mode of chunks put together as if each was executed
            for `every` steps; `None` where a chunk is shorter than that.
        latency (`dict[str, Latency]`): By kind of call.
    """

    errors: Breakdown
    smoothness: Smoothness | None
    latency: dict[str, Latency]


@dataclass
class PolicyResult:
    """All about one policy.

    Args:
        name (`str`): Short, distinct among the policies.
        path (`Path`): Of the checkpoint.
        type (`str`), device (`str`): Of the policy.
        replay (`Replay`): What it said.
        modes (`dict[str, Mode]`): By `select` and `chunk`.
        notes (`list[str]`): What is worth knowing.
    """

    name: str
    path: Path
    type: str
    device: str
    replay: Replay
    modes: dict[str, Mode] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class Evaluation:
    """What came of it.

    Args:
        recordings (`Recordings`): The episodes.
        plan (`Plan`): What was asked.
        policies (`list[PolicyResult]`): In the user's order.
        baselines (`dict[str, dict[str, Breakdown]]`): By mode and name.
        horizon (`int`): Chunks are compared over so many steps, those of the shortest; 0 without chunks.
    """

    recordings: Recordings
    plan: Plan
    policies: list[PolicyResult]
    baselines: dict[str, dict[str, Breakdown]] = field(default_factory=dict)
    horizon: int = 0

    def predictors(self, mode: str) -> dict[str, Breakdown]:
        """Errors in a mode by name, policies first."""
        mine = {policy.name: policy.modes[mode].errors for policy in self.policies if mode in policy.modes}
        return {**mine, **self.baselines.get(mode, {})}

    @property
    def modes(self) -> list[str]:
        """Those that at least one policy has."""
        return [mode for mode in (SELECT, CHUNK) if any(mode in policy.modes for policy in self.policies)]


def evaluate(recordings: Recordings, plan: Plan, policies: list[PolicyResult]) -> Evaluation:
    """Sum up what policies said.

    Args:
        recordings (`Recordings`): The episodes that were replayed.
        plan (`Plan`): What was asked.
        policies (`list[PolicyResult]`): With their `replay`; their `modes` are filled in.
    """
    lengths = [
        next(iter(policy.replay.chunks.values())).shape[1] for policy in policies if policy.replay.chunks
    ]
    found = Evaluation(recordings, plan, policies, horizon=min(lengths, default=0))
    for policy in policies:
        if policy.replay.selected:
            policy.modes[SELECT] = _select_mode(policy.replay, recordings, plan)
        if policy.replay.chunks:
            policy.modes[CHUNK] = _chunk_mode(policy.replay, recordings, plan, found.horizon)
    episodes = recordings.episodes
    for name, baseline in simple.baselines(recordings).items():
        if SELECT in found.modes:
            errors = simple.errors_of_actions(episodes, baseline)
            found.baselines.setdefault(SELECT, {})[name] = break_down(errors)
        if CHUNK in found.modes:
            errors = simple.errors_of_constant_chunks(episodes, baseline, plan.every, max(lengths))
            found.baselines.setdefault(CHUNK, {})[name] = _break_down_chunks(errors, found.horizon)
    return found


def _select_mode(said: Replay, recordings: Recordings, plan: Plan) -> Mode:
    episodes = recordings.episodes
    actions = [said.selected[episode.index] for episode in episodes]
    even = None
    if said.knows_plans:
        begins = [said.planned[episode.index] for episode in episodes]
        even = smoothness(actions, [episode.actions for episode in episodes], begins, recordings.fps)
    return Mode(
        errors=break_down(simple.errors_of_actions(episodes, said.selected)),
        smoothness=even,
        latency=_latencies({"select_action": said.select_s, "select_action, planning": said.plan_s}, plan),
    )


def _chunk_mode(said: Replay, recordings: Recordings, plan: Plan, horizon: int) -> Mode:
    episodes = recordings.episodes
    even = None
    if next(iter(said.chunks.values())).shape[1] >= plan.every:
        stitched = [stitch(said.chunks[episode.index], episode, plan.every) for episode in episodes]
        begins = [range(0, len(episode), plan.every) for episode in episodes]
        even = smoothness(stitched, [episode.actions for episode in episodes], begins, recordings.fps)
    return Mode(
        errors=_break_down_chunks(simple.errors_of_chunks(episodes, said.chunks, plan.every), horizon),
        smoothness=even,
        latency=_latencies({"predict_action_chunk": said.chunk_s}, plan),
    )


def stitch(chunks: Floats, episode: Episode, every: int) -> Floats:
    """(T, A): the first `every` actions of each chunk, one after another, as a robot would execute them.

    Args:
        chunks (`Floats`): (K, H, A) with H >= `every`.
        episode (`Episode`): For its length.
        every (`int`): Frames between two chunks.
    """
    return chunks[:, :every].reshape(-1, chunks.shape[2])[: len(episode)]


def _break_down_chunks(errors: Sequence[EpisodeErrors], horizon: int) -> Breakdown:
    """All steps by horizon, but the whole and the tasks over what every policy predicts."""
    shared = break_down([EpisodeErrors(episode.values[:, :horizon], episode.tasks) for episode in errors])
    return Breakdown(shared.whole, break_down(errors).by_horizon, shared.by_task)


def _latencies(spent: dict[str, list[float]], plan: Plan) -> dict[str, Latency]:
    return {
        name: Latency(
            p50_ms=1e3 * float(np.percentile(seconds, 50)),
            p95_ms=1e3 * float(np.percentile(seconds, 95)),
            calls=len(seconds),
            batch_size=plan.batch_size,
        )
        for name, seconds in spent.items()
        if seconds
    }


def short_names(paths: Sequence[str]) -> list[str]:
    """Names that tell checkpoints apart: `lift/020000` for `lift/checkpoints/020000/pretrained_model`."""
    parts = [
        [part for part in Path(path).parts if part not in ("pretrained_model", "checkpoints", "/")]
        for path in paths
    ]
    # The folder of a step says nothing without that of its run.
    least = 2 if any("checkpoints" in Path(path).parts for path in paths) else 1
    for length in (least, 2, 3):
        names = ["/".join(part[-length:]) for part in parts]
        if all(names) and len(set(names)) == len(names):
            return names
    return list(paths)


def as_json(found: Evaluation) -> dict[str, Any]:
    """Everything but what the policies said frame by frame, as plain values; NaN becomes `None`."""
    recordings, plan = found.recordings, found.plan
    return {
        "episodes": [episode.index for episode in recordings.episodes],
        "frames": recordings.n_frames,
        "fps": recordings.fps,
        "joints": recordings.joints,
        "seed": plan.seed,
        "every": plan.every if plan.chunk else None,
        "compared_steps": found.horizon or None,
        "policies": [
            {
                "name": policy.name,
                "path": str(policy.path),
                "type": policy.type,
                "device": policy.device,
                "notes": policy.notes,
                "modes": {name: plain(mode) for name, mode in policy.modes.items()},
            }
            for policy in found.policies
        ],
        "baselines": plain(found.baselines),
    }
