# SPDX-License-Identifier: Apache-2.0
"""PyAV for the stock LeRobot CLIs: the video backend `pyav`, and a camera for any source PyAV opens.

Importing this package makes `--dataset.video_backend=pyav` ours as soon as LeRobot's dataset code is
imported; PyAV and torch are imported no earlier than LeRobot does.
"""

from importlib import import_module

from lerobot_ext.plugins import load_all, when_imported

__version__ = "0.1.0"


when_imported("lerobot.datasets.dataset_reader", lambda: import_module(f"{__name__}.backend").install())
when_imported(
    "lerobot.datasets.streaming_dataset",
    lambda: import_module(f"{__name__}.backend").install_for_streaming(),
)
load_all()
