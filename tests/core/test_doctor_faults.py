# SPDX-License-Identifier: Apache-2.0
"""Prepared faults: the doctor names exactly each, with a remedy, and finds nothing on its healthy twin."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from doctor_faults import Fault, World, checkpoints, datasets, machines

FAULTS: list[Fault] = [*checkpoints.FAULTS, *machines.FAULTS, *datasets.FAULTS, *datasets.FIT_FAULTS]


@pytest.fixture(scope="session")
def originals(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    checkpoints.build(folder / "checkpoint")
    datasets.build(folder)
    return folder


@pytest.fixture
def world(tmp_path, originals, monkeypatch) -> Iterator[World]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "helpers"))
    yield World(tmp_path, originals)
    shutil.rmtree(tmp_path)  # each holds the weights once more


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_the_fault_is_named_and_nothing_else(fault, world):
    section = fault.examine(world)
    found = [(finding.level, finding.kind, finding.subject) for finding in section.findings]
    assert found == [(fault.level, fault.kind, fault.subject.format(tmp=world.tmp))], section.findings
    [finding] = section.findings
    assert finding.remedy
    assert finding.message
    assert section.ok == (fault.level == "note")


def test_a_healthy_checkpoint_has_no_finding(world):
    assert checkpoints.broken()(world).findings == []


@pytest.mark.parametrize("name", machines.HEALTHY)
def test_a_healthy_machine_has_no_finding(name, world):
    assert machines.HEALTHY[name](world).findings == []


@pytest.mark.parametrize("name", datasets.HEALTHY)
def test_a_healthy_dataset_has_no_finding(name, world):
    assert datasets.HEALTHY[name](world).findings == []
