# SPDX-License-Identifier: Apache-2.0
"""The decoder gives every frame of every kind of file, in any order, bit for bit as PyAV from the start."""

import threading
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lerobot.datasets import video_utils
from lerobot_camera_pyav import backend
from lerobot_camera_pyav.video.decoder import VideoDecoder, _Run
from lerobot_camera_pyav.video.errors import NoFrameNearError, VideoReadError
from make_videos import Kind, decoded, write

backend.uninstall()  # importing the package put it in place: what follows needs stock

BFRAMES = {"bf": "3"}
VARIED = tuple(int(t) for t in np.cumsum([0, *np.random.default_rng(5).integers(900, 9000, 39)]))
KINDS = [
    *(Kind(codec, g) for codec in ("libx264", "libx265", "libsvtav1") for g in (1, 2, 30)),
    Kind("libx265", 3, options={"preset": "ultrafast"}),
    Kind("libx264", 12, options=BFRAMES),
    Kind("libx264", 12, options={"bf": "4", "x264-params": "open-gop=1:b-pyramid=normal"}),
    Kind("libx265", 12, options={"x265-params": "log-level=none:bframes=4:open-gop=1"}),
    Kind("libx265", 12, options={"x265-params": "log-level=none:bframes=4:b-adapt=0:temporal-layers=3"}),
    Kind("libaom-av1", 10, n=20, options={"cpu-used": "8", "lag-in-frames": "10"}),
    Kind("libx264", 10, times=VARIED),
    Kind("libx264", 10, times=VARIED, options=BFRAMES, suffix="mkv"),
    Kind("libx264", 250, options=BFRAMES),
    Kind("libx264", 5, width=66, height=50),
    Kind("libx264", 5, width=65, height=49, pixels="yuv444p"),
    Kind("libaom-av1", 5, n=12, width=65, height=49, options={"cpu-used": "8"}),
    Kind("libx264", 5, width=320, height=240, pixels="yuvj420p"),
    Kind("libx265", 5, pixels="yuv420p10le"),
    Kind("libx264", 5, suffix="mkv"),
    Kind("libx264", 12, suffix="ts", options=BFRAMES),
    Kind("libx264", 5, container={"movflags": "frag_keyframe+empty_moov"}),
    Kind("libvpx-vp9", 8, n=20, suffix="webm", options={"cpu-used": "8"}),
    Kind("libx264", 12, width=64, height=64, options={"bf": "3", "x264-params": "interlaced=1"}),
]
[STOCK_MISSES] = [kind for kind in KINDS if (kind.codec, kind.gop) == ("libx265", 3)]
IDS = [kind.name for kind in KINDS]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Path, seconds and frames of each kind of file, made when first asked for."""
    folder, made = tmp_path_factory.mktemp("videos"), {}

    def get(kind: Kind):
        name = IDS[KINDS.index(kind)]
        if name not in made:
            path = write(folder / f"{KINDS.index(kind)}.{kind.suffix}", kind)
            made[name] = (path, *decoded(path))
        return made[name]

    return get


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_every_frame_in_random_order_equals_decoding_from_the_start(videos, kind):
    path, seconds, frames = videos(kind)
    decoder = VideoDecoder(path)
    assert decoder.index.seconds == pytest.approx(seconds, abs=1e-9)
    for number in np.random.default_rng(0).permutation(len(seconds)):
        got = decoder.read([seconds[number]], 1e-4)
        assert np.array_equal(got[0], frames[number]), number


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_every_frame_that_stock_finds_is_stocks(videos, kind):
    path, seconds, _ = videos(kind)
    decoder, refused = VideoDecoder(path), 0
    for number, time in reversed(list(enumerate(seconds))):
        try:
            stock = video_utils.decode_video_frames_pyav(path, [float(time)], 1e-4, return_uint8=True)
        except video_utils.FrameTimestampError:
            refused += 1
            continue
        assert np.array_equal(decoder.read([time], 1e-4), stock.numpy()), number
    if kind == STOCK_MISSES:
        assert refused, "stock finds all frames of this file now: change what the README says"


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_decoding_starts_at_the_last_keyframe_before_a_frame(videos, kind):
    path, seconds, _ = videos(kind)
    index = VideoDecoder(path).index
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for number in range(len(seconds)):
            key = index.key_before(number)
            container.seek(int(index.key_seek[key]), stream=stream, backward=True)
            first = next(container.demux(stream))
            assert first.pts <= index.pts[number]
            if kind.suffix == "mp4":
                assert first.pts == index.key_pts[key]


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_reading_forward_decodes_each_frame_once(videos, kind):
    path, seconds, frames = videos(kind)
    decoder = VideoDecoder(path)
    seeks = []
    seek, decoder._seek = decoder._seek, lambda key: (seeks.append(key), seek(key))
    for number, time in enumerate(seconds):
        window = [seconds[max(0, number - 1)], time]
        got = decoder.read(window, 1e-4)
        assert np.array_equal(got[0], frames[max(0, number - 1)])
        assert np.array_equal(got[1], frames[number])
    assert len(seeks) <= 2, "it has to see once that reading goes forward"


@pytest.mark.parametrize("kind", [KINDS[4], KINDS[10], KINDS[11], KINDS[12]], ids=lambda kind: kind.name)
def test_a_single_frame_is_taken_without_decoding_what_comes_after_it(videos, kind, monkeypatch):
    path, seconds, frames = videos(kind)
    with av.open(str(path)) as container:
        order = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    fed = []
    decode = _Run._decode
    monkeypatch.setattr(_Run, "_decode", lambda run, call, pts: (fed.append(pts), decode(run, call, pts)))
    decoder = VideoDecoder(path)
    index = decoder.index
    for number in (7, 3, 33, 20, 9):
        fed.clear()
        assert np.array_equal(decoder.read([seconds[number]], 1e-4)[0], frames[number])
        start = order.index(index.key_pts[index.key_before(number)])
        assert list(dict.fromkeys(fed)) == order[start : order.index(index.pts[number]) + 1]


def test_no_times_give_no_frames(videos):
    assert VideoDecoder(videos(KINDS[1])[0]).read([], 1e-4).shape == (0, 3, 48, 64)


def test_fields_are_waited_for(videos):
    path, seconds, frames = videos(KINDS[-1])
    decoder = VideoDecoder(path)
    for number in (7, 30, 2):
        assert np.array_equal(decoder.read([seconds[number]], 1e-4)[0], frames[number])
    assert not decoder._alone, "the second field may come in a packet of its own"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "temporal-layers" in kind.name], ids=["layers"])
def test_nothing_is_left_out_where_a_frame_may_be_needed_by_another_layer(videos, kind):
    assert not VideoDecoder(videos(kind)[0])._may_skip
    assert VideoDecoder(videos(KINDS[5])[0])._may_skip, "one layer"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from([KINDS[1], KINDS[4], KINDS[10], KINDS[12], KINDS[14], KINDS[16]]))
def test_any_set_of_times_gives_the_nearest_frames(videos, data, kind):
    path, seconds, frames = videos(kind)
    decoder = VideoDecoder(path)
    for _ in range(3):
        times = data.draw(st.lists(st.floats(-0.05, float(seconds[-1]) + 0.05), min_size=1, max_size=8))
        nearest = [int(np.argmin(np.abs(seconds - time))) for time in times]
        off = [abs(seconds[number] - time) for number, time in zip(nearest, times, strict=True)]
        tolerance = data.draw(st.sampled_from([max(off) + 1e-6, 0.02, 1e-4]))
        if max(off) < tolerance:
            got = decoder.read(times, tolerance)
            for row, number, time in zip(got, nearest, times, strict=True):
                # of two that are as near as can be told, either will do
                same = np.flatnonzero(np.abs(np.abs(seconds - time) - abs(seconds[number] - time)) < 1e-9)
                assert any(np.array_equal(row, frames[other]) for other in same)
        elif max(off) > tolerance + 1e-6:
            with pytest.raises(NoFrameNearError, match="no frame within"):
                decoder.read(times, tolerance)


def test_times_in_single_precision_far_into_a_file_are_found_as_by_stock(tmp_path):
    times = [int(t * 90000) for t in (5000.0, 5000.0333333, 5000.0666667)]
    path = write(tmp_path / "late.mkv", Kind("libx264", 2, times=times, suffix="mkv"))
    asked = float(np.float32(5000.0333333))
    assert abs(asked - 5000.0333333) > 1e-4
    got = VideoDecoder(path).read([asked], 1e-4)
    assert np.array_equal(got, video_utils.decode_video_frames_pyav(path, [asked], 1e-4, return_uint8=True))


def test_depth_equals_stocks(tmp_path):
    kind = Kind("libx265", 2, pixels="gray12le", n=12)
    path = write(tmp_path / "depth.mp4", kind)
    decoder = VideoDecoder(path, depth=True)
    for number in (7, 3, 11, 0):
        stock = video_utils.decode_video_frames_pyav(path, [0.0, number / 30], 1e-4, is_depth=True)
        assert np.array_equal(decoder.read([0.0, number / 30], 1e-4), stock.numpy())


def test_a_smaller_size_is_a_scaled_picture(videos):
    path, seconds, frames = videos(KINDS[1])
    small = VideoDecoder(path, size=(24, 32)).read([seconds[5]], 1e-4)
    assert small.shape == (1, 3, 24, 32)
    means = frames[5].reshape(3, 24, 2, 32, 2).mean((2, 4))
    assert np.abs(small[0] - means).mean() < 12


def test_threads_that_share_a_decoder_get_their_own_frames(videos):
    path, seconds, frames = videos(KINDS[1])
    decoder, wrong = VideoDecoder(path), []

    def read(seed: int) -> None:
        for number in np.random.default_rng(seed).integers(0, len(seconds), 60):
            if not np.array_equal(decoder.read([seconds[number]], 1e-4)[0], frames[number]):
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        VideoDecoder(tmp_path / "missing.mp4")


@pytest.mark.parametrize("content", [b"", b"no video at all" * 99], ids=["empty", "text"])
def test_a_file_that_is_no_video_is_named(tmp_path, content):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoReadError, match=r"broken\.mp4 cannot be opened"):
        VideoDecoder(path)


def test_a_file_that_was_cut_off_names_the_frame(tmp_path):
    kind = Kind("libx264", 2, n=60, width=320, height=240, container={"movflags": "faststart"})
    path = write(tmp_path / "cut.mp4", kind)
    seconds, frames = decoded(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    decoder = VideoDecoder(path)
    assert np.array_equal(decoder.read([seconds[4]], 1e-4)[0], frames[4])
    with pytest.raises(VideoReadError, match=r"cut\.mp4: frame 57 of 60 \(1\.900 s\) cannot be decoded"):
        decoder.read([seconds[57]], 1e-4)
    assert np.array_equal(decoder.read([seconds[9]], 1e-4)[0], frames[9])


def test_a_damaged_frame_is_refused_and_the_others_are_read(tmp_path):
    path = write(tmp_path / "bad.mp4", Kind("libx264", 2, n=30, width=320, height=240))
    seconds, frames = decoded(path)
    with av.open(str(path)) as container:
        packets = [(p.pts, p.pos, p.size) for p in container.demux(video=0) if p.pts is not None]
    _, position, size = sorted(packets)[10]
    data = bytearray(path.read_bytes())
    data[position + 8 : position + size] = bytes(size - 8)
    path.write_bytes(data)
    decoder = VideoDecoder(path)
    with pytest.raises(VideoReadError, match=r"bad\.mp4: frame 10 of 30 \(0\.333 s\)"):
        decoder.read([seconds[10]], 1e-4)
    for number in (9, 12, 29):
        assert np.array_equal(decoder.read([seconds[number]], 1e-4)[0], frames[number])


def test_a_remote_file_is_read_through_fsspec(videos):
    import fsspec

    path, seconds, frames = videos(KINDS[1])
    with fsspec.open("memory://a/video.mp4", "wb") as file:
        file.write(Path(path).read_bytes())
    decoder = VideoDecoder("memory://a/video.mp4")
    assert np.array_equal(decoder.read([seconds[20], seconds[3]], 1e-4), frames[[20, 3]])
    with pytest.raises(FileNotFoundError):
        VideoDecoder("memory://a/other.mp4")
