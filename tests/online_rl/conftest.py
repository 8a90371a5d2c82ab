# SPDX-License-Identifier: Apache-2.0
"""Logs and a checkpoint that all tests here share; both are only read."""

import online_toy
import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    """Small networks: more threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="package")
def logs(tmp_path_factory):
    return online_toy.write_logs(tmp_path_factory.mktemp("walks") / "logs")


@pytest.fixture(scope="package")
def checkpoint(logs, tmp_path_factory):
    return online_toy.write_checkpoint(tmp_path_factory.mktemp("lapo") / "pretrained_model", logs)
