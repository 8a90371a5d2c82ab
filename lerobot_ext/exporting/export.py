# SPDX-License-Identifier: Apache-2.0
"""Writes the actor of a checkpoint as a stock checkpoint, and makes sure that it acts the same."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from lerobot_ext.cli.command import CommandError
from lerobot_ext.exporting import fresh, openpi
from lerobot_ext.exporting.protocol import NotExportableError, stock_policy_of, stock_steps
from lerobot_ext.hub.checkpoint import read_config
from lerobot_ext.pipelines.acting import made_up
from lerobot_ext.plugins import describe_error

LEROBOT, OPENPI = "lerobot", "openpi"
_OBSERVATIONS: Final = 3
_TIMEOUT_S: Final = 1800.0
_ROUNDING: Final = 1e-3
"""Of the largest action: what merging adapters in half precision may change."""

Acting = Callable[[Path, Sequence[dict[str, Any]]], torch.Tensor]


@dataclass
class Exported:
    """What was written.

    Args:
        out (`Path`): The folder.
        type (`str`): The stock policy type.
        parameters (`int`): Of the actor; before (`int`) those of the checkpoint.
        left_out (`list[str]`): Processor steps that were left out.
        compared (`int`): Observations for which the actions were compared; 0 without a check.
        apart (`float`): The largest difference that was found: 0, but for adapters that were merged.
        files (`list[str]`): In the folder.
    """

    out: Path
    type: str = ""
    parameters: int = 0
    before: int = 0
    left_out: list[str] = field(default_factory=list)
    compared: int = 0
    apart: float = 0.0
    files: list[str] = field(default_factory=list)


def export(
    folder: Path, out: Path, form: str = LEROBOT, *, asset: str = "lerobot", check: Acting | None = None
) -> Exported:
    """Export a checkpoint.

    Args:
        folder (`Path`): The checkpoint.
        out (`Path`): A new folder.
        form (`str`, *optional*): `lerobot`, or `openpi` for a pi0 under OpenPI's names as well.
        asset (`str`, *optional*): OpenPI's name of the statistics.
        check (`Callable`, *optional*): Acts with the exported folder, for the comparison; none is made
            without.

    Raises:
        CommandError: There is a folder already, the checkpoint cannot be loaded or exported, or acts
            otherwise afterwards. Nothing is left of `out` then.
    """
    if out.exists():
        raise CommandError(f"{out} is there already", "name a new folder with --out")
    policy, before, after, device = _load(folder)
    done = Exported(out, before=_count(policy))
    observations = [made_up(policy.config.input_features, seed) for seed in range(_OBSERVATIONS)]
    try:
        wanted = _act(policy, before, after, observations) if check else None
        stock = stock_policy_of(policy)
        if form == OPENPI:
            openpi.check_policy(stock)
        for pipeline in (before, after):
            pipeline.steps, gone = stock_steps(pipeline)
            done.left_out += gone
    except NotExportableError as error:
        raise CommandError(f"{folder} cannot be exported: {error}", error.remedy) from error
    done.type, done.parameters = str(stock.config.type), _count(stock)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.unfinished-", dir=out.parent))
    try:
        stock.config.pretrained_path = None
        _trained_on(device, stock, before)
        for part in (stock, before, after):
            part.save_pretrained(work)
        if check is not None and wanted is not None:
            done.apart = _compare(check(work, observations), wanted, merged=_has_adapters(policy))
            done.compared = len(observations)
        if form == OPENPI:
            _write_openpi(stock, before, work, asset)
        work.chmod(0o755)
        os.rename(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    done.files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    return done


def act_without_plugins(folder: Path, observations: Sequence[dict[str, Any]]) -> torch.Tensor:
    """The exported policy's actions, in a process that has LeRobot and no plugin.

    Raises:
        CommandError: It does not load or act there.
    """
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "exchange.pt"
        torch.save({"observations": list(observations), "threads": torch.get_num_threads()}, file)
        ran = subprocess.run(
            [sys.executable, "-P", fresh.__file__, str(folder), str(file)],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
        if ran.returncode != 0:
            said = ran.stderr.strip().splitlines()
            raise CommandError(
                f"LeRobot alone cannot run what was exported: {said[-1] if said else 'it says nothing'}",
                "nothing was written; please report this with the checkpoint's config.json",
            )
        actions: torch.Tensor = torch.load(file, weights_only=True)
    return actions


def _load(folder: Path) -> tuple[Any, Any, Any, str]:
    """The policy and its pipelines, on the CPU, and the device that the checkpoint names."""
    from lerobot.configs import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors
    from lerobot.utils.import_utils import register_third_party_plugins

    register_third_party_plugins()
    try:
        with _quiet():
            config = PreTrainedConfig.from_pretrained(folder)
            device = str(read_config(folder).get("device") or config.device)
            if getattr(config, "use_peft", False):
                raise CommandError(f"{folder} is a PEFT adapter", "merge it into its base model first")
            config.device = "cpu"
            policy = get_policy_class(config.type).from_pretrained(folder, config=config)
            before, after = make_pre_post_processors(
                config,
                pretrained_path=str(folder),
                preprocessor_overrides={"device_processor": {"device": "cpu"}},
            )
    except CommandError:
        raise
    except Exception as error:
        raise CommandError(
            f"{folder} cannot be loaded: {describe_error(error)}",
            f"`lerobot-ext doctor --policy.path={folder}` examines it",
        ) from error
    return policy.eval(), before, after, device


def _trained_on(device: str, stock: Any, before: Any) -> None:
    """Let the files name the device that the checkpoint names, not the one on which it was exported."""
    from lerobot.processor import DeviceProcessorStep

    stock.config.device = device
    for step in before.steps:
        if isinstance(step, DeviceProcessorStep):
            step.device = device


def _act(policy: Any, before: Any, after: Any, observations: Sequence[dict[str, Any]]) -> torch.Tensor:
    """Its actions, (observations, 1, width); each observation is the first of an episode."""
    actions = []
    for seed, observation in enumerate(observations):
        torch.manual_seed(seed)
        policy.reset()
        with torch.inference_mode():
            actions.append(after(policy.select_action(before(dict(observation)))).clone())
    return torch.stack(actions)


def _has_adapters(policy: Any) -> bool:
    """Whether the policy has PEFT's adapters, which are added to the weights when it is exported."""
    return any(hasattr(module, "get_base_layer") for module in policy.modules())


def _compare(found: torch.Tensor, wanted: torch.Tensor, *, merged: bool) -> float:
    """The largest difference of the actions; merged adapters round otherwise than adapters beside weights."""
    same = found.shape == wanted.shape
    apart = float((found - wanted).abs().max()) if same else float("nan")
    allowed = _ROUNDING * float(wanted.abs().max()) if merged else 0.0
    if not apart <= allowed:
        raise CommandError(
            f"what was exported acts otherwise than the checkpoint: actions differ by up to {apart:.3g}",
            "nothing was written; its policy's `stock_policy` leaves something out",
        )
    return apart


def _write_openpi(stock: Any, before: Any, work: Path, asset: str) -> None:
    try:
        openpi.write_openpi(stock, before, work, asset)
    except NotExportableError as error:
        raise CommandError(f"no OpenPI checkpoint can be written: {error}", error.remedy) from error


def _count(policy: Any) -> int:
    return sum(parameter.numel() for parameter in policy.parameters())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()):
        yield
