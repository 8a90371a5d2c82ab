# SPDX-License-Identifier: Apache-2.0
"""Whether a checkpoint's statistics cover what it normalises: LeRobot skips missing ones in silence."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lerobot_ext.doctor.findings import Finding, note, problem

if TYPE_CHECKING:
    import numpy as np

    from lerobot_ext.doctor.checkpoint import Checkpoint

NEEDED: Final = {
    "MEAN_STD": ("mean", "std"),
    "MIN_MAX": ("min", "max"),
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
    "IDENTITY": (),
}
_NORMALIZERS: Final = ("normalizer_processor", "unnormalizer_processor")
_CLASSES: Final = ("NormalizerProcessorStep", "UnnormalizerProcessorStep")

Stats = Mapping[str, Mapping[str, "np.ndarray[Any, Any]"]]


@dataclass(frozen=True)
class Normalizer:
    """One step of a pipeline that normalises.

    Args:
        pipeline (`str`): `pre` or `post`.
        file (`str`): Its state file.
        features (`dict`): By name, `type` and `shape`.
        modes (`dict[str, str]`): Mode by type of feature.
        stats (`dict`): By feature, then by statistic.
    """

    pipeline: str
    file: str
    features: dict[str, dict[str, Any]]
    modes: dict[str, str]
    stats: Stats

    def needs(self, feature: str) -> tuple[str, ...]:
        """Statistics that it uses for a feature."""
        return NEEDED.get(str(self.modes.get(self.features[feature]["type"], "IDENTITY")), ())


def load_flat(path: Path) -> Stats:
    """Statistics of a state file, `feature.statistic` by LeRobot's naming.

    Raises:
        OSError, SafetensorError: It cannot be read.
    """
    from safetensors.numpy import load_file

    stats: dict[str, dict[str, Any]] = {}
    for key, value in load_file(path).items():
        feature, _, statistic = key.rpartition(".")
        stats.setdefault(feature, {})[statistic] = value
    return stats


def normalizers(found: "Checkpoint") -> Iterator[Normalizer]:
    """The normalising steps whose configuration and state can be read."""
    from safetensors import SafetensorError

    for pipeline in found.pipelines:
        for step in found.steps(pipeline):
            named = step.get("registry_name") in _NORMALIZERS
            if not (named or str(step.get("class", "")).rpartition(".")[2] in _CLASSES):
                continue
            config = step.get("config") or {}
            file = str(step.get("state_file") or "")
            try:
                stats = load_flat(found.folder / file) if file else {}
            except (OSError, SafetensorError):
                continue  # reported with the state files
            yield Normalizer(
                pipeline, file, config.get("features") or {}, config.get("norm_map") or {}, stats
            )


def about_stats(found: "Checkpoint") -> Iterator[Finding]:
    """Everything about the statistics."""
    steps = list(normalizers(found))
    for step in steps:
        for feature in step.features:
            yield from _about_feature(step, feature)
    yield from _about_config(found, steps)
    yield from _about_both(steps)


def _about_feature(step: Normalizer, feature: str) -> Iterator[Finding]:
    needed = step.needs(feature)
    if not needed:
        return
    mode = step.modes[step.features[feature]["type"]]
    if feature not in step.stats:
        yield _absent(step, feature, mode)
        return
    stats = step.stats[feature]
    lacking = [name for name in needed if name not in stats]
    if lacking:
        yield problem(
            "stats_missing",
            feature,
            f"{step.file}: {mode} needs {' and '.join(needed)}, and {' and '.join(lacking)} is not there",
            "train with a dataset whose statistics are complete: `lerobot-ext doctor --dataset.repo_id=… "
            "--fix`",
        )
        return
    yield from _about_values(step, feature, mode)


def _absent(step: Normalizer, feature: str, mode: str) -> Finding:
    """The trap: LeRobot then leaves the values as they are."""
    twin = renamed(feature, step.stats)
    if twin:
        return problem(
            "stats_name",
            feature,
            f"{step.file} has its statistics as {twin!r}: a conversion took the `_` for a dot, and the "
            "policy "
            "gets values that are not normalised",
            "`--fix` writes the checkpoint with the right names into a new folder",
            fix="rename_stats",
        )
    return problem(
        "stats_missing",
        feature,
        f"{step.file or 'the pipeline'} has no statistics of it, and {mode} is asked for: LeRobot passes the "
        f"values on as they are ({', '.join(step.stats) or 'none'} have some)",
        "the policy was trained like that, or the statistics were lost: compare with the checkpoint of the "
        "training; to train anew, `lerobot-ext doctor --dataset.repo_id=… --fix` completes the dataset's",
    )


def renamed(feature: str, stats: Stats) -> str:
    """The name under which a feature's statistics are when `_` and `.` were mixed up; empty if not so."""
    plain = feature.replace("_", ".")
    return next((name for name in stats if name != feature and name.replace("_", ".") == plain), "")


def _about_values(step: Normalizer, feature: str, mode: str) -> Iterator[Finding]:
    import numpy as np

    stats, shape = step.stats[feature], tuple(step.features[feature]["shape"])
    low, high = (np.asarray(stats[name], dtype=float) for name in step.needs(feature))
    remedy = "statistics and feature are of two datasets: train again, or copy the file of the training"
    for name in step.needs(feature):
        if not _fits(np.shape(stats[name]), shape, step.features[feature]["type"]):
            yield problem(
                "stats_shape",
                feature,
                f"{step.file}: its {name} has shape {list(np.shape(stats[name]))}, the feature {list(shape)}",
                remedy,
            )
            return
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        yield problem(
            "stats_value",
            feature,
            f"{step.file}: its {' or '.join(step.needs(feature))} is NaN or infinite",
            "the dataset holds such values: `lerobot-ext doctor --dataset.repo_id=…` says where",
        )
        return
    yield from _about_spread(step, feature, mode, low, high)


def _fits(stat: tuple[int, ...], shape: tuple[int, ...], kind: str) -> bool:
    """Whether a statistic can be applied: per channel for pictures, else per value or one for all."""
    if kind == "VISUAL":
        return stat in (shape[:1], (*shape[:1], 1, 1), (1, 1, 1), (1,))
    return stat in (shape, shape[-1:], (1,))


def _about_spread(step: Normalizer, feature: str, mode: str, low: Any, high: Any) -> Iterator[Finding]:
    """A spread of 0 makes the smallest deviation a huge number; for an action it only fixes the value."""
    import numpy as np

    spread = high if mode == "MEAN_STD" else high - low
    names = step.needs(feature)
    if (spread < 0).any():
        what = "std is negative" if mode == "MEAN_STD" else f"{names[0]} is above {names[1]}"
        yield problem(
            "stats_order",
            feature,
            f"{step.file}: {what} in {_places(spread < 0)}",
            "recompute the dataset's statistics (`lerobot-ext doctor --dataset.repo_id=… --fix`) and train "
            "again",
        )
    still = np.asarray(spread == 0)
    if still.any():
        is_action = step.features[feature]["type"] == "ACTION"
        never = "it never changed in the training data"
        # One such value among others is common, such as a target's height; all of them are a dead sensor.
        yield (problem if still.all() and not is_action else note)(
            "stats_constant",
            feature,
            f"{step.file}: {'std is 0' if mode == 'MEAN_STD' else f'{names[0]} equals {names[1]}'} in "
            f"{_places(still)}: {never}"
            + (
                ", and the policy never changes it" if is_action else ", and a deviation is multiplied by 1e8"
            ),
            "nothing where it never changes in use either (the height of a goal); else leave it out of the "
            "feature, or record data in which it changes",
        )


def _places(mask: Any) -> str:
    import numpy as np

    flat = np.flatnonzero(np.asarray(mask).reshape(-1)).tolist()
    shown = ", ".join(map(str, flat[:6])) + (", …" if len(flat) > 6 else "")
    return f"dimension{'s' if len(flat) > 1 else ''} {shown}"


def _about_config(found: "Checkpoint", steps: list[Normalizer]) -> Iterator[Finding]:
    """Features that the policy's configuration normalises and the pipeline does not know."""
    modes = found.config.get("normalization_mapping") or {}
    known = {pipeline: set[str]() for pipeline in ("pre", "post")}
    for step in steps:
        known[step.pipeline] |= set(step.features)
    for pipeline, group in (("pre", "input_features"), ("post", "output_features")):
        if not any(step.pipeline == pipeline for step in steps):
            continue  # reported as a missing step
        for name, feature in (found.config.get(group) or {}).items():
            if NEEDED.get(str(modes.get(feature["type"], "IDENTITY")), ()) and name not in known[pipeline]:
                yield problem(
                    "features_differ",
                    name,
                    f"config.json normalises it, the {pipeline}processor does not know it: LeRobot passes "
                    "it on "
                    f"as it is ({', '.join(sorted(known[pipeline])) or 'no feature'} are known)",
                    "config.json and the processors are of two trainings: copy all from one checkpoint",
                )


def _about_both(steps: list[Normalizer]) -> Iterator[Finding]:
    """The same action statistics before and after, or the policy's actions come out scaled wrongly."""
    import numpy as np

    before = next((s for s in steps if s.pipeline == "pre" and "action" in s.stats), None)
    after = next((s for s in steps if s.pipeline == "post" and "action" in s.stats), None)
    if before is None or after is None or "action" not in before.features or "action" not in after.features:
        return
    for name in after.needs("action"):
        one, two = before.stats["action"].get(name), after.stats["action"].get(name)
        if (
            one is not None
            and two is not None
            and not (
                np.shape(one) == np.shape(two) and np.allclose(one, two, rtol=1e-4, atol=1e-6, equal_nan=True)
            )
        ):
            yield problem(
                "action_stats_differ",
                "action",
                f"its {name} in {before.file} and in {after.file} differ: actions come out scaled otherwise "
                "than they were learned",
                "copy both files from one checkpoint",
            )
            return
