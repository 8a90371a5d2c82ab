# SPDX-License-Identifier: Apache-2.0
"""The flow policy: from noise to a chunk in a few Euler steps, and the one-step actor that is drawn to it.

An observation is encoded once for all steps and samples. On vectors it is residual blocks, on cameras a
transformer over patches of all cameras, joints and the actions of the chunk.

Legend: `B` batch, `H` chunk, `A` action, `K` flattened chunk (H * A), `D` features, `N` tokens.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lerobot_ext.nn.blocks import FiLMResidualBlock, TransformerBlock
from lerobot_ext.nn.cameras import MultiCameraEncoder
from lerobot_ext.nn.embeddings import SinusoidalEmbedding
from lerobot_ext.nn.pooled_cameras import random_shift
from lerobot_ext.offline_rl.observations import MLP, at_time, vector_widths

from .configuration_q_chunking import QChunkingConfig

_TIME_DIM = 32
_TIME_SCALE = 1000.0
"""The embedding's frequencies are made for whole numbers up to 1000; a flow's time is in [0, 1]."""


class Condition(NamedTuple):
    """An observation as the flow reads it.

    Attributes:
        features (`Tensor`): (B, D), for the one-step actor; with cameras without a graph.
        context (`Tensor`): What the velocity reads of it: (B, hidden) on vectors, (B, N, D) tokens with
            cameras.
    """

    features: Tensor
    context: Tensor

    def repeated(self, times: int) -> Condition:
        """Each observation so many times in a row."""
        return Condition(self.features.repeat_interleave(times, 0), self.context.repeat_interleave(times, 0))

    def detached(self) -> Condition:
        """Without a graph."""
        return Condition(self.features.detach(), self.context.detach())


class ChunkNet(nn.Module):
    """From one chunk to another under a condition: residual blocks that the condition modulates.

    Args:
        chunk (`int`): K.
        condition_dim (`int`): Width C of the condition.
        dim (`int`): Width of the residual stream.
        depth (`int`): Number of blocks.
    """

    def __init__(self, chunk: int, condition_dim: int, dim: int, depth: int) -> None:
        super().__init__()
        self.input = nn.Linear(chunk, dim)
        self.blocks = nn.ModuleList(FiLMResidualBlock(dim, condition_dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.output = nn.Linear(dim, chunk)

    def forward(self, chunk: Tensor, condition: Tensor) -> Tensor:
        """The other chunk (B, K) from `chunk` (B, K) under `condition` (B, C)."""
        hidden = self.input(chunk)
        for block in self.blocks:
            hidden = block(hidden, condition)
        other: Tensor = self.output(self.norm(hidden))
        return other


class VectorFlow(nn.Module):
    """The chunk that a flow leads to, from joints and environment.

    The encoder has no normalisation: an arm grasps by differences of a hundredth of its range.

    Args:
        config (`QChunkingConfig`): Features and widths.
        chunk (`int`): K.
    """

    def __init__(self, config: QChunkingConfig, chunk: int) -> None:
        super().__init__()
        dim, hidden = config.obs_feature_dim, config.actor_hidden_dim
        widths = vector_widths(config)
        self.vectors = list(widths)
        self.encoder = MLP([sum(widths.values()), 2 * dim, dim])
        self.time = SinusoidalEmbedding(_TIME_DIM)
        self.context = nn.Linear(dim, hidden)
        self.embed_time = nn.Linear(_TIME_DIM, hidden)
        self.net = ChunkNet(chunk, hidden, hidden, config.actor_hidden_layers)

    def observe(self, batch: dict[str, Any], time: int, *, augment: bool) -> Condition:
        """Encode the observations at `time` of a batch's."""
        features = self.encoder(torch.cat([at_time(batch[key], time, 2) for key in self.vectors], dim=-1))
        return Condition(features, self.context(features))

    def forward(self, context: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """The chunk (B, K) behind `noisy` (B, K) at `time` (B,) or (1,)."""
        embedded = self.embed_time(self.time(time * _TIME_SCALE).to(noisy.dtype))
        chunk: Tensor = self.net(noisy, F.silu(context + embedded))
        return chunk


class CameraFlow(nn.Module):
    """The chunk that a flow leads to, from cameras, joints and environment.

    Its features teach it nothing: what reads them, the one-step actor, is drawn with a large weight to a flow
    that at first leads nowhere, and would turn the encoder to that before the flow has learned to see.

    Args:
        config (`QChunkingConfig`): Features and widths.
        chunk (`tuple[int, int]`): H and A.
    """

    def __init__(self, config: QChunkingConfig, chunk: tuple[int, int]) -> None:
        super().__init__()
        dim = config.transformer_dim
        self.chunk, self.shift = chunk, config.random_shift
        self.images = list(config.image_features)
        self.image_size = tuple(config.image_size)
        self.cameras = MultiCameraEncoder(len(self.images), 1, dim, config.image_size, config.vision_backbone)
        widths = vector_widths(config)
        self.vectors = list(widths)
        self.state = nn.Linear(sum(widths.values()), dim) if widths else None
        self.encoder = nn.Sequential(*self._blocks(config))
        pooled, features = dim * (1 + len(self.images)) + sum(widths.values()), config.obs_feature_dim
        self.pool = nn.Sequential(MLP([pooled, 2 * features, features]), nn.LayerNorm(features))
        self.embed_features = nn.Linear(config.obs_feature_dim, dim)
        self.time = SinusoidalEmbedding(_TIME_DIM)
        self.embed_time = nn.Linear(_TIME_DIM, dim)
        self.embed_action = nn.Linear(chunk[1], dim)
        self.place = nn.Parameter(torch.randn(chunk[0], dim) * 0.02)
        self.decoder = nn.Sequential(*self._blocks(config))
        self.norm = nn.LayerNorm(dim)
        self.output = nn.Linear(dim, chunk[1])

    def _blocks(self, config: QChunkingConfig) -> list[nn.Module]:
        dim, heads = config.transformer_dim, config.transformer_heads
        return [TransformerBlock(dim, heads, expansion=2) for _ in range(config.transformer_layers)]

    def observe(self, batch: dict[str, Any], time: int, *, augment: bool) -> Condition:
        """Encode the observations at `time` of a batch's."""
        frames = [self._frame(at_time(batch[key], time, 4), augment) for key in self.images]
        tokens, pooled = self.cameras(frames)
        direct = [pooled.flatten(1), *(at_time(batch[key], time, 2) for key in self.vectors)]
        if self.state is not None:
            tokens = torch.cat([tokens, self.state(torch.cat(direct[1:], dim=-1))[:, None]], dim=1)
        tokens = self.encoder(tokens)
        features = self.pool(torch.cat([tokens.mean(1), *direct], dim=-1))
        context = torch.cat([tokens, self.embed_features(features)[:, None]], dim=1)
        return Condition(features.detach(), context)

    def _frame(self, frame: Tensor, augment: bool) -> Tensor:
        if tuple(frame.shape[-2:]) != self.image_size:
            frame = F.interpolate(
                frame, self.image_size, mode="bilinear", antialias=True, align_corners=False
            )
        return (random_shift(frame, self.shift) if augment and self.shift else frame)[:, None]

    def forward(self, context: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """The chunk (B, K) behind `noisy` (B, K) at `time` (B,) or (1,)."""
        embedded = self.embed_time(self.time(time * _TIME_SCALE).to(noisy.dtype))[:, None]  # (B or 1, 1, D)
        # Each action gets the features as well as attention to the tokens: joints and keypoints need not be
        # found among a hundred patches first.
        told = self.place + embedded + context[:, -1:]
        actions = self.embed_action(noisy.view(len(noisy), *self.chunk)) + told
        tokens = self.decoder(torch.cat([context, actions], dim=1))[:, -self.chunk[0] :]
        chunk: Tensor = self.output(self.norm(tokens))
        return chunk.flatten(1)


class FlowActor(nn.Module):
    """A flow policy over chunks and, for `distill`, the one-step actor beside it.

    Args:
        config (`QChunkingConfig`): Features, widths and extraction.
    """

    def __init__(self, config: QChunkingConfig) -> None:
        super().__init__()
        assert config.action_feature is not None, "`config.validate_features()` runs before this"
        self.chunk_shape = (config.chunk_size, config.action_feature.shape[0])
        self.width = self.chunk_shape[0] * self.chunk_shape[1]
        self.steps = config.flow_steps
        self.flow: VectorFlow | CameraFlow = (
            CameraFlow(config, self.chunk_shape) if config.image_features else VectorFlow(config, self.width)
        )
        self.one_step: ChunkNet | None = None
        if config.extraction == "distill":
            hidden, depth = config.actor_hidden_dim, config.actor_hidden_layers
            self.one_step = ChunkNet(self.width, config.obs_feature_dim, hidden, depth)

    def observe(self, batch: dict[str, Any], time: int = 0, *, augment: bool = False) -> Condition:
        """Encode the observations at `time` of a batch's."""
        return self.flow.observe(batch, time, augment=augment)

    def draw_time(self, noise: Tensor) -> Tensor:
        """(B,) instants at which the flow is fitted: all that `integrate` may come by."""
        share = torch.rand(len(noise), device=noise.device, dtype=noise.dtype)
        return share * (1.0 - 1.0 / self.steps) if self.steps > 1 else torch.zeros_like(share)

    def velocity(self, condition: Condition, noisy: Tensor, time: Tensor) -> Tensor:
        """Velocity (B, K) of the flow at `noisy` (B, K) and `time` (B,) or (1,) in [0, 1); noise is at 0.

        It points to the chunk that the network sees behind the noise. A network that had to give the
        velocity would have to give back the noise, number by number.
        """
        chunk: Tensor = self.flow(condition.context, noisy, time)
        return (chunk - noisy) / (1.0 - time)[:, None]

    def integrate(self, condition: Condition, noise: Tensor) -> Tensor:
        """The chunk (B, K) in [-1, 1] where the flow leads from `noise` (B, K)."""
        chunk = noise
        for step in range(self.steps):
            time = noise.new_full((1,), step / self.steps)
            chunk = chunk + self.velocity(condition, chunk, time) / self.steps
        return chunk.clamp(-1.0, 1.0)

    def leap(self, condition: Condition, noise: Tensor) -> Tensor:
        """The one-step actor's chunk (B, K) from `noise` (B, K); not yet within [-1, 1]."""
        assert self.one_step is not None
        chunk: Tensor = self.one_step(noise, F.silu(condition.features))
        return chunk

    def noise(self, condition: Condition) -> Tensor:
        """Standard normal (B, K)."""
        return torch.randn(
            len(condition.features),
            self.width,
            device=condition.features.device,
            dtype=condition.features.dtype,
        )

    def sample(self, condition: Condition, count: int) -> Tensor:
        """`count` chunks (B, count, K) of the flow for each observation."""
        many = condition.repeated(count) if count > 1 else condition
        return self.integrate(many, self.noise(many)).view(len(condition.features), count, self.width)
