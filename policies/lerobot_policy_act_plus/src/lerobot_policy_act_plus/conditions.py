# SPDX-License-Identifier: Apache-2.0
"""What a chunk is conditioned on beside observations: the task, and how good the actions shall be.

Legend: `B` batch, `D` width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lerobot_ext.nn.embeddings import HashedTextEmbedding

from .configuration_act_plus import ActPlusConfig


class TaskVectors(nn.Module):
    """One learned vector for each task of the dataset, found by the task's text.

    Args:
        names (`Sequence[str]`): The tasks.
        dim (`int`): Width D.
    """

    def __init__(self, names: Sequence[str], dim: int) -> None:
        super().__init__()
        self.numbers = {name: number for number, name in enumerate(names)}
        self.table = nn.Embedding(max(1, len(names)), dim)

    def forward(self, texts: Sequence[str | None]) -> Tensor:
        """Vectors (B, D) of B texts.

        Raises:
            ValueError: If a text is none of the tasks.
        """
        unknown = [text for text in texts if text not in self.numbers]
        if unknown:
            raise ValueError(
                f"the policy knows no task {unknown[0]!r}; it was trained with "
                f"{', '.join(repr(name) for name in self.numbers) or 'none'}. Give one of them, or train "
                "with "
                "`--policy.task_conditioning=text`."
            )
        numbers = [self.numbers[text] for text in texts if text is not None]
        vectors: Tensor = self.table(torch.tensor(numbers, device=self.table.weight.device))
        return vectors


class SentenceVectors(nn.Module):
    """Texts as a pretrained sentence encoder sees them; it stays as it is and is no part of the checkpoint.

    Args:
        folder (`str`): A `transformers` model with its tokenizer.
        dim (`int`): Width D of the result.

    Raises:
        ImportError: If `transformers` is not installed.
        ValueError: If the folder holds no such model.
    """

    def __init__(self, folder: str, dim: int) -> None:
        super().__init__()
        try:
            from transformers import AutoModel, AutoTokenizer
        except ImportError as error:
            raise ImportError("`text_encoder` needs transformers: `pip install transformers`.") from error
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModel.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"`text_encoder` ({folder}) is no sentence encoder ({error}); give the folder of a "
                "transformers model "
                "with its tokenizer."
            ) from error
        # Behind a function, so that neither its weights nor its training mode are the policy's.
        self._embed = partial(_sentence_vector, tokenizer, model.eval())
        self._known: dict[str, Tensor] = {}
        self.project = nn.Linear(int(model.config.hidden_size), dim)

    def forward(self, texts: Sequence[str | None]) -> Tensor:
        """Vectors (B, D) of B texts."""
        for text in {text or "" for text in texts} - set(self._known):
            self._known[text] = self._embed(text)
        stacked = torch.stack([self._known[text or ""] for text in texts])
        vectors: Tensor = self.project(stacked.to(self.project.weight))
        return vectors


@torch.no_grad()
def _sentence_vector(tokenizer: Any, model: Any, text: str) -> Tensor:
    """Mean of the encoder's last hidden states over the text's tokens."""
    tokens = tokenizer(text, return_tensors="pt", truncation=True)
    hidden = model(**tokens).last_hidden_state[0]  # (tokens, width)
    mask = tokens["attention_mask"][0][:, None].to(hidden)
    mean: Tensor = (hidden * mask).sum(0) / mask.sum().clamp_min(1)
    return mean


def build_task_embedding(config: ActPlusConfig) -> nn.Module:
    """The module that turns B task texts into (B, D), by `task_conditioning`."""
    if config.task_conditioning == "index":
        return TaskVectors(config.task_names, config.dim_model)
    if config.text_encoder:
        return SentenceVectors(config.text_encoder, config.dim_model)
    return HashedTextEmbedding(config.dim_model, config.task_buckets)


def task_texts(batch: dict[str, Any], size: int) -> list[str | None]:
    """Task texts of a batch: a list, one string for all, or nothing."""
    tasks = batch.get("task")
    if tasks is None or isinstance(tasks, str):
        return [tasks] * size
    return list(tasks)


class AdvantageEmbedding(nn.Module):
    """How good actions are, as a token; hidden, it is a vector of its own.

    Args:
        kind (`str`): `"sign"`: at most 0, or above; `"value"`: the number itself.
        dim (`int`): Width D.
    """

    def __init__(self, kind: str, dim: int) -> None:
        super().__init__()
        self.kind = kind
        self.hidden = nn.Parameter(torch.randn(dim) * 0.02)
        self.embed: nn.Module = nn.Embedding(2, dim) if kind == "sign" else nn.Linear(1, dim)

    def forward(self, advantage: Tensor, shown: Tensor) -> Tensor:
        """Embed `advantage` (B,) where `shown` (B,) says so; returns (B, D)."""
        value = (advantage > 0).long() if self.kind == "sign" else advantage.to(self.hidden)[:, None]
        return torch.where(shown[:, None], self.embed(value), self.hidden)
