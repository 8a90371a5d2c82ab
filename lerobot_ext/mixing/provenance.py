# SPDX-License-Identifier: Apache-2.0
"""The copy of a dataset spec beside a checkpoint: what the run was trained on, and enough to run it again.

The copy is itself a spec file. Its `resolved` holds what was found: frames, shares and tasks of each dataset.
"""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from lerobot_ext.mixing.metadata import MixedMetadata
from lerobot_ext.mixing.spec import MixSpec, SpecError, load_spec
from lerobot_ext.mixing.survey import Mix

FILE_NAME = "dataset_mix.json"

logger = logging.getLogger(__name__)


def save(meta: MixedMetadata, folder: Path, seed: int | None) -> Path:
    """Write the copy.

    Args:
        meta (`MixedMetadata`): Of the mix.
        folder (`Path`): Where the policy was saved.
        seed (`int`, *optional*): Of the training; the mix's own wins.

    Returns:
        The file.
    """
    path = folder / FILE_NAME
    text = json.dumps(resolved(meta, seed), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def resolved(meta: MixedMetadata, seed: int | None) -> dict[str, Any]:
    """The spec of a mix with what was found."""
    spec = meta.spec
    if spec.seed is None:
        spec = replace(spec, seed=seed if seed is not None else 0)
    facts = {"found": meta.found, "trained_on": meta.mixture, "fps": meta.fps}
    return replace(spec, resolved=facts).to_json()


def warn_of_changes(mix: Mix, file: Path) -> None:
    """Say what is not as it was when the checkpoint was written.

    Args:
        mix (`Mix`): Of the copy, as it is today.
        file (`Path`): The file that the run was started with.
    """
    was = mix.spec.resolved.get("found")
    if was != mix.found:
        logger.warning(
            "lerobot_ext: the datasets of the mix are not as they were when the checkpoint was written, so "
            "the order of draws is another one from here on: there was %s, there is %s.",
            was,
            mix.found,
        )
    try:
        today = load_spec(file)
    except SpecError:
        return  # gone, or being edited: the copy is what counts
    if _comparable(today) != _comparable(mix.spec):
        logger.warning(
            "lerobot_ext: %s is no longer what this run started with; it goes on with the copy in the "
            "checkpoint. Say --dataset.repo_id=%s to train on the file as it is now.",
            file,
            file,
        )


def _comparable(spec: MixSpec) -> MixSpec:
    return replace(spec, resolved={}, seed=None, name="")
