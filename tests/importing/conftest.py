# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from lerobot_ext.importing.sample import write_sample


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small whole file of each layout: 120 frames, 64x64."""
    folder = tmp_path_factory.mktemp("hdf5")
    paths = {layout: folder / f"{layout}.hdf5" for layout in ("lapo", "robomimic", "aloha")}
    for layout, path in paths.items():
        write_sample(path, layout, 120, size=64)
    return paths
