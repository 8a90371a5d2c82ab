# SPDX-License-Identifier: Apache-2.0
"""A mix as a dataset: every part is a LeRobotDataset of its own, so whatever speeds those up works here too.

Items have the names of the mix. `index`, `episode_index` and `task_index` count through the mix, and
`observation.dataset_index` says which part an item is from: keys below `observation.` are the only ones of
ours that LeRobot's processors hand on to a policy. It is no feature, so policies do not take it for an input.
"""

import logging
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, Final

import datasets
import numpy as np
import pyarrow as pa
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_ext.mixing.features import CAMERA, Features, is_depth
from lerobot_ext.mixing.metadata import MixedMetadata
from lerobot_ext.mixing.sampler import Draws
from lerobot_ext.mixing.statistics import Floats, Source, has_stats, is_numeric, mixed_stats
from lerobot_ext.mixing.survey import Mix, Part

DATASET_INDEX: Final = "observation.dataset_index"
LOSS_WEIGHT: Final = "observation.loss_weight"
logger = logging.getLogger(__name__)

_RENUMBERED: Final = ("index", "episode_index", "task_index")


class MixedDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """The frames of all parts, one part after the other; see the module's docstring.

    Args:
        mix (`Mix`): Without problems.
        delta_timestamps (`Mapping[str, list[float]]`, *optional*): Windows, by the names of the mix.
        image_transforms (`Callable`, *optional*): For colour pictures.
        options (`Any`): Further arguments of `LeRobotDataset`, the same for all parts.

    Raises:
        ValueError: A part's frames are not those its episodes speak of, or it lacks statistics.
    """

    def __init__(
        self,
        mix: Mix,
        delta_timestamps: Mapping[str, list[float]] | None = None,
        image_transforms: Callable[..., Any] | None = None,
        **options: Any,
    ) -> None:
        self._parts = [
            open_part(part, delta_timestamps, image_transforms=image_transforms, **options)
            for part in mix.parts
        ]
        mix = self._mix = replace(mix, features=served_features(mix, self._parts))
        self._bounds = np.cumsum([0, *(part.frames for part in mix.parts)])
        self._ends = np.cumsum(np.concatenate([part.lengths for part in mix.parts]))
        self._new_names = [{old: new for new, old in part.names.items()} for part in mix.parts]
        self._to_uint8 = [
            _pictures_to_convert(part, mix) if options.get("return_uint8") else [] for part in mix.parts
        ]
        self._loss_weights = _loss_weights(mix)
        self.delta_timestamps = delta_timestamps
        self.image_transforms = image_transforms
        self.meta = MixedMetadata(mix, _stats(mix, self._parts))
        self._table: datasets.Dataset | None = None

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, idx: int | slice) -> Any:
        """One item, or a list of them for a slice.

        Raises:
            IndexError: There is no such row.
        """
        if isinstance(idx, slice):
            return [self[row] for row in range(*idx.indices(len(self)))]
        row = int(idx)
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} is out of range: the mix has {len(self)} frames")
        row %= len(self)
        index = int(np.searchsorted(self._bounds, row, side="right")) - 1
        item = self._parts[index][row - int(self._bounds[index])]
        return self._in_the_mix(item, index, row)

    def _in_the_mix(self, item: Mapping[str, Any], index: int, row: int) -> dict[str, Any]:
        """A part's item with the names and numbers of the mix."""
        names = self._new_names[index]
        mine: dict[str, Any] = {}
        for key, value in item.items():
            if key in names:
                mine[names[key]] = value
            elif key.endswith("_is_pad") and key.removesuffix("_is_pad") in names:
                mine[f"{names[key.removesuffix('_is_pad')]}_is_pad"] = value
        for name in self._to_uint8[index]:
            mine[name] = (mine[name] * 255).round().to(torch.uint8)
        task = self._mix.parts[index].task_ids[int(item["task_index"])]
        mine["index"] = torch.tensor(row)
        mine["episode_index"] = torch.tensor(int(np.searchsorted(self._ends, row, side="right")))
        mine["task_index"] = torch.tensor(task)
        mine["task"] = self._mix.tasks[task]
        mine[DATASET_INDEX] = torch.tensor(index)
        if self._loss_weights is not None:
            mine[LOSS_WEIGHT] = torch.tensor(self._loss_weights[index])
        return mine

    @property
    def num_frames(self) -> int:
        """Of all parts."""
        return int(self._bounds[-1])

    @property
    def num_episodes(self) -> int:
        """Of all parts."""
        return len(self._ends)

    @property
    def episodes(self) -> None:
        """All that `meta` lists: those that are not chosen are not in it."""
        return None

    @property
    def repo_id(self) -> str:
        """The name of the mix."""
        return self._mix.spec.name

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.meta.fps  # type: ignore[no-any-return]

    @property
    def features(self) -> dict[str, Any]:
        """Of the mix."""
        return self.meta.features  # type: ignore[no-any-return]

    @property
    def parts(self) -> list[Any]:
        """The `LeRobotDataset` of each part."""
        return list(self._parts)

    @property
    def absolute_to_relative_idx(self) -> Draws:
        """What is to be drawn: the training script hands this to its sampler, which is ours for a mix."""
        return Draws(
            weights=self._mix.spec.weights,
            explicit=self._mix.explicit,
            epoch_size=self._mix.spec.epoch_size,
            seed=self._mix.spec.seed,
            labels=tuple(part.label for part in self._mix.parts),
            bounds=tuple(map(int, self._bounds)),
        )

    @property
    def hf_dataset(self) -> datasets.Dataset:
        """The numbers of each frame, as the trainer looks them up to choose held-out ones."""
        if self._table is None:
            tasks = [
                np.asarray(part.task_ids)[_column(data.hf_dataset, "task_index").astype(np.int64)]
                for part, data in zip(self._mix.parts, self._parts, strict=True)
            ]
            self._table = datasets.Dataset.from_dict(
                {
                    "index": np.arange(len(self)),
                    "episode_index": np.searchsorted(self._ends, np.arange(len(self)), side="right"),
                    "task_index": np.concatenate(tasks),
                }
            )
        return self._table

    def set_image_transforms(self, image_transforms: Callable[..., Any] | None) -> None:
        """Replace what is done to colour pictures."""
        for part in self._parts:
            part.set_image_transforms(image_transforms)
        self.image_transforms = image_transforms

    def clear_image_transforms(self) -> None:
        """Leave pictures as they are."""
        self.set_image_transforms(None)


class PartDataset(LeRobotDataset):  # type: ignore[misc]
    """A dataset without the videos that a mix drops: they are neither looked for nor decoded.

    Args:
        kept (`Set[str]`): Features of its own that the mix has.
        words (`Any`): For `LeRobotDataset`.
        named (`Any`): For `LeRobotDataset`.
    """

    def __init__(self, kept: Set[str], *words: Any, **named: Any) -> None:
        self._kept = frozenset(kept)
        super().__init__(*words, **named)

    @property
    def meta(self) -> Any:
        """Its metadata."""
        return self._own_meta

    @meta.setter
    def meta(self, meta: Any) -> None:
        # LeRobot puts it here before it makes the reader, which lists the cameras.
        for key in [key for key in meta.video_keys if key not in self._kept]:
            del meta.info.features[key]
        self._own_meta = meta


def open_part(part: Part, delta_timestamps: Mapping[str, list[float]] | None, **options: Any) -> PartDataset:
    """A part as LeRobot opens it, with windows by its own names.

    Raises:
        ValueError: Its frames are not those its episodes speak of.
    """
    windows = None
    if delta_timestamps is not None:
        windows = {part.names[name]: list(deltas) for name, deltas in delta_timestamps.items()}
    data = PartDataset(
        set(part.names.values()),
        part.spec.repo_id,
        root=part.spec.root,
        revision=part.spec.revision,
        episodes=None if part.is_whole else part.episodes.tolist(),
        delta_timestamps=windows,
        **options,
    )
    expected = np.repeat(part.episodes, part.lengths)
    if not np.array_equal(_column(data.hf_dataset, "episode_index"), expected):
        raise ValueError(
            f"the frames of dataset {part.label} are not those its list of episodes speaks of; "
            f"`lerobot-ext doctor --dataset.repo_id={part.spec.root or part.spec.repo_id}` says what is wrong"
        )
    pool = getattr(data.reader, "_pool", None)
    if pool is not None and not pool.holds_all:
        logger.warning(
            "lerobot_ext: the memory pool holds dataset %s some episodes at a time, which is of little use to"
            " a mix: frames are drawn from all its episodes. Give LEROBOT_EXT_POOL more room, or smaller"
            " pictures.",
            part.label,
        )
    return data


def served_features(mix: Mix, parts: Sequence[Any]) -> Features:
    """The features of a mix with the sizes that pictures are really given at: a pool or a backend may shrink.

    Raises:
        ValueError: The datasets give a camera at differing sizes.
    """
    found = {name: dict(feature) for name, feature in mix.features.items()}
    for name, feature in found.items():
        if feature["dtype"] not in CAMERA:
            continue
        given = {
            part.label: tuple(data.meta.features[part.names[name]]["shape"])
            for part, data in zip(mix.parts, parts, strict=True)
        }
        if len(set(given.values())) > 1:
            said = "; ".join(f"{shape} in {label}" for label, shape in given.items())
            raise ValueError(
                f"`{name}` has differing sizes as the datasets of the mix are read: {said}. Pictures that "
                "are no videos, and datasets without room in LEROBOT_EXT_POOL, are not shrunk; give the pool "
                "room for all, or leave out the size"
            )
        feature["shape"] = next(iter(given.values()))
    return found


def _pictures_to_convert(part: Part, mix: Mix) -> list[str]:
    """Cameras that this part keeps as pictures and others as videos: those come as uint8, these as float."""
    return [
        name
        for name, feature in part.features.items()
        if feature["dtype"] == "image" and mix.features[name]["dtype"] == "video" and not is_depth(feature)
    ]


def _loss_weights(mix: Mix) -> list[float] | None:
    """What each part's items weigh in the loss; `None` if the file does not say."""
    given = [part.spec.loss_weight for part in mix.parts]
    if all(weight is None for weight in given):
        return None
    return [1.0 if weight is None else float(weight) for weight in given]


def _stats(mix: Mix, parts: list[Any]) -> dict[str, Any]:
    """Statistics of what is drawn, of every feature whose numbers mean the same in all parts."""
    found: dict[str, Any] = {}
    for name, feature in mix.features.items():
        if name in _RENUMBERED or not has_stats(feature):
            continue
        found[name] = mixed_stats(
            name,
            feature,
            [
                _source(name, part, data, float(share))
                for part, data, share in zip(mix.parts, parts, mix.shares(), strict=True)
            ],
        )
    return found


def _source(name: str, part: Part, data: Any, share: float) -> Source:
    old = part.names[name]
    values = _column(data.hf_dataset, old) if is_numeric(part.meta.features[old]) else None
    recorded = (data.meta.stats or {}).get(old)
    return Source(share, part.label, recorded, values, part.is_whole)


def _column(hf_dataset: Any, key: str) -> Floats:
    """A column of numbers.

    Returns:
        (N,) or (N, …) float64.
    """
    column = hf_dataset.select_columns([key]).with_format("arrow")[:].column(key)
    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)
    shape: list[int] = []
    while isinstance(array, pa.ExtensionArray) or pa.types.is_nested(array.type):
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
            continue
        inner = array.flatten()
        shape.append(len(inner) // max(len(array), 1))
        array = inner
    return array.to_numpy(zero_copy_only=False).astype(np.float64).reshape(len(column), *shape)  # type: ignore[no-any-return]
