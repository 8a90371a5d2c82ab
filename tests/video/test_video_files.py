# SPDX-License-Identifier: Apache-2.0
"""What surrounds a decoder: files kept open, an MP4's tables, the command of the benchmark."""

import gc
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot_camera_pyav.video.decoders import OpenVideos, PerProcess
from lerobot_camera_pyav.video.mp4_tables import read_video_table
from make_videos import Kind, decoded, write

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("files")
    return [write(folder / f"{number}.mp4", Kind("libx264", 2, n=12 + number)) for number in range(6)]


def test_the_least_recently_used_file_is_closed(files):
    videos = OpenVideos(2)
    first, second = videos.get(files[0]), videos.get(files[1])
    assert videos.get(files[0]) is first
    videos.get(files[2])  # closes the second
    assert videos.get(files[0]) is first
    assert videos.get(files[1]) is not second
    assert len(videos) == 2
    assert videos.get(files[1], depth=True) is not videos.get(files[1])
    videos.clear()
    assert len(videos) == 0


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match=r"`limit` \(0\)"):
        OpenVideos(0)


def test_a_file_is_closed_without_waiting_for_the_garbage_collector(files):
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    videos = OpenVideos(1)
    gc.disable()
    try:
        videos.get(files[0])
        before = len(os.listdir("/proc/self/fd"))
        for path in files * 3:
            videos.get(path).read([0.0], 1e-4)
        assert len(os.listdir("/proc/self/fd")) <= before + 1
    finally:
        gc.enable()


def test_threads_that_push_each_others_files_out_read_on(files):
    videos, wrong = OpenVideos(1), []
    expected = {path: decoded(path) for path in files}

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(60):
            path = files[rng.integers(len(files))]
            seconds, frames = expected[path]
            number = int(rng.integers(len(seconds)))
            if not np.array_equal(videos.get(path).read([seconds[number]], 1e-4)[0], frames[number]):
                wrong.append((path, number))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_process_that_was_not_forked_by_python_gets_its_own_files(files):
    mine = PerProcess(3)
    before = mine.get()
    before.get(files[0])
    mine._pid -= 1  # as if this were a child that Python did not make
    assert mine.get() is not before
    assert len(mine.get()) == 0
    assert len(before) == 1, "what was inherited is left as it is"


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_bytes_make_the_tables_fail(files, data):
    content = bytearray(files[0].read_bytes())
    start = content.find(b"moov") - 4
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(start, len(content) - 4))
        content[place : place + 4] = data.draw(st.binary(min_size=4, max_size=4))
    table = read_video_table(io.BytesIO(bytes(content[: data.draw(st.integers(0, len(content)))])))
    if table is not None:
        assert len(table.pts) == len(table.dts) == len(table.key) > 0
        assert table.timescale > 0


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_none(content):
    assert read_video_table(io.BytesIO(content)) is None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_benchmark_runs_and_writes_its_numbers_picture_and_tables(tmp_path):
    def run(*words: str) -> str:
        ran = subprocess.run(
            [sys.executable, str(ROOT / "benchmarks" / "data_path.py"), "--out", str(tmp_path), *words],
            capture_output=True,
            text=True,
            timeout=800,
            env=dict(os.environ) | {"HF_HUB_OFFLINE": "1"},
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
        return ran.stdout.strip()

    last = run("--quick").splitlines()[-1]
    assert last.startswith("data_path: a random frame costs ")
    assert last.endswith(" targets reached")
    sections = json.loads((tmp_path / "data_path.json").read_text())["sections"]
    assert set(sections) == {"decode", "items", "loader", "windows"}
    for section in ("decode", "items", "loader"):
        for costs in sections[section].values():
            assert {"stock pyav", "ours"} <= costs.keys()
            assert all(cost["cpu_ms"] > 0 and cost["wall_ms"] > 0 for cost in costs.values())
    assert (tmp_path / "data_path.png").stat().st_size > 1000
    rows = [line for line in run("--markdown").splitlines() if line.startswith("| ") and "this" not in line]
    assert len(rows) == 3, "a codec, an item, a loader"
    assert "dataset[i]" in run("--quick", "--resume", "--only", "items")
