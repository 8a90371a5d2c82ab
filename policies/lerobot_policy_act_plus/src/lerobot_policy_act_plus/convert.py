# SPDX-License-Identifier: Apache-2.0
"""Turn a checkpoint of stock ACT into one of act_plus."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import draccus
from draccus.utils import ParsingError
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.factory import make_pre_post_processors
from safetensors import safe_open

from .configuration_act_plus import ActPlusConfig
from .modeling_act_plus import ActPlusPolicy

WEIGHTS = "model.safetensors"


def convert(checkpoint: Path, out: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Write an act_plus checkpoint with the weights and processors of a stock one.

    Without overrides the new policy acts as the stock one, to the bit. Prefix, guidance and depth begin at
    zero, so that they change nothing until they are trained; tokens of tasks and advantages do a little.

    Args:
        checkpoint (`Path`): `pretrained_model` folder of type `act`.
        out (`Path`): Folder to write; must not exist.
        overrides (`Sequence[str]`): `--policy.FIELD=VALUE` or `--policy.FIELD VALUE` words.

    Returns:
        `dict`: `kept` (number of tensors), and the names of the `new` and the `dropped` ones.

    Raises:
        FileExistsError: If `out` exists.
        FileNotFoundError: If `checkpoint` is none.
        ValueError: If it is no ACT policy, or an override has no meaning.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists; give a folder that does not.")
    for name in ("config.json", WEIGHTS):
        if not (checkpoint / name).is_file():
            raise FileNotFoundError(
                f"{checkpoint} holds no {name}; give a checkpoint's pretrained_model folder."
            )
    stock = PreTrainedConfig.from_pretrained(checkpoint)
    if not isinstance(stock, ACTConfig) or isinstance(stock, ActPlusConfig):
        raise ValueError(f"{checkpoint} is a policy of type {stock.type!r}; only 'act' can be converted.")
    config = _overridden(ActPlusConfig.from_act(stock), overrides)
    config.pretrained_path = None
    # What the weights of the stock policy replace must not be downloaded first.
    pretrained, config.pretrained_backbone_weights = config.pretrained_backbone_weights, None
    policy = ActPlusPolicy.from_pretrained(checkpoint, config=config)
    config.pretrained_backbone_weights = pretrained
    with safe_open(checkpoint / WEIGHTS, framework="pt") as file:
        old = set(file.keys())
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    policy.save_pretrained(partial)
    _write_processors(config, checkpoint, partial)
    os.replace(partial, out)
    now = set(policy.state_dict())
    return {"kept": len(old & now), "new": sorted(now - old), "dropped": sorted(old - now)}


def _overridden(config: ActPlusConfig, words: Sequence[str]) -> ActPlusConfig:
    """`config` with the fields that `words` name, parsed as LeRobot's command lines parse them."""
    arguments = [
        word.replace("--policy.", "--", 1) if word.startswith("--policy.") else word for word in words
    ]
    encoded = draccus.encode(config)
    encoded.pop("type", None)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.json"
        file.write_text(json.dumps(encoded), encoding="utf-8")
        with draccus.config_type("json"):
            try:
                parsed: ActPlusConfig = draccus.parse(ActPlusConfig, file, args=arguments)
            except SystemExit as error:  # argparse has said why
                raise ValueError(
                    f"`{' '.join(words)}` cannot be read; see `lerobot-train --policy.type=act_plus --help`."
                ) from error
            except ParsingError as error:  # the config's own words are its cause
                raise ValueError(str(error.__cause__ or error)) from error
    return parsed


def _write_processors(config: ActPlusConfig, checkpoint: Path, out: Path) -> None:
    """The stock policy's processors as they are; relative actions need processors with another order."""
    if config.use_relative_actions:
        raise ValueError(
            "`use_relative_actions` changes what actions mean: a policy that learned absolute ones cannot "
            "be converted. "
            "Train it anew."
        )
    before, after = make_pre_post_processors(config, pretrained_path=str(checkpoint))
    before.save_pretrained(out)
    after.save_pretrained(out)
