# SPDX-License-Identifier: Apache-2.0
"""Has LeRobot and its plugins read a checkpoint, and builds the policy to compare its weights.

Runs in a process of its own: a plugin may end or hang it, and a large policy takes memory.
"""

import contextlib
import importlib
import io
import sys
from pathlib import Path
from typing import Any

from lerobot_ext.doctor.checkpoint import ADAPTER, LEGACY, PIPELINES, read_json
from lerobot_ext.doctor.checkpoint_loading import CONFIG, WEIGHTS
from lerobot_ext.doctor.child import answer, one_line

_BUILD_ON_CPU_BYTES = 2_000_000_000
"""Where a policy cannot be built without memory, only one of this size is built with."""


def main(words: list[str]) -> int:
    """Answer with what was found."""
    folder = Path(words[0])
    with contextlib.redirect_stdout(io.StringIO()):
        load_plugins()
        found = look(folder)
    answer(found)
    return 0


def load_plugins() -> None:
    """Import what `lerobot-eval` has imported when it reads a checkpoint, and every plugin."""
    import lerobot.policies
    import lerobot.processor  # noqa: F401 - and the stock steps
    from lerobot.utils.import_utils import register_third_party_plugins

    from lerobot_ext.plugins import load_all

    register_third_party_plugins()
    load_all()


def look(folder: Path) -> dict[str, Any]:
    """What LeRobot makes of the checkpoint in `folder`.

    Returns:
        `dict`: `type_known`, `config_error`, `unknown_steps` (error by step), `not_finite` (weights),
        `build_error`, `build_needs` (what to install), `build_excuse` (why that is no fault
        of the checkpoint), `compared` (how many tensors), `missing`,
        `wrong_shape`, `extra` (names), `remaps` (whether the policy renames weights when it loads).
    """
    config, _ = read_json(folder / CONFIG)
    found: dict[str, Any] = {
        "type_known": _is_known(str(config.get("type"))),
        "config_error": "",
        "build_error": "",
        "build_needs": "",
        "build_excuse": "",
        "compared": "",
        "missing": [],
        "wrong_shape": [],
        "extra": [],
        "remaps": False,
    }
    policy_config = None
    if found["type_known"]:
        policy_config, found["config_error"] = read_config(folder)
    if policy_config is not None:
        found |= _compare(policy_config, folder)
    found["unknown_steps"] = _unknown_steps(folder)
    weights = folder / (ADAPTER if config.get("use_peft") else WEIGHTS)
    found["not_finite"] = _not_finite(weights, found.pop("parameters", None))
    return found


def _is_known(policy_type: str) -> bool:
    from lerobot.configs.policies import PreTrainedConfig

    return policy_type in PreTrainedConfig.get_known_choices()


def read_config(folder: Path) -> tuple[Any, str]:
    """LeRobot's configuration object, or `None` and the reason."""
    from lerobot.configs.policies import PreTrainedConfig

    try:
        return PreTrainedConfig.from_pretrained(folder), ""
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin's code; the reason is reported
        return None, one_line(error)


def _unknown_steps(folder: Path) -> dict[str, str]:
    """Steps that LeRobot would not find, after the policy's own modules were imported."""
    from lerobot.processor.pipeline import ProcessorStepRegistry

    unknown: dict[str, str] = {}
    for file in PIPELINES.values():
        steps = read_json(folder / file)[0].get("steps")
        for step in steps if isinstance(steps, list) else []:
            if not isinstance(step, dict):
                continue
            if "registry_name" in step:
                if step["registry_name"] not in ProcessorStepRegistry.list():
                    unknown[step["registry_name"]] = "no installed package registers it"
            elif "class" in step:
                why = _cannot_import(str(step["class"]))
                if why:
                    unknown[str(step["class"])] = why
    return unknown


def _cannot_import(path: str) -> str:
    module, _, name = path.rpartition(".")
    try:
        getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        return one_line(error, 120)
    return ""


# --- the weights


def _not_finite(path: Path, parameters: set[str] | None) -> list[str]:
    """Weights with NaN, and parameters with infinity: a buffer, such as a limit, may be infinite by design.

    Args:
        path (`Path`): The weights.
        parameters (`set[str] | None`): Names of the policy's parameters; `None` when it was not built.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    bad = []
    try:
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict
                tensor = tensors.get_tensor(name)
                if not tensor.is_floating_point() or name.startswith(LEGACY):
                    continue
                learned = name in parameters if parameters is not None else name.endswith(("weight", "bias"))
                good = torch.isfinite(tensor) if learned else ~torch.isnan(tensor)
                bad += [] if good.all() else [name]
    except (SafetensorError, OSError):
        return []  # reported with the files
    return bad


def _compare(config: Any, folder: Path) -> dict[str, Any]:
    """Names and shapes of the weights against those of a policy built from the configuration."""
    if getattr(config, "use_peft", False):
        return {"build_error": "it is an adapter (PEFT)", "build_excuse": "its base policy is elsewhere"}
    saved, aliases = _saved_shapes(folder / WEIGHTS)
    if not saved:
        return {}
    try:
        built, parameters, remaps = _built_shapes(config, (folder / WEIGHTS).stat().st_size)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the policy's own code; the reason is reported
        needs = f"install what it needs: {one_line(error, 200)}" if isinstance(error, ImportError) else ""
        return {"build_error": one_line(error), "build_needs": needs, "build_excuse": _excuse(error)}
    present = set(saved) | aliases
    wrong = [
        f"{name} is {list(saved[name])}, should be {list(shape)}"
        for name, shape in built.items()
        if name in saved and saved[name] != shape
    ]
    return {
        "compared": f"compared with the {len(built)} that {CONFIG} builds",
        "missing": sorted(set(built) - present),
        "wrong_shape": sorted(wrong),
        "extra": sorted(set(saved) - set(built)),
        "remaps": remaps,
        "parameters": parameters,
    }


def _excuse(error: BaseException) -> str:
    """Why a policy that cannot be built here may be all right; empty for an error of its own."""
    if any(
        word in str(error).lower() for word in ("offline", "connect to", "connection error", "cannot reach")
    ):
        return (
            "it downloads a part of itself: its weights were not compared; load it once with the Hub in reach"
        )
    return ""


def _saved_shapes(path: Path) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """Shapes by name, and names of tensors that share the memory of another and are saved once."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as tensors:
            names = tensors.keys()
            shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in names}
            return shapes, set(tensors.metadata() or {})
    except (SafetensorError, OSError):
        return {}, set()


def _built_shapes(config: Any, size: int) -> tuple[dict[str, tuple[int, ...]], set[str], bool]:
    """Build a fresh policy, without memory where that works.

    Returns:
        `tuple`: Shapes by name, which of them are parameters, and whether the policy loads in its own way.
    """
    import torch
    from lerobot.policies.factory import get_policy_class
    from lerobot.policies.pretrained import PreTrainedPolicy

    cls = get_policy_class(config.type)
    remaps = cls.from_pretrained.__func__ is not PreTrainedPolicy.from_pretrained.__func__
    remaps = remaps or cls._load_as_safetensor.__func__ is not PreTrainedPolicy._load_as_safetensor.__func__
    for name in vars(config):
        # Weights of a backbone would be downloaded only to be replaced.
        if name.startswith("pretrained_") and name.endswith("_weights"):
            setattr(config, name, None)
    try:
        with torch.device("meta"):
            policy = cls(config)
    except (RuntimeError, NotImplementedError, ValueError, TypeError):
        if size > _BUILD_ON_CPU_BYTES:
            raise
        policy = cls(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in policy.state_dict().items()}
    return shapes, {name for name, _ in policy.named_parameters()}, remaps


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
