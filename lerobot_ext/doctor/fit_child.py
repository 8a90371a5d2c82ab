# SPDX-License-Identifier: Apache-2.0
"""Has LeRobot build a policy's configuration for a dataset's features; runs in a process of its own.

Word: a JSON file with `folder` of a checkpoint or `type`, and `features` of the dataset.
"""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

from lerobot_ext.doctor.checkpoint_child import load_plugins, read_config
from lerobot_ext.doctor.child import answer, one_line


def main(words: list[str]) -> int:
    """Answer with what the configuration says."""
    question = json.loads(Path(words[0]).read_text(encoding="utf-8"))
    with contextlib.redirect_stdout(io.StringIO()):
        load_plugins()
        found = look(question)
    answer(found)
    return 0


def look(question: dict[str, Any]) -> dict[str, Any]:
    """The policy's side of the matter.

    Returns:
        `dict`: `error`, and else `folder`, `input_features`, `output_features` and `dataset_features` (by
        name: `type`, `shape`), `modes` (by type of feature), `indices` (of observation, action, reward),
        `action_names`, `rejects` (what the policy has against the dataset's features).
    """
    from lerobot.configs import FeatureType
    from lerobot.utils.feature_utils import dataset_to_policy_features

    try:
        features = dataset_to_policy_features(question["features"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        return {"error": f"LeRobot cannot use the dataset's features: {one_line(error)}"}
    config, why = read_config(Path(question["folder"])) if question["folder"] else _fresh(question["type"])
    if config is None:
        return {"error": why}
    rejects = ""
    if not question["folder"]:
        # As `make_policy` does
        config.output_features = {k: f for k, f in features.items() if f.type is FeatureType.ACTION}
        config.input_features = {k: f for k, f in features.items() if f.type is not FeatureType.ACTION}
        rejects = _rejection(config)
    return {
        "error": "",
        "folder": question["folder"],
        "input_features": _plain(config.input_features),
        "output_features": _plain(config.output_features),
        "dataset_features": _plain(features),
        "modes": {str(getattr(k, "value", k)): v.value for k, v in config.normalization_mapping.items()},
        "indices": {
            name: list(getattr(config, f"{name}_delta_indices") or [])
            for name in ("observation", "action", "reward")
        },
        "action_names": list(getattr(config, "action_feature_names", None) or []),
        "rejects": rejects,
    }


def _fresh(policy_type: str) -> tuple[Any, str]:
    from lerobot.policies.factory import make_policy_config

    try:
        return make_policy_config(policy_type, device="cpu", push_to_hub=False), ""
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin's code; the reason is reported
        return None, one_line(error)


def _rejection(config: Any) -> str:
    try:
        config.validate_features()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin's code; the reason is reported
        return one_line(error)
    return ""


def _plain(features: Any) -> dict[str, Any]:
    return {
        key: {"type": feature.type.value, "shape": list(feature.shape)}
        for key, feature in (features or {}).items()
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
