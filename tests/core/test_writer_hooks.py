# SPDX-License-Identifier: Apache-2.0
"""The hooks in LeRobot's dataset writer and the journal they feed."""

import inspect
import json
import os
from pathlib import Path

import lerobot
import pyarrow.parquet as pq
import pytest
from cut_off_recording import KINDS, LENGTHS, features, frame, record
from lerobot.datasets import dataset_writer
from lerobot.datasets.dataset_writer import DatasetWriter
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_ext.cli.main import main
from lerobot_ext.data import episode_journal, hook, journal_files, writer_hooks


@pytest.fixture(autouse=True)
def _stock_at_first():
    """A test before, in this process, may have loaded all plugins."""
    episode_journal.stop()
    writer_hooks.uninstall()


@pytest.fixture
def journaled():
    episode_journal.start()
    yield
    episode_journal.stop()
    writer_hooks.uninstall()


def start(root: Path, kind: str = "joints") -> LeRobotDataset:
    more = {key: value for key, value in KINDS[kind].items() if "size" not in key and key != "use_videos"}
    return LeRobotDataset.create(
        "me/cut", 30, features(kind), root=root, use_videos=kind not in ("image", "joints"), **more
    )


def add_episode(dataset: LeRobotDataset, episode: int, kind: str = "joints") -> None:
    for index in range(LENGTHS[episode % len(LENGTHS)]):
        dataset.add_frame(frame(kind, episode, index))
    dataset.save_episode()


# --- LeRobot is as we know it: these fail when it changes


def test_lerobot_still_calls_what_we_wrap():
    source = inspect.getsource(DatasetWriter._save_episode_data)
    assert "self._pq_writer = pq.ParquetWriter(" in source
    assert "self._pq_writer.write_table(table)" in source
    used = inspect.getsource(dataset_writer).replace(source, "")
    assert used.count("pq.") == used.count("self._pq_writer: pq.ParquetWriter | None = None") == 1
    assert "concatenate_video_files(" in inspect.getsource(DatasetWriter._save_episode_video)
    for name in ("add_frame", "save_episode", "clear_episode_buffer", "finalize"):
        assert f"self.writer.{name}(" in inspect.getsource(getattr(LeRobotDataset, name))


def test_another_lerobot_is_left_alone_with_one_line(monkeypatch, caplog):
    stock = DatasetWriter.save_episode
    monkeypatch.setattr(lerobot, "__version__", "0.9.0")
    assert not writer_hooks.install()
    assert DatasetWriter.save_episode is stock
    assert "Install lerobot>=0.6.1,<0.7" in caplog.text


def test_uninstalling_gives_lerobot_its_code_back():
    names = ("add_frame", "save_episode", "clear_episode_buffer", "finalize")
    before = [getattr(DatasetWriter, name) for name in names]
    assert writer_hooks.install()
    assert writer_hooks.install()
    assert DatasetWriter.save_episode.__wrapped__ is before[1]
    writer_hooks.uninstall()
    assert [getattr(DatasetWriter, name) for name in names] == before
    assert dataset_writer.pq is pq


@pytest.mark.parametrize(("switch", "journals"), [("on", True), ("off", False), ("", True)])
def test_the_switch(monkeypatch, tmp_path, switch, journals):
    monkeypatch.setenv(hook.JOURNAL_SWITCH, switch)
    hook.install_where_datasets_are_written()
    dataset = start(tmp_path / "set")
    add_episode(dataset, 0)
    assert (tmp_path / "set" / journal_files.FOLDER).exists() == journals
    episode_journal.stop()
    writer_hooks.uninstall()
    dataset.finalize()


def test_a_wrong_switch_is_named(monkeypatch):
    monkeypatch.setenv(hook.JOURNAL_SWITCH, "maybe")
    with pytest.raises(ValueError, match="LEROBOT_EXT_JOURNAL is 'maybe'"):
        hook.install_where_datasets_are_written()


# --- what the hooks change


@pytest.mark.parametrize("kind", ["video", "image"])
def test_a_journaled_dataset_is_the_one_that_stock_writes(tmp_path, journaled, kind):
    root = tmp_path / "set"  # the names of image files are part of the data
    record(root, kind)
    root.rename(tmp_path / "ours")
    episode_journal.stop()
    writer_hooks.uninstall()
    record(root, kind)
    root.rename(tmp_path / "stocks")
    episode_journal.start()

    def contents(root: Path) -> dict[str, bytes]:
        return {
            path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
        }

    assert contents(tmp_path / "ours") == contents(tmp_path / "stocks")


def test_joining_videos_never_leaves_half_a_file(tmp_path, journaled, monkeypatch):
    """Stock copies over the old file when the temporary folder is on another disk."""
    root = tmp_path / "set"
    dataset = start(root, "video")
    add_episode(dataset, 0, "video")
    path = next(root.rglob("file-000.mp4"))
    before = path.read_bytes()

    def interrupted_copy(inputs, output):
        Path(output).write_bytes(before[: len(before) // 2])
        raise OSError("no space left")

    stock = writer_hooks._patch.stock
    replaced = {"concatenate_video_files": interrupted_copy}
    monkeypatch.setattr(writer_hooks._patch, "stock", lambda name: replaced.get(name) or stock(name))
    with pytest.raises(OSError, match="no space left"):
        add_episode(dataset, 1, "video")
    assert path.read_bytes() == before
    monkeypatch.undo()
    dataset.finalize()


# --- the journal


def test_the_journal_holds_every_saved_episode_and_goes_at_the_end(tmp_path, journaled):
    root = tmp_path / "set"
    dataset = start(root)
    add_episode(dataset, 0)
    add_episode(dataset, 1)
    assert journal_files.journaled_episodes(root) == [0, 1]
    assert pq.read_table(journal_files.data_part(root, 1)).column("frame_index").to_pylist() == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert not list(root.rglob("*.unfinished.*"))
    dataset.finalize()
    assert not (root / journal_files.FOLDER).exists()


def test_rows_go_when_their_data_file_is_complete(tmp_path, journaled):
    root = tmp_path / "set"
    dataset = start(root)
    dataset.meta.update_chunk_settings(data_files_size_in_mb=1e-4)
    for episode in range(3):
        add_episode(dataset, episode)
    assert journal_files.journaled_episodes(root) == [0, 1, 2]
    assert [journal_files.data_part(root, episode).exists() for episode in range(3)] == [False, False, True]
    dataset.finalize()


def test_a_full_disk_does_not_cost_the_recording(tmp_path, journaled, monkeypatch, caplog):
    def no_space(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(episode_journal, "_copy_into_journal", no_space)
    record(tmp_path / "set", "joints")
    assert "EpisodeJournal stopped working at frame_added (OSError: No space left on device)" in caplog.text
    assert LeRobotDataset("me/cut", root=tmp_path / "set").num_episodes == 3


def test_resuming_without_a_repair_keeps_the_old_journal(tmp_path, journaled, caplog):
    """Stock resumes a dataset whose metadata was mended by hand, unaware of the journal."""
    root = tmp_path / "set"
    record(root, "joints", 1)
    folder = root / journal_files.FOLDER
    folder.mkdir()
    for part in ("data", "meta"):
        (folder / f"episode_000001.{part}.parquet").write_bytes(b"kept")
    record(root, "joints", 1, resume=True)
    aside = list((root / "meta").glob("journal-*"))
    assert [path.name for path in sorted(aside[0].iterdir())] == [
        "episode_000001.data.parquet",
        "episode_000001.meta.parquet",
    ]
    assert "was cut off and never repaired" in caplog.text


def test_resuming_a_cut_off_resumed_recording_keeps_its_journal(tmp_path, journaled, caplog):
    """With fewer than ten new episodes `meta/episodes` is readable and stock resumes as if all were well."""
    from cut_off_recording import LATE_MOMENTS, killed

    root = tmp_path / "set"
    record(root, "joints", 1)
    killed(LATE_MOMENTS["before the end"], lambda: record(root, "joints", 2, resume=True))
    assert journal_files.journaled_episodes(root) == [1, 2]
    with pytest.raises(writer_hooks.RecordingRefusedError, match=r"2 episodes.*`lerobot-ext repair"):
        record(root, "joints", 1, resume=True)
    assert journal_files.journaled_episodes(root) == [1, 2]
    session = root / journal_files.FOLDER / "session.json"
    session.write_text(json.dumps(json.loads(session.read_text()) | {"process_started": 0}))
    assert main(["repair", str(root)]) == 0
    assert LeRobotDataset("me/cut", root=root).num_episodes == 3


def test_a_recording_that_runs_is_not_repaired(tmp_path, journaled, capsys):
    root = tmp_path / "set"
    dataset = start(root)
    add_episode(dataset, 0)
    assert main(["repair", str(root)]) == 2
    error = capsys.readouterr().err
    assert f"is being recorded at this moment, by process {os.getpid()}" in error
    assert f"kill {os.getpid()}" in error
    dataset.finalize()


def test_another_process_under_the_same_number_is_told_apart(tmp_path):
    (tmp_path / "meta/journal").mkdir(parents=True)
    path = tmp_path / "meta/journal/session.json"
    journal_files.write_session(path, 0)
    assert journal_files.recording_process(tmp_path) == os.getpid()
    session = json.loads(path.read_text())
    path.write_text(json.dumps(session | {"process_started": session["process_started"] - 1}))
    assert journal_files.recording_process(tmp_path) is None
    path.write_text(json.dumps(session | {"host": "elsewhere"}))
    assert journal_files.recording_process(tmp_path) is None
