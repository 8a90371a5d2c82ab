# SPDX-License-Identifier: Apache-2.0
"""A checkpoint as files: which ones belong to it, whether it is whole, and what goes to the Hub."""

import json
import struct
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from lerobot_ext.hub import card, plot
from lerobot_ext.hub.history import TrainingHistory
from lerobot_ext.hub.requirements import Requirements

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
CARD = "README.md"
PROCESSORS = ("policy_preprocessor.json", "policy_postprocessor.json")
PATTERNS = ("*.safetensors", "*.json", "*.yaml", "*.md", "*.png")
STATE_PATTERNS = ("policy_preprocessor_step_*.safetensors", "policy_postprocessor_step_*.safetensors")
MIGRATION = "python -m lerobot.processor.migrate_policy_normalization --pretrained-path"
_MAX_HEADER = 100 << 20
# What the templates of Hugging Face's libraries leave to their user; PEFT writes such a card unasked.
UNWRITTEN = "[More Information Needed]"
LOCAL_BASE = (
    "lerobot_ext: the adapters change the policy in %s, a folder of this machine: nobody else can load them. "
    "Push that policy too, and train with --policy.path=USER/REPO."
)


class CheckpointError(ValueError):
    """A folder is no whole checkpoint; `remedy` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True)
class Problem:
    """Something that keeps a checkpoint from being loaded, or loaded rightly."""

    file: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


def find_checkpoint(folder: Path) -> Path:
    """The folder with `config.json` that a user meant: itself, a checkpoint's, or a run's last one.

    Raises:
        CheckpointError: There is none.
    """
    for place in (folder, folder / "pretrained_model", folder / "checkpoints" / "last" / "pretrained_model"):
        if (place / CONFIG).is_file():
            return place
    raise CheckpointError(
        f"{folder} holds no checkpoint: no {CONFIG}, pretrained_model/{CONFIG} or checkpoints/last",
        "name the folder `pretrained_model` of a checkpoint, or the output folder of lerobot-train",
    )


def files_of(folder: Path) -> dict[str, Path]:
    """The files of a checkpoint by the name they have on the Hub; folders in it belong to other things."""
    return {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.is_file()
        and not path.name.startswith(".")
        and ".unfinished" not in path.name
        and any(fnmatch(path.name, pattern) for pattern in PATTERNS)
    }


def read_config(folder: Path) -> dict[str, Any]:
    """The policy's `config.json`.

    Raises:
        CheckpointError: It is not there, no JSON object, or names no policy type.
    """
    path = folder / CONFIG
    remedy = "this is no checkpoint of a LeRobot policy; name another one, or get it again"
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path} is not there", remedy) from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}", remedy) from None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise CheckpointError(f"{path} has no text in field `type`", remedy)
    return value


def steps_of(folder: Path) -> list[dict[str, Any]]:
    """The entries of all processor steps that are saved in `folder`; broken files count as empty."""
    found: list[dict[str, Any]] = []
    for name in PROCESSORS:
        try:
            value = json.loads((folder / name).read_bytes())
        except (FileNotFoundError, ValueError):
            continue
        steps = value.get("steps") if isinstance(value, dict) else None
        found.extend(step for step in steps or [] if isinstance(step, dict))
    return found


def adapted_folder(folder: Path) -> str:
    """The folder whose policy a checkpoint's PEFT adapters change; empty without, or if that is on the Hub.

    A folder exists on the machine that trained the adapters, and nowhere else.
    """
    try:
        base = json.loads((folder / ADAPTER[0]).read_bytes()).get("base_model_name_or_path")
    except (FileNotFoundError, ValueError, AttributeError):
        return ""
    if not isinstance(base, str) or not base:
        return ""
    on_the_hub = base.count("/") == 1 and not base.startswith((".", "/", "~")) and not Path(base).is_dir()
    return "" if on_the_hub else base


def examine(folder: Path, source: str = "") -> list[Problem]:
    """What is wrong with a checkpoint's files; empty when it is whole.

    Looked at are the configuration, the weights, both processors and every state file they name. Contents are
    checked as far as a header goes: that the tensors it lists fill the file.

    Args:
        folder (`Path`): The checkpoint.
        source (`str`, *optional*): Where it came from, for the remedies.
    """
    again = "get the checkpoint again, or ask who pushed it"
    problems = []
    try:
        read_config(folder)
    except CheckpointError as error:
        return [Problem(CONFIG, str(error), error.remedy)]
    if not (folder / WEIGHTS).is_file() and not all((folder / name).is_file() for name in ADAPTER):
        problems.append(Problem(WEIGHTS, "the weights are missing", again))
    base = adapted_folder(folder)
    if base and not Path(base).is_dir():
        remedy = "ask for the base on the Hub, and for adapters trained with --policy.path=USER/REPO"
        problems.append(
            Problem(ADAPTER[0], f"adapts {base}, a folder of the machine that trained it", remedy)
        )
    for name in PROCESSORS:
        if not (folder / name).is_file():
            remedy = f"a checkpoint of an old LeRobot? `{MIGRATION} {source or folder}`"
            problems.append(Problem(name, "is missing, and with it the normalisation", remedy))
            continue
        try:
            steps = json.loads((folder / name).read_bytes())["steps"]
            if not isinstance(steps, list):
                raise TypeError(f"`steps` is {steps!r}, a list is needed")
        except (ValueError, KeyError, TypeError) as error:
            problems.append(Problem(name, f"is no processor ({type(error).__name__}: {error})", again))
    for entry in steps_of(folder):
        state = entry.get("state_file")
        if state is not None and not (folder / str(state)).is_file():
            step = entry.get("registry_name") or entry.get("class")
            problems.append(Problem(str(state), f"is missing; step {step} keeps its state there", again))
    for name, path in files_of(folder).items():
        fault = safetensors_fault(path) if path.suffix == ".safetensors" else ""
        if fault:
            problems.append(Problem(name, fault, again))
    return problems


def safetensors_fault(path: Path) -> str:
    """What is wrong with a safetensors file as far as header and length tell; empty when nothing is.

    The format: 8 bytes little-endian length, a JSON header with each tensor's `data_offsets`, the data.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        if len(head) < 8:
            return f"has {size} bytes, fewer than a header needs"
        (length,) = struct.unpack("<Q", head)
        if length > min(_MAX_HEADER, size - 8):
            return f"says its header has {length} bytes; the file has {size}"
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return "has a header that cannot be read"
    expected = 8 + length + max(ends, default=0)
    return "" if size == expected else f"has {size} bytes, its header asks for {expected}"


def complete(
    folder: Path, needs: Requirements, out: Path, repo_id: str, base: dict[str, Any] | None = None
) -> None:
    """Write what a checkpoint in `folder` still lacks for the Hub, card and picture, into `out`.

    Args:
        folder (`Path`): The checkpoint.
        needs (`Requirements`): What it needs, and the facts for the card.
        out (`Path`): Where to write; may be `folder`.
        repo_id (`str`): Where it will be pushed.
        base (`dict`, *optional*): Metadata of a card to start from.

    Raises:
        CheckpointError: The configuration cannot be read.
        ValueError: The history in `needs` is not of its form.
    """
    history = TrainingHistory.from_json(needs.history)
    picture = plot.FILE_NAME if plot.draw(history, out / plot.FILE_NAME) else None
    text = card.make_card(read_config(folder), needs, repo_id, picture, base)
    (out / CARD).write_text(text, encoding="utf-8")
