# SPDX-License-Identifier: Apache-2.0
"""Small networks on one thread: more of them only wait for each other."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
