# SPDX-License-Identifier: Apache-2.0
"""Rows that other benchmarks measure: windows of actions (`ram_reader.py`), the pool (`memory_pool.py`)."""

import json
import subprocess
import sys
from pathlib import Path

from data_path_parts.contestants import STOCK, Cost, apart

HERE = Path(__file__).parents[1]
WINDOWS = ("state only", "16 actions", "100 actions")


def windows(folder: Path, case: str, *, quick: bool) -> dict[str, Cost]:
    """An item without pictures, through LeRobot's own reader and through columns in RAM."""
    row: Cost = apart(_window, folder / f"windows-{4 if quick else 20}", case, quick)
    return {STOCK: {"wall_ms": row["stock_ms"]}, "columns in RAM": {"wall_ms": row["ram_ms"]}}


def _window(root: Path, case: str, quick: bool) -> Cost:
    import ram_reader

    if not root.exists():
        ram_reader.write_dataset(root, episodes=4 if quick else 20, length=150)
    return ram_reader.measure(root, ram_reader.CASES[case], 40 if quick else 400)


def pool(folder: Path, *, quick: bool) -> dict[str, dict[str, Cost]] | None:
    """What `memory_pool.py` measured, case by case and contestant by contestant; `None` if it is not there.

    It is run as `memory_pool.py [--quick] --out DIR`, and leaves `DIR/memory_pool.json`.
    """
    script = HERE / "memory_pool.py"
    if not script.exists():
        return None
    out = folder / "memory_pool"
    command = [sys.executable, str(script), *(["--quick"] if quick else []), "--out", str(out)]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"{script.name} ended with {ran.returncode}:\n{ran.stderr[-2000:]}")
    cases: dict[str, dict[str, Cost]] = json.loads((out / "memory_pool.json").read_text())
    return cases
