# SPDX-License-Identifier: Apache-2.0
"""Logs and a checkpoint that all tests here share; both are only read."""

import online_toy
import pytest
from lerobot_env_koch.config import KochEnvConfig  # noqa: F401 - registers what plugins register

from lerobot_ext.doctor.checkpoint_child import load_plugins


@pytest.fixture(scope="package")
def logs(tmp_path_factory):
    load_plugins()
    return online_toy.write_logs(tmp_path_factory.mktemp("walks") / "logs")


@pytest.fixture(scope="package")
def checkpoint(logs, tmp_path_factory):
    return online_toy.write_checkpoint(tmp_path_factory.mktemp("lapo") / "pretrained_model", logs)
