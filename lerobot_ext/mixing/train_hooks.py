# SPDX-License-Identifier: Apache-2.0
"""Lets `lerobot-train --dataset.repo_id=mix.yaml` train on a mix: the one place where LeRobot is changed.

Names that the training script looks up are replaced:

- `make_train_eval_datasets`, `make_dataset` answer with a `MixedDataset` where the dataset is a spec file;
- `EpisodeAwareSampler` is ours where the dataset is a mix (it hands over its `Draws`);
- `make_sample_weighter` knows one more type, `loss_weight`.

The configuration of a training on a mix saves the resolved spec wherever it saves itself: beside each
checkpoint's policy and into each push. A resumed run reads it there: it goes on with the mix it had, whatever
became of the file.

Any other dataset goes to LeRobot's own code, untouched.
"""

import functools
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from lerobot.configs import parser
from lerobot.datasets import factory
from lerobot.transforms import ImageTransforms
from lerobot.utils import sample_weighting
from lerobot.utils.constants import IMAGENET_STATS

from lerobot_ext.mixing import loss_weights, provenance, sampler
from lerobot_ext.mixing.dataset import MixedDataset
from lerobot_ext.mixing.metadata import MixedMetadata
from lerobot_ext.mixing.spec import is_spec_path, load_spec
from lerobot_ext.mixing.survey import Mix, survey
from lerobot_ext.patches import Patch

logger = logging.getLogger(__name__)

_patch = Patch("datasets of lerobot-train", lost="a dataset spec file cannot be trained on")
_meta: MixedMetadata | None = None  # of the mix that this process trains on


def install(script: ModuleType) -> bool:
    """Put the hooks in place; calling it again changes nothing.

    Args:
        script (`ModuleType`): `lerobot.scripts.lerobot_train`, under whatever name it runs.

    Returns:
        Whether they are: not with a LeRobot outside the tested window, which is logged.
    """
    return _patch.install(
        {
            (script, "make_train_eval_datasets"): _make_train_eval_datasets,
            (script, "EpisodeAwareSampler"): _make_sampler,
            (factory, "make_dataset"): _make_dataset,
            (sample_weighting, "make_sample_weighter"): _make_sample_weighter,
        }
    )


def uninstall() -> None:
    """Give LeRobot its own code back."""
    global _meta
    _patch.uninstall()
    _meta = None


def make_mixed_datasets(cfg: Any) -> tuple[MixedDataset, MixedDataset | None]:
    """The mix that a training asks for, and its held-out episodes.

    Args:
        cfg (`TrainPipelineConfig`): Its `dataset.repo_id` is a spec file.

    Raises:
        SpecError: The file, or what it names, cannot be used.
        ValueError: An option of the training does not go with a mix.
    """
    _refuse_options(cfg)
    mix = _choose_episodes(_survey(cfg), cfg.dataset.episodes)
    split = float(cfg.dataset.eval_split)
    train_mix, eval_mix = (mix, None) if split == 0.0 else hold_out(mix, split)
    transforms = (
        ImageTransforms(cfg.dataset.image_transforms) if cfg.dataset.image_transforms.enable else None
    )
    train = _open(cfg, train_mix, transforms)
    for fact in train.meta.mixture:
        logger.info(
            "lerobot_ext: mix %s: %.1f %% of the draws from %s (%d episodes, %d frames)",
            mix.spec.name,
            100 * fact["share"],
            fact["repo_id"],
            fact["episodes"],
            fact["frames"],
        )
    return train, None if eval_mix is None else _open(cfg, eval_mix, None)


def hold_out(mix: Mix, split: float) -> tuple[Mix, Mix]:
    """A mix without its held-out episodes, and those: of each dataset and task the last ones, as stock does.

    Args:
        mix (`Mix`): The whole.
        split (`float`): Which part of the episodes is held out, above 0.

    Raises:
        ValueError: A dataset keeps no episode to train on.
    """
    kept: list[list[int]] = []
    held: list[list[int]] = []
    for part in mix.parts:
        by_task: dict[str, list[int]] = {}
        for place, texts in enumerate(part.meta.episodes[part.episodes.tolist()]["tasks"]):
            by_task.setdefault(texts[0] if texts else "", []).append(place)
        counts = {task: math.ceil(len(places) * split) for task, places in by_task.items()}
        kept.append([place for task, places in by_task.items() for place in places[: -counts[task]]])
        held.append([place for task, places in by_task.items() for place in places[-counts[task] :]])
    return mix.choose(kept), mix.choose(held)


def _make_train_eval_datasets(cfg: Any) -> Any:
    """Stock's, or a mix; the place where a training starts."""
    global _meta
    _meta = None
    if not _is_mix(cfg):
        return _patch.stock("make_train_eval_datasets")(cfg)
    train, held_out = make_mixed_datasets(cfg)
    _meta = train.meta
    # Of this configuration alone: LeRobot saves it beside every policy that it saves or pushes.
    cfg._save_pretrained = functools.partial(_save_config, cfg, _meta)
    return train, held_out


def _save_config(cfg: Any, meta: MixedMetadata, save_directory: Path) -> None:
    """LeRobot's, and the resolved spec beside it."""
    type(cfg)._save_pretrained(cfg, save_directory)
    provenance.save(meta, Path(save_directory), cfg.seed)


def _make_dataset(cfg: Any) -> Any:
    """Stock's, or a mix with all its episodes."""
    if not _is_mix(cfg):
        return _patch.stock("make_dataset")(cfg)
    transforms = (
        ImageTransforms(cfg.dataset.image_transforms) if cfg.dataset.image_transforms.enable else None
    )
    _refuse_options(cfg)
    return _open(cfg, _choose_episodes(_survey(cfg), cfg.dataset.episodes), transforms)


def _make_sampler(*words: Any, **named: Any) -> Any:
    """Stock's, or that of a mix."""
    return sampler.stand_in(_patch.stock("EpisodeAwareSampler"), *words, **named)


def _make_sample_weighter(config: Any, policy: Any, *words: Any, **named: Any) -> Any:
    """Stock's, or one that reads the weights of a mix."""
    if config is None or config.type != loss_weights.TYPE:
        return _patch.stock("make_sample_weighter")(config, policy, *words, **named)
    given = _meta.spec.datasets if _meta is not None else ()
    return loss_weights.make_loss_weighter(policy, any(part.loss_weight is not None for part in given))


def _is_mix(cfg: Any) -> bool:
    repo_id, root = cfg.dataset.repo_id, cfg.dataset.root
    if root is not None:
        # With a folder of its own, a dataset may be called what it likes; a file is none.
        return Path(root).is_file() and is_spec_path(str(root))
    return is_spec_path(repo_id)


def _refuse_options(cfg: Any) -> None:
    """Options that mean nothing for a mix.

    Raises:
        ValueError: One of them is given.
    """
    dataset = cfg.dataset
    each = "say so for each dataset in the file"
    refused = [
        (dataset.root is not None, "dataset.root", dataset.root, "give the file as --dataset.repo_id alone"),
        (dataset.revision is not None, "dataset.revision", dataset.revision, each),
        (dataset.streaming, "dataset.streaming", True, "mixes are read from disk; leave it out"),
        (dataset.repo_type != "dataset", "dataset.repo_type", dataset.repo_type, "mix datasets, not buckets"),
        (cfg.is_reward_model_training, "reward_model", "given", "mixes train policies"),
    ]
    if cfg.sample_weighting is not None and cfg.sample_weighting.type == "rabc":
        refused.append((True, "sample_weighting.type", "rabc", "its file is of one dataset; use loss_weight"))
    for is_given, option, value, remedy in refused:
        if is_given:
            raise ValueError(
                f"--{option}={value} does not go with the dataset spec {dataset.repo_id}. Remedy: {remedy}."
            )


def _survey(cfg: Any) -> Mix:
    """The mix of the file, or of the copy in the checkpoint that a run resumes from."""
    path = Path(cfg.dataset.repo_id)
    if cfg.resume and cfg.checkpoint_path is not None and not parser.parse_arg("dataset.repo_id"):
        copy = Path(cfg.checkpoint_path) / "pretrained_model" / provenance.FILE_NAME
        if copy.is_file():
            mix = survey(copy).checked()
            provenance.warn_of_changes(mix, path)
            return mix
    return survey(path, load_spec(path)).checked()


def _choose_episodes(mix: Mix, episodes: Sequence[int] | None) -> Mix:
    """`--dataset.episodes` counts through the mix, as `lerobot-ext mix` shows.

    Raises:
        ValueError: It names one that is not there, or leaves a dataset without any.
    """
    if episodes is None:
        return mix
    counts = [len(part.episodes) for part in mix.parts]
    beyond = [number for number in episodes if number >= sum(counts)]
    if beyond:
        raise ValueError(
            f"--dataset.episodes names {beyond[:5]}, but the mix {mix.path} has episodes 0 to "
            f"{sum(counts) - 1}"
        )
    chosen = []
    start = 0
    for count in counts:
        chosen.append([number - start for number in episodes if start <= number < start + count])
        start += count
    return mix.choose(chosen)


def _open(cfg: Any, mix: Mix, transforms: Any) -> MixedDataset:
    """A mix with the policy's windows and the training's options, as LeRobot's factory opens a dataset."""
    # The windows need features, rate and cameras alone.
    outline = MixedMetadata(mix, {})
    data = MixedDataset(
        mix,
        factory.resolve_delta_timestamps(cfg.trainable_config, outline),
        image_transforms=transforms,
        video_backend=cfg.dataset.video_backend,
        return_uint8=True,
        depth_output_unit=cfg.dataset.depth_output_unit,
        tolerance_s=cfg.tolerance_s,
    )
    if cfg.dataset.use_imagenet_stats:
        for key in set(data.meta.camera_keys) - set(data.meta.depth_keys):
            for name, values in IMAGENET_STATS.items():
                data.meta.stats[key][name] = torch.tensor(values, dtype=torch.float32)
    return data
