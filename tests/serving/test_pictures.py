# SPDX-License-Identifier: Apache-2.0
"""JPEG from a stranger: sizes come first, and only plain files are decoded."""

import contextlib
import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lerobot_ext.serving.pictures import compress, decompress
from lerobot_ext.serving.strict_json import PayloadError

SHAPE = (24, 32, 3)
PICTURE = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)


def jpeg(picture=PICTURE, **options) -> np.ndarray:
    target = io.BytesIO()
    Image.fromarray(picture).save(target, "JPEG", **options)
    return np.frombuffer(target.getvalue(), np.uint8)


def as_file(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def with_size(height: int, width: int) -> np.ndarray:
    """A JPEG whose frame header claims another size."""
    data = bytearray(jpeg().tobytes())
    at = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, at + 5, height, width)
    return as_file(bytes(data))


def test_a_picture_comes_back_nearly_as_it_went():
    smooth = np.linspace(0, 255, np.prod(SHAPE)).reshape(SHAPE).astype(np.uint8)
    assert np.abs(decompress(compress(smooth, 95), SHAPE, "top").astype(int) - smooth).mean() < 3


def test_a_decompression_bomb_is_refused_by_its_header(monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("it was decoded"))
    with pytest.raises(PayloadError, match="65535x65535"):
        decompress(with_size(65535, 65535), SHAPE, "top")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (jpeg(progressive=True), "0xc2 is not part of a plain JPEG"),
        (jpeg(exif=b"Exif\0\0II*\0"), "0xe1 is not part of a plain JPEG"),
        (jpeg(comment=b"hello"), "0xfe is not part of a plain JPEG"),
        (jpeg(PICTURE[:, :, 0]), "1 channels"),
        (jpeg(PICTURE[:10]), "32x10"),
        (jpeg()[:200], "cut off|damaged"),
        (jpeg()[:-200], "damaged"),
        (as_file(b"\x89PNG\r\n\x1a\n" + b"\0" * 50), "no JPEG"),
        (as_file(b"\xff\xd8" + b"\xff\xc0\x00\x02" + b"\xff\xda\x00\x02"), "frame header of 0 bytes"),
        (as_file(b"\xff\xd8" + b"\xff\xda\x00\x02"), "0 frame headers"),
        (as_file(b""), "no JPEG"),
    ],
)
def test_what_is_no_plain_jpeg_of_the_right_size_is_refused(data, why):
    with pytest.raises(PayloadError, match=why):
        decompress(data, SHAPE, "top")


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damaged_files_only_raise_payload_errors(data):
    damaged = bytearray(jpeg().tobytes())
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=8)):
        damaged[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PayloadError):
        assert decompress(as_file(bytes(damaged)), SHAPE, "top").shape == SHAPE
