# SPDX-License-Identifier: Apache-2.0
"""Old values end up beside the frames in which they were recorded, and nowhere else."""

import json
from pathlib import Path

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot_robot_koch.stale_sidecar import SIDECAR_PATH, StaleSidecar
from lerobot_robot_koch.stale_values import StaleJournal, StaleValue

from lerobot_ext.data import writer_hooks

STATE = {"observation.state": {"dtype": "float32", "shape": (6,), "names": list("abcdef")}}


@pytest.fixture
def journal(monkeypatch):
    made = StaleJournal()
    monkeypatch.setattr("lerobot_robot_koch.stale_sidecar.JOURNAL", made)
    sidecar = StaleSidecar()
    writer_hooks.observe(sidecar)
    yield made
    writer_hooks.forget(sidecar)
    writer_hooks.uninstall()


class Recording:
    """What the record loop does with devices and dataset, without devices."""

    def __init__(self, root: Path, journal: StaleJournal, *, resume: bool = False) -> None:
        self.root, self.journal = root, journal
        self.dataset = (
            LeRobotDataset.resume("me/stale", root=root)
            if resume
            else LeRobotDataset.create("me/stale", 30, STATE, root=root, use_videos=False)
        )

    def read(self, follower: float = 0, leader: float = 0) -> None:
        """One turn of the loop; an age in ms makes a value stale."""
        for device, age_ms in (("koch_follower", follower), ("koch_leader", leader)):
            self.journal.start_read(device)
            if age_ms:
                self.journal.add(StaleValue(device, "elbow_flex", age_ms))

    def add(self, **ages: float) -> None:
        self.read(**ages)
        self.add_from_buffer()

    def add_from_buffer(self) -> None:
        self.dataset.add_frame({"observation.state": np.zeros(6, np.float32), "task": "hold"})

    @property
    def lines(self) -> list[tuple[int, int, str, float]]:
        path = self.root / SIDECAR_PATH
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        assert all(row["motor"] == "elbow_flex" for row in rows)
        return [(row["episode_index"], row["frame_index"], row["device"], row["age_ms"]) for row in rows]


@pytest.fixture
def recording(tmp_path, journal):
    return Recording(tmp_path / "set", journal)


def test_each_value_is_with_its_frame(recording):
    recording.add()
    recording.add(follower=41.26)
    recording.add(follower=70, leader=20)
    recording.dataset.save_episode()
    recording.add(leader=33)
    recording.dataset.save_episode()
    assert recording.lines == [
        (0, 1, "koch_follower", 41.3),
        (0, 2, "koch_follower", 70.0),
        (0, 2, "koch_leader", 20.0),
        (1, 0, "koch_leader", 33.0),
    ]


def test_values_from_between_episodes_leave_nothing(recording):
    recording.add()
    recording.read(follower=50)
    recording.read(leader=60)
    recording.dataset.save_episode()
    recording.read(follower=50, leader=60)
    recording.add(follower=10)
    recording.dataset.save_episode()
    assert recording.lines == [(1, 0, "koch_follower", 10.0)]


def test_an_episode_that_is_recorded_anew_leaves_nothing(recording):
    recording.add(follower=50)
    recording.dataset.clear_episode_buffer()
    recording.add()
    recording.add(follower=20)
    recording.dataset.save_episode()
    assert recording.lines == [(0, 1, "koch_follower", 20.0)]


def test_frames_from_a_buffer_get_no_values_of_later_reads(recording):
    """`lerobot-rollout --strategy.type=highlight`: frames that were kept, then the present one."""
    for _ in range(3):
        recording.read()
    recording.read(follower=50)
    for _ in range(4):
        recording.add_from_buffer()
    recording.add(follower=20)
    recording.add()
    recording.dataset.save_episode()
    assert recording.lines == [(0, 4, "koch_follower", 20.0)]


def test_no_stale_value_no_file(recording):
    recording.add()
    recording.dataset.save_episode()
    recording.dataset.finalize()
    assert not (recording.root / SIDECAR_PATH).exists()


def test_resuming_appends_even_behind_a_torn_line(recording, journal):
    recording.add(follower=50)
    recording.dataset.save_episode()
    recording.dataset.finalize()
    with open(recording.root / SIDECAR_PATH, "a") as file:
        file.write('{"episode_ind')
    again = Recording(recording.root, journal, resume=True)
    again.add(leader=60)
    again.dataset.save_episode()
    again.dataset.finalize()
    lines = (again.root / SIDECAR_PATH).read_text().splitlines()
    assert [json.loads(lines[n])["episode_index"] for n in (0, 2)] == [0, 1]


def test_the_dataset_loads_as_without_it_and_pandas_reads_it(recording):
    import pandas as pd

    recording.add()
    recording.add(follower=50)
    recording.dataset.save_episode()
    recording.dataset.finalize()
    dataset = LeRobotDataset("me/stale", root=recording.root)
    assert len(dataset) == 2
    assert set(dataset[1]) == {
        "observation.state",
        "timestamp",
        "frame_index",
        "episode_index",
        "index",
        "task_index",
        "task",
    }
    stale = pd.read_json(recording.root / SIDECAR_PATH, lines=True)
    assert stale.groupby("motor").age_ms.max().to_dict() == {"elbow_flex": 50}


def test_a_failing_observer_does_not_cost_the_recording(recording, caplog):
    class Broken(writer_hooks.WriterObserver):
        n_calls = 0

        def frame_added(self, writer, frame_index):
            self.n_calls += 1
            raise ValueError("broken")

    broken = Broken()
    writer_hooks.observe(broken)
    recording.add()
    recording.add(follower=50)
    recording.dataset.save_episode()
    writer_hooks.forget(broken)
    assert broken.n_calls == 1
    assert "Broken stopped working at frame_added" in caplog.text
    assert recording.lines == [(0, 1, "koch_follower", 50.0)]
