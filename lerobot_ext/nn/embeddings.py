# SPDX-License-Identifier: Apache-2.0
"""Embeddings that need no download: sinusoids for scalars, hashed n-grams for short texts.

Legend: `B` batch, `D` width.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from .remembered import Remembered

_ABSENT_BUCKET = 0
"""Bucket of a missing text, so that one weight serves both cases and always receives a gradient."""


class SinusoidalEmbedding(nn.Module):
    """Embed a non-negative scalar by sines and cosines of geometrically spaced frequencies.

    Args:
        dim (`int`): Output width; must be even.
        max_period (`float`, *optional*, defaults to `1000.0`): Longest period, in the unit of the scalar.

    Raises:
        ValueError: If `dim` is odd or below 4.
    """

    frequencies: Tensor

    def __init__(self, dim: int, max_period: float = 1000.0) -> None:
        super().__init__()
        if dim < 4 or dim % 2:
            raise ValueError(f"`dim` ({dim}) must be an even number >= 4.")
        half = dim // 2
        exponents = torch.arange(half, dtype=torch.float32) / (half - 1)
        self.register_buffer("frequencies", torch.exp(-math.log(max_period) * exponents), persistent=False)

    def forward(self, value: Tensor) -> Tensor:
        """Embed `value` (B,); returns (B, D)."""
        angles = value.to(self.frequencies.dtype)[:, None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


@lru_cache(maxsize=4096)
def hash_text(text: str, buckets: int, ngram: int = 3) -> tuple[int, ...]:
    """Hash a text's words and character n-grams into buckets, alike in every process and machine.

    Args:
        text (`str`): Any text; case and runs of white space do not matter.
        buckets (`int`): Number of buckets including bucket 0, which stands for "no text".
        ngram (`int`, *optional*, defaults to `3`): Length of the character n-grams.

    Returns:
        `tuple[int, ...]`: Bucket numbers in `[1, buckets)`, or `(0,)` for an empty text.
    """
    words = text.lower().split()
    if not words:
        return (_ABSENT_BUCKET,)
    padded = f" {' '.join(words)} "
    grams = [padded[i : i + ngram] for i in range(max(1, len(padded) - ngram + 1))]
    return tuple(1 + zlib.crc32(piece.encode()) % (buckets - 1) for piece in [*words, *grams])


class HashedTextEmbedding(nn.Module):
    """Mean of learned vectors of a text's hashed words and n-grams; no vocabulary, no download.

    A task seen in training keeps its embedding at inference from its string alone, similar wordings get
    similar vectors, and a missing text has a learned vector of its own.

    Args:
        dim (`int`): Output width.
        buckets (`int`, *optional*, defaults to `1024`): Size of the hash table.
    """

    def __init__(self, dim: int, buckets: int = 1024) -> None:
        super().__init__()
        self.buckets = buckets
        self.table = nn.EmbeddingBag(buckets, dim, mode="mean")
        self._remembered = Remembered()

    def forward(self, texts: Sequence[str | None], drop: Sequence[bool] | None = None) -> Tensor:
        """Embed texts.

        Args:
            texts (`Sequence[str | None]`): One text a sample; None and "" mean "no text".
            drop (`Sequence[bool]`, *optional*): Samples whose text is hidden (training-time dropout).

        Returns:
            `Tensor`: (B, D).
        """
        if drop is not None:
            return self._embed(texts, drop)
        return self._remembered.get((self.table.weight,), lambda: self._embed(texts, None), tuple(texts))

    def _embed(self, texts: Sequence[str | None], drop: Sequence[bool] | None) -> Tensor:
        bags = [
            (_ABSENT_BUCKET,) if not text or (drop is not None and drop[i]) else hash_text(text, self.buckets)
            for i, text in enumerate(texts)
        ]
        device = self.table.weight.device
        starts = torch.tensor([0, *map(len, bags[:-1])], device=device).cumsum(0)
        flat = torch.tensor([bucket for bag in bags for bucket in bag], device=device)
        embedded: Tensor = self.table(flat, starts)
        return embedded
