# SPDX-License-Identifier: Apache-2.0
"""Writes a dataset spec file to start from, with a comment on every key."""

import json
import os
from pathlib import Path
from typing import Any

_HEAD = """\
# Datasets that `lerobot-train --dataset.repo_id={name}` mixes; `lerobot-ext mix {name}` shows the result.

# How often a dataset is drawn: by_frames (each frame equally often), by_dataset (each dataset equally often),
# or explicit (each has a `weight`).
weights: by_frames

# What if a feature (a camera, say) is not in all of them: exact (a problem), intersection (it is left out).
features: exact

# epoch_size: 10000       # draws to an epoch; as many as there are frames by default
# seed: 0                 # of the order of draws; that of the training by default
# on_missing: error       # or skip: go on without a dataset that is not there
# check_names: true       # false: joints may have other names, if they are in the same order

datasets:
"""
_FIRST = """\
    # revision: main                            # branch, tag or commit on the Hub
    # episodes: [0, 1, "10:20"]                 # which to use; the end of a range is not included
    # weight: 2.0                               # with `weights: explicit`
    # task: "Lift the cube."                    # replaces the text of every task
    # task_prefix: "koch: "                     # or goes before it
    # rename: {"observation.images.cam_*": "observation.images.*"}
    # drop: ["observation.images.wrist"]        # after renaming
    # loss_weight: 1.0                          # goes into each item as `observation.loss_weight`
"""


def commented_spec(names: list[str], file: Path) -> str:
    """The text of a spec file in YAML, or in JSON (without comments) where the file ends so.

    Args:
        names (`list[str]`): Datasets: names on the Hub or below `$HF_LEROBOT_HOME`, or folders.
        file (`Path`): Where it will be; folders are written relative to it.
    """
    entries = [_entry(name, file) for name in names]
    if file.suffix.lower() == ".json":
        whole: dict[str, Any] = {"weights": "by_frames", "features": "exact", "datasets": entries}
        return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    lines = []
    for index, entry in enumerate(entries):
        words = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entry.items()]
        lines.append("  - " + "\n    ".join(words) + "\n" + (_FIRST if index == 0 else ""))
    return _HEAD.format(name=file.name) + "".join(lines)


def _entry(name: str, file: Path) -> dict[str, str]:
    folder = Path(name).expanduser()
    if not (folder / "meta").is_dir():
        return {"repo_id": name}
    folder = folder.resolve()
    # Its name on the Hub, if it has one, is not in its files; `local/…` is no link in a model card.
    root = os.path.relpath(folder, file.resolve().parent)
    return {"repo_id": f"local/{folder.name}", "root": root}
