# SPDX-License-Identifier: Apache-2.0
"""What the video plugin alone adds to the start of the stock trainer, with our other plugins there or not."""

import statistics
import tempfile
from pathlib import Path

import startup

from data_path_parts.contestants import Cost

PLUGIN = "lerobot_camera_pyav"
MODULE = "lerobot.scripts.lerobot_train"


def start(*, quick: bool) -> dict[str, Cost]:
    """CPU milliseconds of `lerobot-train --help`, without the plugin and with it, in turns.

    `imports_ms` is steadier: what Python needs to import the modules that are only loaded with the plugin.
    """
    ours = startup.our_distributions()
    with tempfile.TemporaryDirectory() as folder:
        bare = startup.site_without(Path(folder) / "bare", {dist.name for dist in ours})
        paths = {}
        for side, chosen in (
            ("without", [dist for dist in ours if dist.name != PLUGIN]),
            ("with", ours),
        ):
            metadata = Path(folder) / side
            metadata.mkdir()
            for dist in chosen:
                info = Path(str(dist._path))  # type: ignore[attr-defined]
                (metadata / info.name).symlink_to(info)
            paths[side] = [bare, metadata, *dict.fromkeys(map(startup.source_root, chosen))]
        imports = {side: startup.import_times(MODULE, path) for side, path in paths.items()}
        spent: dict[str, list[float]] = {side: [] for side in paths}
        for _ in range(1 if quick else 4):
            for side, path in paths.items():
                spent[side].append(startup.timed(MODULE, path)[1] * 1e3)
    added = sum(ms for name, ms in imports["with"].items() if name not in imports["without"])
    costs = {
        name: {"cpu_ms": statistics.median(spent[side]), "least_ms": min(spent[side])}
        for name, side in (("without the plugin", "without"), ("with it", "with"))
    }
    costs["with it"]["imports_ms"] = added
    return costs
