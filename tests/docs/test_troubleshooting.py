# SPDX-License-Identifier: Apache-2.0
"""`docs/troubleshooting.md` keys on texts that programs really print."""

import ast
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from doc_blocks import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| message", "|---"))
]
# What compiled code, the system or a dependency says, so that no Python source we can read has it.
OUTSIDE = {
    "Parquet magic bytes not found in footer",  # pyarrow, C++
    "mat1 and mat2 shapes cannot be multiplied",  # torch, C++
    "size mismatch for",  # torch
    "CUDA out of memory",  # torch, C++
    "[WinError 1314] A required privilege is not held by the client",  # Windows
    "has no attribute 'task_description",  # Python; quotes at the ends are cut off
    "unrecognized arguments",  # argparse
    "invalid choice",  # argparse
    "OfflineModeIsEnabled",  # huggingface_hub
    "Cannot reach",  # huggingface_hub
    "LocalEntryNotFoundError",  # huggingface_hub
    "check your connection",  # huggingface_hub
    "RepositoryNotFoundError",  # huggingface_hub
    "ConnectError",  # httpx
    "Name or service not known",  # the system
    "Address already in use",  # the system
    "KeyError: 'observation.environment_state",  # Python; quotes at the ends are cut off
    "config.json not found in",  # LeRobot; the file's name is a constant
    "EOFError",
    "No matching distribution found for lerobot_",  # pip
    "FileNotFoundError",
    "Could not load libtorchcodec",
    "There is no status packet",
}


@cache
def texts() -> str:
    """All text that our code and LeRobot's can print; values within it are left out."""
    lerobot = Path(str(find_spec("lerobot").origin)).parent
    draccus = Path(str(find_spec("draccus").origin)).parent
    folders = [ROOT / name for name in ("lerobot_ext", "robots", "policies", "processors")]
    files = [file for folder in [*folders, lerobot, draccus] for file in folder.rglob("*.py")]
    found = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                found.append(node.name)
    return "\n".join(found)


def parts(message: str) -> list[str]:
    """The pieces of a message between what changes."""
    pieces = re.split(r"…", message)
    return [piece.strip(" ,.:;'\"`()") for piece in pieces]


def spans(cell: str) -> list[str]:
    return re.findall(r"`` ?(.+?) ?``|`([^`]+)`", cell)


def test_each_message_is_printed_by_some_code():
    unknown = []
    for cell, *_ in ROWS:
        for double, single in spans(cell):
            for piece in parts(double or single):
                if len(piece) > 5 and piece not in OUTSIDE and piece not in texts():
                    unknown.append(piece)
    assert not unknown


def test_each_row_has_something_to_do():
    assert len(ROWS) > 60
    for row in ROWS:
        assert len(row) == 3, row
        assert row[2], row


def test_pieces_are_cut_where_values_stand():
    assert parts("Policy type '…' is not registered") == ["Policy type", "is not registered"]
