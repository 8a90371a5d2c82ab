# SPDX-License-Identifier: Apache-2.0
"""A conversion that is killed goes on where it was: nothing lost, nothing doubled."""

import random
import resource
from pathlib import Path

import av
import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from converted import QUIET, in_a_fork, killed_at, options, run
from filelock import FileLock
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_ext.cli.command import CommandError
from lerobot_ext.importing.convert import convert
from lerobot_ext.importing.sample import write_sample
from lerobot_ext.importing.survey import survey


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("resume") / "log.hdf5"
    write_sample(path, "lapo", 350, size=64)
    return path


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory) -> Path:
    """What an undisturbed conversion writes."""
    root = tmp_path_factory.mktemp("whole") / "out"
    run(source, root)
    return root


def _same(one: Path, other: Path) -> None:
    """Equal rows, equal videos and statistics, and nothing else in the folder."""
    names = [sorted(str(path.relative_to(root)) for path in root.rglob("*")) for root in (one, other)]
    assert names[0] == names[1]
    for name in names[0]:
        if name.endswith(".parquet"):
            assert pq.read_table(one / name).equals(pq.read_table(other / name)), name
        elif name.endswith(".mp4"):  # the codec's bytes differ from run to run, with several threads
            frames, expected = _frames(one / name), _frames(other / name)
            assert [time for time, _ in frames] == [time for time, _ in expected]
            apart = [np.abs(a - b).mean() for (_, a), (_, b) in zip(frames, expected, strict=True)]
            assert max(apart) < 1.0, name
        elif name.endswith(".json"):
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


def _frames(path: Path) -> list[tuple[int, np.ndarray]]:
    """Time and picture of every frame."""
    with av.open(str(path)) as video:
        return [
            (frame.pts, frame.to_ndarray(format="rgb24").astype(np.int16)) for frame in video.decode(video=0)
        ]


@pytest.mark.parametrize(
    ("stage", "step", "n_kept"),
    # Segments of 40, 60, 40, 60, 40, 60 and 50 frames, three cameras each: 120, 300, 420, … pictures
    [("encoding", 0, 0), ("encoding", 430, 3), ("encoding", 1050, 6), ("writing", 2, 7), ("verifying", 1, 7)],
)
def test_killed_at_any_step_it_goes_on(stage, step, n_kept, source, whole, tmp_path):
    root = tmp_path / "out"
    assert killed_at(source, root, stage, step)
    assert not root.exists()

    _, report = run(source, root)

    assert report.n_kept == n_kept
    _same(root, whole)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_killed_at_random_times_again_and_again_it_finishes(source, whole, tmp_path):
    rng = random.Random(0)
    root = tmp_path / "out"

    def work() -> None:
        convert(survey([source]), options(root), QUIET)

    for _ in range(8):
        in_a_fork(work, rng.uniform(0.02, 0.6))
        if root.exists():
            break
    if not root.exists():
        run(source, root)

    _same(root, whole)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == ["out"]


def test_a_conversion_of_other_files_is_not_gone_on_with(source, tmp_path):
    root = tmp_path / "out"
    assert killed_at(source, root, "encoding", 430)
    other = tmp_path / "other.hdf5"
    write_sample(other, "lapo", 120, size=64, seed=1)

    with pytest.raises(CommandError, match="conversion of other files") as raised:
        run(other, root)
    assert "--restart" in raised.value.remedy
    _, report = run(other, root, restart=True)

    assert (report.n_kept, report.n_frames) == (0, 120)


def test_a_source_that_changed_since_is_not_gone_on_with(source, tmp_path):
    changing = tmp_path / "log.hdf5"
    changing.write_bytes(source.read_bytes())
    assert killed_at(changing, tmp_path / "out", "encoding", 430)
    with h5py.File(changing, "r+") as file:
        file["actions"][0] = 0

    with pytest.raises(CommandError, match="conversion of other files"):
        run(changing, tmp_path / "out")


def test_two_conversions_into_one_folder_do_not_mix(source, tmp_path):
    with (
        FileLock(tmp_path / ".out.converting.lock"),
        pytest.raises(CommandError, match="another process converts"),
    ):
        run(source, tmp_path / "out")


@pytest.mark.parametrize("limit", [4_000, 20_000], ids=["encoding", "writing"])
def test_no_room_left_keeps_what_is_finished(limit, source, whole, tmp_path):
    """A limit on the size of files stands for a full disk."""
    root = tmp_path / "out"

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(CommandError, match="cannot be written"):
            convert(survey([source]), options(root), QUIET)

    assert in_a_fork(work) == 0
    assert not root.exists()

    run(source, root)
    _same(root, whole)


def test_memory_does_not_grow_with_the_file(tmp_path):
    """220 MB of pictures need hardly more memory than 37 MB, by what the peak of a process each adds."""

    def added_mb(name: str, n_frames: int) -> int:
        _film(tmp_path / f"{name}.hdf5", n_frames)

        def work() -> None:
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: here, not in the parent
            before = _memory_mb("VmRSS")
            run(tmp_path / f"{name}.hdf5", tmp_path / name, segment_frames=40)
            (tmp_path / f"{name}.peak").write_text(str(_memory_mb("VmHWM") - before))

        assert in_a_fork(work) == 0
        return int((tmp_path / f"{name}.peak").read_text())

    small, large = added_mb("small", 40), added_mb("large", 240)

    assert small > 10, "the peak was not measured"
    assert LeRobotDataset("me/log", root=tmp_path / "large").num_frames == 240
    assert large - small < 80


def _memory_mb(name: str) -> int:
    """A figure of this process in /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) // 1024


def _film(path: Path, n_frames: int) -> None:
    """A LAPO file of one camera, 480x640, and an episode every 20 frames."""
    rows, columns = np.mgrid[0:480, 0:640]
    with h5py.File(path, "w") as file:
        film = file.create_dataset(
            "observations/top_image", (n_frames, 480, 640, 3), np.uint8, chunks=(4, 480, 640, 3)
        )
        for row in range(n_frames):
            film[row] = ((rows + columns + 3 * row) % 256).astype(np.uint8)[..., None]
        file["observations/joint"] = np.zeros((n_frames, 4), np.float32)
        file["actions"] = np.zeros((n_frames, 4), np.float32)
        file["rewards"] = np.zeros(n_frames)
        file["terminals"] = (np.arange(n_frames) % 20 == 19).astype(np.float32)
