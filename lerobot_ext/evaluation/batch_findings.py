# SPDX-License-Identifier: Apache-2.0
"""What is wrong, or worth knowing, about a batch and the policy that is to take it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import numpy as np

from lerobot_ext.doctor.findings import Finding, note, problem, problems_first
from lerobot_ext.evaluation.batch_session import COLLATED, FINAL, TRANSITION, Seen
from lerobot_ext.evaluation.batch_stages import Stage

_FAR: Final = 10.0
"""Normalised numbers so large are ten standard deviations out."""
_BEYOND: Final = 1.05
"""A little more than the range of MIN_MAX, for rounding and for statistics of a part of the data."""
_MOSTLY: Final = 0.5
_OBSERVATION: Final = "observation."
_ALWAYS_DROPPED: Final = ("frame_index",)


def findings(seen: Seen) -> list[Finding]:
    """Everything worth a line, problems first."""
    stages = {entry.name: entry for entry in seen.stages}
    return problems_first(
        [
            *_failure(seen),
            *_not_finite(seen.stages),
            *_dropped(seen.stages),
            *_pictures(seen),
            *_padding(seen.stages),
            *(_inputs(seen, stages[FINAL]) if FINAL in stages else ()),
            *(_ranges(seen, stages[FINAL]) if FINAL in stages else ()),
            *(_constant(seen) if seen.config is not None else ()),
            *_outputs(seen),
        ]
    )


def _failure(seen: Seen) -> Iterator[Finding]:
    if not seen.error:
        return
    inside = seen.forward.trace.failed_in if seen.forward else ""
    where = f"{seen.at}, in {inside}" if inside else seen.at
    last = seen.stages[-1].name if seen.stages else ""
    remedies = {
        "opening the dataset": "`lerobot-ext doctor --dataset.repo_id=…` says what is wrong with it",
        "making the policy": "`lerobot-ext doctor --dataset.repo_id=… --policy.path=…` compares features",
    }
    yield problem(
        "failed",
        where,
        seen.error,
        remedies.get(seen.at)
        or (
            f"compare what it takes with the tables above; the last one, {last!r}, is what it got"
            if last
            else ""
        )
        or "`lerobot-train --help` explains its options",
    )


def _not_finite(stages: list[Stage]) -> Iterator[Finding]:
    """NaN, where it comes up first."""
    known: set[str] = set()
    for place, entry in enumerate(stages):
        for key, value in entry.values.items():
            if not value.bad or key in known:
                continue
            known.add(key)
            yield problem(
                "not_finite",
                key,
                f"{value.bad} of its numbers are NaN or infinite, first seen in: {entry.name}",
                "the step divides by zero or takes a root or logarithm of what it should not: look at the "
                "statistics of this feature"
                if place and entry.name not in (COLLATED, TRANSITION)
                else "`lerobot-ext doctor --dataset.repo_id=…` names the episodes",
            )


def _dropped(stages: list[Stage]) -> Iterator[Finding]:
    """Columns of the dataset that LeRobot leaves out before the first step."""
    for before, after in pairwise(stages):
        if before.name != COLLATED or after.name != TRANSITION:
            continue
        gone = [key for key in before.values if key not in after.values and key not in _ALWAYS_DROPPED]
        if gone:
            yield note(
                "column_dropped",
                gone[0],
                f"LeRobot hands no step and no policy {', '.join(gone)}: it keeps observation.*, action, "
                "next.reward, next.done, task, indices and *_is_pad",
                f"a policy that needs it finds it under a name like {_OBSERVATION}{gone[0].split('.')[-1]}",
            )


def _pictures(seen: Seen) -> Iterator[Finding]:
    """Pictures are to be in [0, 1] when the first step gets them."""
    first = next((entry for entry in seen.stages if entry.name == TRANSITION), None)
    for key in seen.cameras:
        value = first.values.get(key) if first else None
        if value is None or key in seen.depth_cameras or value.low is None or value.high is None:
            continue
        if value.low < 0 or value.high > 1 + 1e-3:
            yield problem(
                "picture_range",
                key,
                f"its pixels lie between {value.low:.4g} and {value.high:.4g}, not between 0 and 1",
                "record it as uint8 pictures of three channels, or mark the feature as a depth map",
            )


def _padding(stages: list[Stage]) -> Iterator[Finding]:
    """Windows that mostly lie outside their episodes."""
    batch = next((entry for entry in stages if entry.name == COLLATED), None)
    for key, value in batch.values.items() if batch else ():
        if key.endswith("_is_pad") and value.mean is not None and value.mean > _MOSTLY:
            yield note(
                "padding",
                key.removesuffix("_is_pad"),
                f"{100 * value.mean:.0f} % of its steps in this batch are padding: the policy's window is "
                "longer than what is left of the episodes",
                "lower the policy's chunk or horizon, or record longer episodes",
            )


def _inputs(seen: Seen, final: Stage) -> Iterator[Finding]:
    """Features that the policy misses, does not use, or takes in another shape."""
    wanted = seen.config.input_features or {}
    there = [key for key in final.values if key.startswith(_OBSERVATION) and not key.endswith("_is_pad")]
    for key, feature in wanted.items():
        if key not in final.values:
            yield problem(
                "feature_missing",
                key,
                f"the policy takes it; its batch has {', '.join(there) or 'no observation'}",
                "rename one with `--rename_map`, or record it",
            )
        else:
            yield from _shape(seen, final, key, tuple(feature.shape))
    for key in there:
        if key not in wanted:
            yield note(
                "feature_unused",
                key,
                "it is in the batch, but not among the policy's input_features",
                "nothing, if that is meant; leaving it out of the dataset saves reading it",
            )


def _shape(seen: Seen, final: Stage, key: str, wanted: tuple[int, ...]) -> Iterator[Finding]:
    shape = final.values[key].shape
    if shape is None or shape[-len(wanted) :] == wanted:
        return
    since = _since(seen.stages, key, shape[-len(wanted) :])
    is_picture = key in seen.cameras
    if is_picture and shape[-3] == wanted[-3]:
        yield note(
            "feature_shape",
            key,
            f"the policy was configured for {wanted} and gets {shape[-3:]}, so since: {since}",
            "a policy that resizes takes both",
        )
        return
    yield problem(
        "feature_shape",
        key,
        f"the policy was configured for {wanted} and gets {shape[-len(wanted) :]}, so since: {since}",
        "make the step give the policy's shape, or make the policy for this one",
    )


def _since(stages: list[Stage], key: str, shape: tuple[int, ...]) -> str:
    """The stage from which on an entry had this shape."""
    since = ""
    for entry in stages:
        value = entry.values.get(key)
        fits = value is not None and value.shape is not None and value.shape[-len(shape) :] == shape
        since = (since or entry.name) if fits else ""
    return since


def _ranges(seen: Seen, final: Stage) -> Iterator[Finding]:
    """Normalised numbers that are far out."""
    features = {**(seen.config.input_features or {}), **(seen.config.output_features or {})}
    for key, feature in features.items():
        value, mode = final.values.get(key), _mode(seen.config, feature)
        if value is None or value.low is None or value.high is None:
            continue
        worst = max(abs(value.low), abs(value.high))
        if not mode and worst > _FAR and key not in seen.cameras:
            yield _left_out(seen.config, key, feature, f"{value.low:.4g} and {value.high:.4g}")
        elif mode not in ("", "IDENTITY") and worst > (_BEYOND if mode == "MIN_MAX" else _FAR):
            yield note(
                "normalised_far",
                key,
                f"after normalising by {mode} its numbers lie between {value.low:.4g} and {value.high:.4g}",
                "its statistics are of other data or other units, or it hardly moved while they were taken: "
                "`lerobot-ext doctor --dataset.repo_id=…` compares them with the frames",
            )


def _left_out(config: Any, key: str, feature: Any, between: str) -> Finding:
    """A kind of feature that the policy's configuration forgets, as that of ACT does `environment_state`."""
    kind = _text(feature.type)
    mapping = {_text(name): _text(mode) for name, mode in config.normalization_mapping.items()}
    wanted = json.dumps({**mapping, kind: "MEAN_STD"})
    return note(
        "not_normalised",
        key,
        f"it goes into the policy as it is, between {between}: normalization_mapping says nothing about "
        f"{kind}",
        f"--policy.normalization_mapping='{wanted}' in the training",
    )


def _mode(config: Any, feature: Any) -> str:
    """How a feature is normalised; empty where the configuration does not say."""
    mapping = getattr(config, "normalization_mapping", None) or {}
    return {_text(kind): _text(mode) for kind, mode in mapping.items()}.get(_text(feature.type), "")


def _text(value: Any) -> str:
    """The word of an enumeration's member."""
    return str(getattr(value, "value", value))


def _constant(seen: Seen) -> Iterator[Finding]:
    """Dimensions that never move, which normalising makes useless or huge."""
    features = {**(seen.config.input_features or {}), **(seen.config.output_features or {})}
    for key, feature in features.items():
        stats = seen.stats.get(key) or {}
        if (
            key in seen.cameras
            or "min" not in stats
            or "max" not in stats
            or _mode(seen.config, feature) in ("", "IDENTITY")
        ):
            continue
        low, high = (np.asarray(stats[name], dtype=float).reshape(-1) for name in ("min", "max"))
        still = np.flatnonzero(low == high)
        if len(still):
            names = _dimension_names(seen.features.get(key, {}), still)
            yield note(
                "constant",
                key,
                f"{', '.join(names)} never move{'s' if len(names) == 1 else ''} in the whole dataset",
                "a joint that is not used is fine; else a stuck sensor, or a column filled with a default",
            )


def _dimension_names(feature: dict[str, Any], places: Any) -> list[str]:
    names = feature.get("names")
    known = names if isinstance(names, list) else []
    return [str(known[place]) if place < len(known) else f"dimension {place}" for place in places]


def _outputs(seen: Seen) -> Iterator[Finding]:
    """What a forward pass gave that a training cannot use."""
    forward = seen.forward
    if forward is None or seen.error:
        return
    for call in forward.trace.calls.values():
        clean = not any(value.bad for value in call.inputs)
        if clean and any(value.bad for value in call.outputs):
            yield problem(
                "not_finite",
                call.name,
                f"{call.type} was given finite numbers and gave NaN or infinity",
                "its weights have diverged, or its dtype overflows: try --policy.use_amp=false",
            )
    if forward.loss is None or not np.isfinite(forward.loss):
        yield problem(
            "loss",
            "policy.forward",
            f"the loss is {forward.loss}, no finite number",
            "the table of modules shows where NaN comes up first",
        )
