# SPDX-License-Identifier: Apache-2.0
"""No damaged video hangs or crashes the process that reads it: each is read, or refused by its name."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from make_videos import Kind, write

CHILD = Path(__file__).parents[1] / "helpers" / "video_fuzz_child.py"
N_DAMAGED = 200
KINDS = [
    Kind("libx264", 2, n=20),
    Kind("libx264", 10, n=20, options={"bf": "3"}, container={"movflags": "faststart"}),
    Kind("libx265", 5, n=20),
    Kind("libsvtav1", 2, n=20),
    Kind("libsvtav1", 10, n=20),
    Kind("libx264", 5, n=20, container={"movflags": "frag_keyframe+empty_moov"}),
    Kind("libx264", 5, n=20, suffix="mkv"),
]


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """One of the things that happen to files."""
    broken = bytearray(data)
    place, length = int(rng.integers(len(data))), int(rng.integers(1, len(data) // 3))
    tables = data.find(b"moov")
    match rng.integers(7):
        case 0:  # cut off
            return bytes(broken[:place])
        case 1:  # a hole
            broken[place : place + length] = bytes(len(broken[place : place + length]))
        case 2:  # flipped bits anywhere
            for at in rng.integers(0, len(data), 40).tolist():
                broken[at] ^= 1 << int(rng.integers(8))
        case 3:  # flipped bits in the tables
            start = max(tables, 0)
            for at in rng.integers(start, min(start + 1200, len(data)), 6).tolist():
                broken[at] ^= 1 << int(rng.integers(8))
        case 4:  # large numbers in the tables
            at = max(tables, 0) + int(rng.integers(900))
            broken[at : at + 4] = b"\x7f\xff\xff\xff"
        case 5:  # a piece missing
            del broken[place : place + length]
        case _:  # a piece of another place
            piece = data[: min(length, len(data) - place)]
            broken[place : place + len(piece)] = piece
    return bytes(broken)


@pytest.mark.timeout(400)
def test_two_hundred_damaged_videos_are_read_or_refused(tmp_path):
    rng = np.random.default_rng(7)
    whole = [write(tmp_path / f"{i}.{kind.suffix}", kind) for i, kind in enumerate(KINDS)]
    paths = []
    for number in range(N_DAMAGED):
        source = whole[number % len(whole)]
        paths.append(tmp_path / f"damaged{number}{source.suffix}")
        paths[-1].write_bytes(damage(source.read_bytes(), rng))
    listed = tmp_path / "list"
    listed.write_text("\n".join(map(str, [*paths, *whole])))
    try:
        ran = subprocess.run(
            [sys.executable, "-X", "faulthandler", str(CHILD), str(listed)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=300,
        )
    except subprocess.TimeoutExpired as error:
        pytest.fail(f"it hangs: {(error.stdout or b'')[-300:]!r}")
    assert ran.returncode == 0, f"{ran.stdout[-300:]}\n{ran.stderr[-3000:]}"
    word, n_read = ran.stdout.splitlines()[-1].split()
    assert word == "done"
    assert int(n_read) > N_DAMAGED, "hardly anything was read: the damage proves nothing"
