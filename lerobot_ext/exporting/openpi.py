# SPDX-License-Identifier: Apache-2.0
"""pi0 under OpenPI's names: `model.safetensors` and `assets/ASSET/norm_stats.json`, as in its PyTorch files.

The names are those of LeRobot's own `PI0Policy.from_pretrained`, which reads OpenPI's files: LeRobot puts
`model.` before each. One tensor differs. OpenPI's PaliGemma has one weight for the embedding of tokens and
the `lm_head`; LeRobot has two, of which its forward uses, and training changes, the embedding alone. So the
embedding is written under the name that OpenPI's files have, `lm_head`, from where LeRobot reads it back.

OpenPI divides by the deviation plus 1e-6 where LeRobot adds 1e-8.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lerobot_ext.exporting.protocol import NotExportableError

WEIGHTS: Final = "model.safetensors"
_PREFIX: Final = "model."
_EMBEDDING: Final = "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
_HEAD: Final = "paligemma_with_expert.paligemma.lm_head.weight"
# OpenPI's names of what is normalised, and LeRobot's.
_NORMALISED: Final = {"state": "observation.state", "actions": "action"}
_STATISTICS: Final = ("mean", "std", "q01", "q99")
_NEEDED: Final = ("mean", "std")


def check_policy(policy: Any) -> None:
    """Refuse what has no form in OpenPI.

    Raises:
        NotExportableError: It is no pi0, or not normalised by mean and deviation.
    """
    config = policy.config
    if config.type != "pi0":
        raise NotExportableError(
            f"OpenPI's names are known of pi0; this is {config.type}", "leave out --format=openpi"
        )
    modes = {name: mode.value for name, mode in config.normalization_mapping.items()}
    for name in ("STATE", "ACTION"):
        if modes.get(name) != "MEAN_STD":
            raise NotExportableError(
                f"OpenPI's pi0 normalises by mean and deviation; here `normalization_mapping[{name}]` is "
                f"{modes.get(name)}",
                "train with MEAN_STD, or leave out --format=openpi",
            )


def write_openpi(policy: Any, preprocessor: Any, folder: Path, asset: str) -> None:
    """Write a pi0 for OpenPI.

    Args:
        policy: LeRobot's `PI0Policy`.
        preprocessor: Its pipeline, of which the normaliser's statistics are taken.
        folder (`Path`): Where to; must exist.
        asset (`str`): The name of the statistics, OpenPI's `asset_id`.

    Raises:
        NotExportableError: It is no pi0, or its statistics are missing.
    """
    check_policy(policy)
    tensors = {
        name.removeprefix(_PREFIX): tensor.detach().cpu().contiguous()
        for name, tensor in policy.state_dict().items()
    }
    tensors[_HEAD] = tensors.pop(_EMBEDDING)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    assets = folder / "assets" / asset
    assets.mkdir(parents=True)
    text = json.dumps({"norm_stats": _norm_stats(preprocessor)}, indent=2)
    (assets / "norm_stats.json").write_text(text + "\n", encoding="utf-8")


def read_norm_stats(folder: Path, asset: str) -> dict[str, dict[str, torch.Tensor]]:
    """Statistics of OpenPI as LeRobot's processors take them.

    Raises:
        ValueError: The file is of another form.
    """
    path = folder / "assets" / asset / "norm_stats.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    try:
        return {
            ours: {
                name: torch.tensor(numbers, dtype=torch.float32)
                for name, numbers in value["norm_stats"][theirs].items()
                if numbers is not None
            }
            for theirs, ours in _NORMALISED.items()
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is no norm_stats.json of OpenPI: {error!r}") from error


def read_openpi(folder: Path, config: Any) -> Any:
    """LeRobot's `PI0Policy` with the weights of OpenPI, read by its own `from_pretrained`.

    That one goes on with random weights where it cannot read some; here each tensor is looked after.

    Args:
        folder (`Path`): With `model.safetensors`.
        config: LeRobot's `PI0Config`.

    Raises:
        ValueError: A tensor is missing, left over, or not what the file has.
    """
    from lerobot.policies.pi0.modeling_pi0 import PI0Policy

    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder} has no {WEIGHTS}; OpenPI's JAX checkpoints have to be converted first")
    policy = PI0Policy.from_pretrained(folder, config=config)
    loaded = {name.removeprefix(_PREFIX): tensor for name, tensor in policy.state_dict().items()}
    with safe_open(folder / WEIGHTS, "pt") as file:
        names = set(file.keys())
        wrong = sorted((set(loaded) - {_EMBEDDING}) ^ (names - {_EMBEDDING}))
        wrong += [
            name
            for name in sorted(names & set(loaded))
            if not torch.equal(loaded[name].cpu(), file.get_tensor(name).to(loaded[name].dtype))
        ]
    if wrong:
        raise ValueError(
            f"{folder / WEIGHTS} was not read as it is: {', '.join(wrong[:3])}"
            f"{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}; is `config` of the same variant?"
        )
    return policy


def _norm_stats(preprocessor: Any) -> dict[str, dict[str, list[float]]]:
    from lerobot.processor import NormalizerProcessorStep

    found = [step for step in preprocessor.steps if isinstance(step, NormalizerProcessorStep)]
    stats = (found[0].stats or {}) if found else {}
    made = {}
    for theirs, ours in _NORMALISED.items():
        numbers = stats.get(ours, {})
        lacking = [name for name in _NEEDED if name not in numbers]
        if lacking:
            raise NotExportableError(
                f"the preprocessor has no {' and '.join(lacking)} of {ours}",
                "train with a dataset that has statistics (`lerobot-ext doctor --dataset.repo_id=…`)",
            )
        made[theirs] = {
            name: torch.as_tensor(numbers[name]).flatten().tolist() for name in _STATISTICS if name in numbers
        }
    return made
