# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext repair` after a kill at every moment of a recording: whole episodes, equal to the original."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from cut_off_recording import LATE_MOMENTS, LENGTHS, MOMENTS, forked, killed, record
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_ext.cli.main import main
from lerobot_ext.data import episode_journal, journal_files, writer_hooks
from lerobot_ext.repair.survey import survey


@pytest.fixture(autouse=True)
def _journal():
    episode_journal.start()
    yield
    episode_journal.stop()
    writer_hooks.uninstall()


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Uncut recordings by kind, made when they are first asked for."""
    made = {}

    def original(kind: str) -> LeRobotDataset:
        if kind not in made:
            root = tmp_path_factory.mktemp("original") / kind
            record(root, kind)
            made[kind] = load(root)
        return made[kind]

    return original


def load(root: Path) -> LeRobotDataset:
    return LeRobotDataset("me/cut", root=root, video_backend="pyav")


def repair(root: Path, *options: str) -> int:
    return main(["repair", str(root), *options])


def assert_first_episodes(root: Path, original: LeRobotDataset, n_episodes: int) -> LeRobotDataset:
    """The dataset is exactly the first episodes of the original: every number, every pixel, every count."""
    dataset = load(root)
    assert dataset.num_episodes == n_episodes
    assert dataset.num_frames == sum(LENGTHS[:n_episodes]) == len(dataset.hf_dataset)
    for index in range(dataset.num_frames):
        ours, theirs = dataset[index], original[index]
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            same = torch.equal(ours[key], value) if isinstance(value, torch.Tensor) else ours[key] == value
            assert same, (index, key)
    info = json.loads((root / "meta/info.json").read_text())
    assert info["splits"] == {"train": f"0:{n_episodes}"}
    assert info["total_tasks"] == len(dataset.meta.tasks)
    assert dataset.meta.stats["index"]["count"].tolist() == [dataset.num_frames]
    assert dataset.meta.stats["action"]["max"].shape == (6,)
    return dataset


def moments_of(kind: str) -> list[str]:
    skip = {"between video and metadata"} if kind in ("image", "joints") else set()
    return [name for name in (*MOMENTS, *LATE_MOMENTS) if name not in skip]


CASES = [(kind, moment) for kind in ("video", "image") for moment in moments_of(kind)]
CASES += [
    (kind, moment)
    for kind in ("streaming", "joints", "small_files", "image_writer")
    for moment in ("while frames come in", "between rows and video", "between data and metadata footers")
]


@pytest.mark.parametrize(("kind", "moment"), CASES)
def test_kill(tmp_path, originals, kind, moment):
    original = originals(kind)
    root = tmp_path / "cut"
    late = moment in LATE_MOMENTS
    killed(LATE_MOMENTS.get(moment) or MOMENTS[moment], lambda: record(root, kind))
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert repair(root, "--dry-run") == 1
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    assert repair(root) == 0
    n_kept = len(LENGTHS) if late else len(LENGTHS) - 1
    assert_first_episodes(root, original, n_kept)
    backups = list(tmp_path.glob("cut.repair-backup-*"))
    assert len(backups) == 1
    assert {backups[0] / path.relative_to(root): data for path, data in before.items()} == {
        path: path.read_bytes() for path in backups[0].rglob("*") if path.is_file()
    }
    assert repair(root) == 0
    assert list(tmp_path.glob("cut.repair-backup-*")) == backups, "a healthy dataset needs no backup"
    if not late:
        record(root, kind, 1, resume=True)
        resumed = assert_first_episodes(root, original, len(LENGTHS))
        assert survey(root).healthy
        assert resumed.meta.episodes["dataset_to_index"][-1] == sum(LENGTHS)


# --- the command


def test_a_healthy_dataset_is_said_to_be(tmp_path, capsys):
    root = tmp_path / "set"
    record(root, "joints")
    assert repair(root) == 0
    assert "is healthy: 3 whole episodes, 18 frames" in capsys.readouterr().out
    assert not list(tmp_path.glob("*backup*"))


def test_json(tmp_path, capsys):
    root = tmp_path / "set"
    killed(MOMENTS["between rows and video"], lambda: record(root, "video"))
    assert repair(root, "--dry-run", "--json") == 1
    plan = json.loads(capsys.readouterr().out)
    assert plan["episodes"] == 2
    assert not plan["repaired"]
    assert {item["path"] for item in plan["findings"]} >= {
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/journal",
    }
    assert repair(root, "--json", "--backup-dir", str(tmp_path / "kept")) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["repaired"]
    assert Path(done["backup"]).parent == tmp_path / "kept"
    assert (Path(done["backup"]) / "meta/journal").is_dir()


def test_a_repo_id_is_looked_up_and_a_stamped_one_suggested(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path))
    record(tmp_path / "me/set_20260101_120000", "joints")
    assert main(["repair", "me/set_20260101_120000"]) == 0
    assert main(["repair", "me/set"]) == 2
    assert "did you mean me/set_20260101_120000?" in capsys.readouterr().err


def test_a_recording_without_a_saved_episode_cannot_be_saved(tmp_path, capsys):
    root = tmp_path / "set"
    from cut_off_recording import Writer, on_call

    killed(lambda: on_call(Writer, "add_frame", 3), lambda: record(root, "joints"))
    assert repair(root) == 2
    error = capsys.readouterr().err
    assert "its recording ended before the first episode was saved" in error
    assert (root / "meta/info.json").exists()


def test_a_stock_recording_without_a_journal_is_explained(tmp_path, capsys):
    root = tmp_path / "set"
    episode_journal.stop()
    killed(MOMENTS["while frames come in"], lambda: record(root, "joints"))
    assert repair(root) == 2
    assert "has no row in meta/episodes, and none in a journal" in capsys.readouterr().err


def test_the_record_of_stale_values_is_cut(tmp_path, originals):
    root = tmp_path / "set"
    killed(MOMENTS["before the journal"], lambda: record(root, "joints"))
    lines = [json.dumps({"episode_index": n, "frame_index": 1}) for n in (0, 1, 2)]
    (root / "meta/stale_values.jsonl").write_text("\n".join(lines) + '\n{"episode_in')
    assert repair(root) == 0
    assert (root / "meta/stale_values.jsonl").read_text() == "\n".join(lines[:2]) + "\n"
    assert_first_episodes(root, originals("joints"), 2)


def test_a_video_that_stock_copied_halfway_keeps_what_is_whole(tmp_path, originals):
    """Where the temporary folder is another disk, stock copies the joined video over the old one."""
    import os

    root = tmp_path / "set"
    killed(LATE_MOMENTS["before the end"], lambda: record(root, "video"))
    path = next((root / "videos").rglob("*.mp4"))
    os.truncate(path, int(path.stat().st_size * 0.75))
    assert repair(root) == 0
    assert_first_episodes(root, originals("video"), 2)


def test_videos_that_were_not_encoded_yet_are(tmp_path, originals):
    root = tmp_path / "set"
    killed(MOMENTS["while frames come in"], lambda: record(root, "batch"))
    assert not (root / "videos").exists()
    assert repair(root) == 0
    dataset = assert_first_episodes(root, originals("small_files"), 2)
    assert dataset.meta.features["observation.images.top"]["info"]["video.codec"] == "av1"
    record(root, "video", 1, resume=True)
    assert_first_episodes(root, originals("small_files"), 3)


def test_a_batch_that_lerobot_fails_to_encode_is_not_lost(tmp_path, originals):
    """LeRobot 0.6.1 cannot encode a batch in a new dataset: it fails, and so does finishing it."""
    root = tmp_path / "set"
    with pytest.raises(TypeError, match="not subscriptable"):
        record(root, "batch_of_two")
    assert repair(root) == 2  # this very process counts as recording
    session = root / "meta/journal/session.json"
    session.write_text(json.dumps(json.loads(session.read_text()) | {"process_started": 0}))
    assert repair(root) == 0
    assert_first_episodes(root, originals("small_files"), 2)


def test_an_interrupted_repair_can_be_run_again(tmp_path, originals, monkeypatch):
    from lerobot_ext.repair import mend

    root = tmp_path / "set"
    killed(MOMENTS["within stats.json"], lambda: record(root, "video"))
    for name in ("_write_data", "_write_stats", "_write_info", "_remove"):
        with monkeypatch.context() as patch:
            patch.setattr(mend, name, lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                repair(root)
    assert repair(root) == 0
    assert_first_episodes(root, originals("video"), 2)
    assert len(list(tmp_path.glob("set.repair-backup-*"))) == 5


@pytest.mark.parametrize("name", ["_write_data", "_write_info"])
def test_a_repair_cut_off_after_encoding_does_not_remove_what_it_encoded(
    tmp_path, originals, monkeypatch, name
):
    from lerobot_ext.repair import mend

    root = tmp_path / "set"
    killed(MOMENTS["while frames come in"], lambda: record(root, "batch"))
    with monkeypatch.context() as patch:
        patch.setattr(mend, name, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            repair(root)
    assert repair(root) == 0
    assert_first_episodes(root, originals("small_files"), 2)


def test_rows_of_a_file_that_changed_are_read_again(tmp_path):
    """Two repairs in one process, of the same folder."""
    root = tmp_path / "set"
    for state in (1.0, 2.0):
        record(root, "joints", 1)
        path = next(root.glob("data/*/*.parquet"))
        table = pq.read_table(path)
        column = table.column_names.index("action")
        values = pa.array([[state] * 6] * table.num_rows, table.schema.field(column).type)
        pq.write_table(table.set_column(column, table.schema.field(column), values), path)
        found = survey(root)
        assert found.rows.table(found.kept[0]).column("action")[0].as_py() == [state] * 6
        shutil.rmtree(root)


def test_a_backup_of_links_holds_the_files(tmp_path):
    """As a dataset in the Hub's cache: files are links into a folder of blobs."""
    from lerobot_ext.repair.mend import back_up

    root = tmp_path / "deep" / "set"
    (root / "data").mkdir(parents=True)
    (root.parent / "blob").write_bytes(b"rows")
    (root / "data/file.parquet").symlink_to("../../blob")
    back_up(root, tmp_path / "backup")
    assert not (tmp_path / "backup/data/file.parquet").is_symlink()
    assert (tmp_path / "backup/data/file.parquet").read_bytes() == b"rows"


def test_a_backup_inside_the_dataset_is_refused(tmp_path, capsys):
    root = tmp_path / "set"
    killed(MOMENTS["while frames come in"], lambda: record(root, "joints"))
    assert repair(root, "--backup-dir", str(root / "backup")) == 2
    assert "is inside the dataset" in capsys.readouterr().err


# --- any moment


@pytest.mark.parametrize("seed", range(6))
def test_kill_at_a_random_time(tmp_path, originals, seed):
    """What was saved when the kill came is there afterwards, at the least; what is there is as it was."""
    import os
    import random
    import signal
    import time

    kind = ("video", "image", "small_files")[seed % 3]
    original, root = originals(kind), tmp_path / "set"
    started = time.monotonic()
    record(tmp_path / "timed", kind)
    delay_s = random.Random(seed).uniform(0.4, 1.0) * (time.monotonic() - started)
    child = forked(lambda: record(root, kind))
    time.sleep(delay_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    saved = journal_files.journaled_episodes(root)
    if repair(root) == 0:
        assert_first_episodes(root, original, max(len(saved), load(root).num_episodes))
    else:
        assert not saved
