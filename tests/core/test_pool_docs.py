# SPDX-License-Identifier: Apache-2.0
"""`docs/memory_pool.md`: its values are read, its figures add up, its names are there."""

import re
from pathlib import Path

from lerobot_ext.data.pool.arena import Geometry
from lerobot_ext.data.pool.budget import default_folder, parse_budget
from lerobot_ext.data.pool.episode_pool import EpisodePool
from lerobot_ext.data.pool.size import ResizeAsTrained

PAGE = (Path(__file__).parents[2] / "docs/memory_pool.md").read_text(encoding="utf-8")


def test_each_value_of_the_table_is_read():
    values = re.findall(r"^\| `([^`]*\d[^`]*)` \|", PAGE, re.MULTILINE)
    assert len(values) == 4
    for value in values:
        assert parse_budget(value).n_bytes >= 8 * 2**30
    assert re.findall(r"LEROBOT_EXT_POOL=(\S+)", PAGE) == ["8GiB"]


def test_the_sizes_add_up():
    rows = re.findall(r"^\| (\d+)x(\d+) \| ([\d.]+) \| (\d+) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 4
    for height, width, gib, *frames in rows:
        picture = 3 * int(height) * int(width)
        assert f"{picture * 1000 / 2**30:.3f}" == gib
        assert [round(8 * 2**30 / (picture * n)) for n in (1, 2, 3)] == [int(n) for n in frames]


def test_a_frame_takes_its_pixels_and_a_byte_a_camera():
    geometry = Geometry(("a", "b"), ((3, 48, 64), (1, 48, 64)), ("uint8", "uint16"), 1, 1000)
    pixels = 48 * 64 * (3 + 2)
    assert geometry.n_bytes - geometry.first_picture == 1000 * pixels
    assert geometry.first_picture <= 4096 + 1000 * 2 + 64


def test_the_names_are_there(monkeypatch):
    for name in ("begin_epoch", "active", "advance", "fill", "frames"):
        assert f"`{name}`" in PAGE
        assert callable(getattr(EpisodePool, name))
    assert ResizeAsTrained._registry_name in PAGE
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_folder() == Path("~/.cache/lerobot_ext/pool").expanduser()
