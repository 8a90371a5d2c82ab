# SPDX-License-Identifier: Apache-2.0
"""Pictures that cost an encoder what a camera's do, without a camera: texture, motion, and noise.

Content decides what encoding costs and how large its files are: noise most of all. A measurement that matters
uses pictures of one's own camera; these are for when there are none, and for benchmarks.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]

_BLOCK = 8
_N_NOISES = 4


def scene(n: int, seed: int, height: int = 480, width: int = 640, noise: float = 4.0) -> Iterator[Picture]:
    """(height, width, 3) uint8 pictures: a fixed texture, things that move across it, and noise.

    Args:
        n (`int`): How many.
        seed (`int`): Of texture and noise.
        height (`int`, *optional*, defaults to `480`): In pixels.
        width (`int`, *optional*, defaults to `640`): In pixels.
        noise (`float`, *optional*, defaults to `4.0`): Standard deviation, in levels of 255; a webcam indoors
            has 2 to 6.
    """
    rng = np.random.default_rng(seed)
    rows, columns = -(-height // _BLOCK), -(-width // _BLOCK)
    blocks: Any = rng.integers(40, 200, (rows, columns, 3))
    ground = np.kron(blocks, np.ones((_BLOCK, _BLOCK, 1)))[:height, :width].astype(np.int16)
    noises = rng.normal(0, noise, (_N_NOISES, height, width, 3)).astype(np.int16)
    tall, wide = height // 8, width // 8
    for number in range(n):
        picture = ground + noises[number % _N_NOISES]
        for thing in range(3):
            top = tall + 2 * tall * thing
            left = (number * (3 + 2 * thing) + 90 * thing) % (width - wide)
            picture[top : top + tall, left : left + wide] = 40 + 70 * thing
        yield picture.clip(0, 255).astype(np.uint8)
