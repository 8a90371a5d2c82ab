# SPDX-License-Identifier: Apache-2.0
"""Whether a dataset and a policy fit each other: features by name and shape, statistics, horizons."""

import json
import shlex
import tempfile
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lerobot_ext.doctor.checkpoint_stats import NEEDED, Stats, load_flat
from lerobot_ext.doctor.child import Answer
from lerobot_ext.doctor.dataset_content import recomputing
from lerobot_ext.doctor.findings import Finding, Section, note, problem, problems_first

if TYPE_CHECKING:
    from lerobot_ext.doctor.dataset_content import Content
    from lerobot_ext.repair.survey import Survey

_TIMEOUT_S: Final = 300.0
_FAR: Final = 10.0
"""So many standard deviations between two means are no other day, but another unit or another arm."""
_SHORT: Final = 0.2
"""A few short episodes are padded without harm; with this share of them much of the training is."""
_VISUAL, _ACTION = "VISUAL", "ACTION"


def ask_policy(question: dict[str, Any]) -> Answer:
    """Have LeRobot build the policy's configuration, in a process of its own."""
    from lerobot_ext.doctor.child import ask

    with tempfile.TemporaryDirectory() as folder:
        words = Path(folder) / "question.json"
        words.write_text(json.dumps(question), encoding="utf-8")
        return ask("lerobot_ext.doctor.fit_child", [str(words)], _TIMEOUT_S)


def examine(
    surveyed: "Survey",
    name: str,
    stats: dict[str, Any],
    content: "Content",
    policy: dict[str, Any],
    ask: Any = ask_policy,
) -> Section:
    """The section about how a dataset and a policy fit.

    Args:
        surveyed (`Survey`): The dataset, whose files agree.
        name (`str`): How the user named it.
        stats (`dict`): Its statistics.
        content (`Content`): What its rows hold.
        policy (`dict`): `path` of a checkpoint, with its `revision` if need be, or `type`.
        ask (`Callable`, *optional*): `ask_policy`.
    """
    from lerobot_ext.doctor.checkpoint import find_checkpoint

    folder = find_checkpoint(policy["path"], policy.get("revision")) if policy["path"] else None
    question = {
        "folder": str(folder) if folder else "",
        "type": policy["type"] or "",
        "features": surveyed.info.raw["features"],
    }
    who = policy["path"] or policy["type"]
    told = ask(question)
    subject = f"{name} for {who}"
    if told.failure or told.value["error"]:
        why = told.failure or told.value["error"]
        finding = problem(
            "policy_config",
            str(who),
            f"the policy's configuration cannot be had: {why}",
            "`lerobot-ext doctor --policy.path=…` examines a checkpoint; `lerobot-ext plugins` lists the "
            "types",
        )
        return Section("fit", subject, [finding])
    seen = told.value
    findings = [
        *about_features(seen, surveyed.info.raw["features"], str(who)),
        *_about_modes(seen, stats, trains=folder is None),
        *_about_horizon(seen, surveyed),
    ]
    if folder is not None:
        findings += _about_distance(folder, stats)
    facts = {"policy": str(who), "dataset": name, "horizon": _horizon(seen)}
    fixes = recomputing(surveyed, [f.subject for f in findings if f.fix == "recompute_stats"])
    return Section("fit", subject, problems_first(findings), facts, list(_lines(seen)), fixes=fixes)


def _lines(seen: dict[str, Any]) -> Iterator[str]:
    inputs = ", ".join(f"{key} {feature['shape']}" for key, feature in seen["input_features"].items())
    yield f"the policy takes {inputs or 'what the dataset has'}"


# --- features


def about_features(seen: dict[str, Any], features: dict[str, Any], who: str) -> list[Finding]:
    """What does not fit between the features of a dataset and those of a policy.

    Args:
        seen (`dict`): The policy's side, see `fit_child.look`.
        features (`dict`): The dataset's, as in its `info.json`.
        who (`str`): How the user named the policy.
    """
    return [*_about_inputs(seen), *_about_actions(seen, features), *_about_rejection(seen, who)]


def _about_inputs(seen: dict[str, Any]) -> Iterator[Finding]:
    wanted, have = seen["input_features"], seen["dataset_features"]
    spare = [key for key in have if key not in wanted and have[key]["type"] != _ACTION]
    cameras_wanted = {key for key, feature in wanted.items() if feature["type"] == _VISUAL}
    cameras_have = {key for key, feature in have.items() if feature["type"] == _VISUAL}
    for key, feature in wanted.items():
        if key not in have:
            # LeRobot takes a dataset whose cameras are a part of the policy's.
            lenient = feature["type"] == _VISUAL and cameras_have and cameras_have <= cameras_wanted
            yield _absent(key, feature, spare, have, lenient=bool(lenient))
        elif tuple(have[key]["shape"]) != tuple(feature["shape"]):
            yield from _about_shape(key, feature, have[key])
    unused = sorted(cameras_have - cameras_wanted)
    if unused and cameras_wanted <= cameras_have:
        yield note(
            "feature_unused",
            unused[0],
            f"the policy does not look at {', '.join(unused)}",
            "nothing, if that is meant; leaving the camera out saves decoding",
        )


def _absent(
    key: str, feature: dict[str, Any], spare: list[str], have: dict[str, Any], *, lenient: bool
) -> Finding:
    same_kind = [name for name in spare if have[name]["type"] == feature["type"]]
    near = get_close_matches(key, same_kind, n=1, cutoff=0.3) or same_kind[:1]
    rename = json.dumps({near[0]: key}) if near else ""
    return (note if lenient else problem)(
        "feature_missing",
        key,
        f"the policy takes it, the dataset has {', '.join(spare) or 'nothing else'} instead",
        f"if it is the same by another name: `--rename_map={shlex.quote(rename)}`; else record it, or train "
        "without it"
        if rename
        else "record with it, or train a policy without it",
    )


def _about_shape(key: str, feature: dict[str, Any], mine: dict[str, Any]) -> Iterator[Finding]:
    if feature["type"] == _VISUAL:
        if feature["shape"][0] != mine["shape"][0]:
            yield problem(
                "feature_shape",
                key,
                f"the policy takes {feature['shape'][0]} channels, the dataset has {mine['shape'][0]}",
                "another camera or a depth map: rename the right one with `--rename_map`",
            )
        else:
            yield note(
                "feature_shape",
                key,
                f"the policy was made for {feature['shape']}, the dataset has {mine['shape']}",
                "a policy that resizes takes both; else set width and height of the camera as in the "
                "training",
            )
        return
    yield problem(
        "feature_shape",
        key,
        f"the policy takes {feature['shape']}, the dataset has {mine['shape']}",
        "another robot, or other joints: use the checkpoint of this robot, or train anew",
    )


def _about_actions(seen: dict[str, Any], features: dict[str, Any]) -> Iterator[Finding]:
    for key, feature in seen["output_features"].items():
        mine = seen["dataset_features"].get(key)
        if mine is None:
            yield _absent(key, feature, [], seen["dataset_features"], lenient=False)
        elif tuple(mine["shape"]) != tuple(feature["shape"]):
            yield from _about_shape(key, feature, mine)
    if seen["folder"] and not seen["output_features"]:
        return
    names, mine_names = seen["action_names"], (features.get("action") or {}).get("names")
    if names and isinstance(mine_names, list) and list(names) != mine_names and len(names) == len(mine_names):
        yield problem(
            "action_names",
            "action",
            f"the policy's actions are {', '.join(names)}, the dataset's {', '.join(mine_names)}",
            "the same joints in another order would be sent to the wrong motors: train anew, or record with "
            "the "
            "robot of the training",
        )


def _about_rejection(seen: dict[str, Any], who: str) -> Iterator[Finding]:
    if seen["rejects"]:
        yield problem(
            "policy_rejects",
            who,
            f"the policy refuses these features: {seen['rejects']}",
            "record what it asks for, or choose its options (`lerobot-train --policy.type=… --help`)",
        )


# --- statistics and time


def _about_modes(seen: dict[str, Any], stats: dict[str, Any], *, trains: bool) -> Iterator[Finding]:
    """Statistics that normalising takes; a checkpoint brings its own."""
    if not trains:
        return
    features = {**seen["input_features"], **seen["output_features"]}
    for key, feature in features.items():
        mode = seen["modes"].get(feature["type"], "IDENTITY")
        lacking = [name for name in NEEDED.get(mode, ()) if name not in (stats.get(key) or {})]
        if lacking and lacking[0].startswith("q"):
            yield problem(
                "quantiles_missing",
                key,
                f"the policy normalises by {mode}, the dataset's statistics lack {' and '.join(lacking)}",
                "`--fix` computes them; LeRobot's augment_dataset_quantile_stats does too, and then pushes "
                "the "
                "dataset to the Hub",
                fix="recompute_stats",
            )


def _horizon(seen: dict[str, Any]) -> int:
    """Frames between the first and the last that one sample takes."""
    indices = [int(index) for group in seen["indices"].values() for index in group or [0]]
    return max(indices) - min(indices) + 1


def _about_horizon(seen: dict[str, Any], surveyed: "Survey") -> Iterator[Finding]:
    horizon, shortest = _horizon(seen), min(surveyed.kept, key=lambda episode: episode.length)
    short = sum(episode.length < horizon for episode in surveyed.kept)
    if short > _SHORT * len(surveyed.kept):
        fps = surveyed.info.raw["fps"]
        yield note(
            "horizon",
            f"episode {shortest.index}",
            f"a sample takes {horizon} frames ({horizon / fps:.1f} s at {fps} fps), and {short} of "
            f"{len(surveyed.kept)} episodes are shorter, this one {shortest.length} frames: the rest is "
            "padding",
            "lower the policy's chunk or horizon, or record longer episodes",
        )


def _about_distance(folder: Path, stats: dict[str, Any]) -> Iterator[Finding]:
    """The same numbers in other units, or of another calibration."""
    for key, theirs in _checkpoint_stats(folder).items():
        mine = stats.get(key)
        if not {"mean", "std"} <= set(theirs) or not isinstance(mine, dict) or "mean" not in mine:
            continue
        if "images" in key:
            continue  # often those of ImageNet, whatever the pictures are
        mean, std = (
            np.asarray(theirs["mean"], float).reshape(-1),
            np.asarray(theirs["std"], float).reshape(-1),
        )
        other = np.asarray(mine["mean"], float).reshape(-1)
        if other.shape != mean.shape:
            continue  # reported as a shape
        off = np.abs(other - mean) / np.maximum(std, 1e-6)
        if (off > _FAR).any():
            place = int(off.argmax())
            yield note(
                "stats_far",
                key,
                f"the dataset's mean in dimension {place} is {other[place]:.4g}, the policy was trained "
                "around "
                f"{mean[place]:.4g} ± {std[place]:.4g}",
                "other units (degrees, ticks, -100 to 100) or another calibration: record in those of the "
                "training",
            )


def _checkpoint_stats(folder: Path) -> Stats:
    from safetensors import SafetensorError

    for path in sorted(folder.glob("policy_preprocessor_step_*normalizer_processor.safetensors")):
        try:
            return load_flat(path)
        except (OSError, SafetensorError):
            return {}  # the section about the checkpoint reports it
    return {}
