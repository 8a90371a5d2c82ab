# SPDX-License-Identifier: Apache-2.0
"""Where an installed distribution came from: what pip and uv noted of it (PEP 610)."""

import json
from importlib import metadata
from pathlib import Path
from typing import Any


def origin_of(distribution: metadata.Distribution) -> dict[str, Any]:
    """What the installer noted; empty for a distribution from an index."""
    try:
        value = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def is_editable(distribution: metadata.Distribution) -> bool:
    """Whether its code is that of the folder it was installed from."""
    return bool(origin_of(distribution).get("dir_info", {}).get("editable"))


def folder_of(distribution: metadata.Distribution) -> Path | None:
    """The folder that it was installed from, editable or not; None if it was none."""
    # Imported here: stock commands import this module, and few ask it.
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    origin = origin_of(distribution)
    if "dir_info" not in origin:
        return None
    return Path(url2pathname(urlsplit(str(origin.get("url", ""))).path))
