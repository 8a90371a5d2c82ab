# SPDX-License-Identifier: Apache-2.0
"""Stock ACT's network with room for conditions, depth, a committed prefix and a flow head.

With every flag off `forward` is stock ACT's own. Otherwise the same modules are called in the same order, in
three parts that can be extended: the latent of the VAE, the tokens of the encoder, the decoder. A test holds
the two ways equal to the bit.

Legend: `B` batch, `T` chunk, `A` action width, `S` encoder tokens, `N` patches, `D` width, `L` latent width.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import einops
import torch
from lerobot.policies.act.modeling_act import ACT
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE
from torch import Tensor, nn

from lerobot_ext.nn.blocks import FiLM
from lerobot_ext.nn.depth import normalised_nothing, with_masks

from . import backbone as backbones
from .conditions import AdvantageEmbedding, build_task_embedding, task_texts
from .configuration_act_plus import ActPlusConfig
from .depth import DepthAttention, for_depth, widened, with_depth
from .flow import FlowEmbedding
from .prefix import PrefixEmbedding


@dataclass
class Memory:
    """What the decoder looks at.

    Attributes:
        tokens (`Tensor`): (S, B, D) output of the encoder.
        pos (`Tensor`): (S, 1, D) places of the tokens.
        mu (`Tensor`, *optional*), log_sigma_x2 (`Tensor`, *optional*): (B, L) of the VAE, in training.
    """

    tokens: Tensor
    pos: Tensor
    mu: Tensor | None = None
    log_sigma_x2: Tensor | None = None

    def repeated(self, times: int) -> Memory:
        """What the decoder looks at in a batch that is this one several times over."""
        return Memory(self.tokens.repeat(1, times, 1), self.pos)


@dataclass
class Prefix:
    """Actions that are committed.

    Attributes:
        actions (`Tensor`): (B, T, A); what is not committed does not matter.
        committed (`Tensor`): (B, T) bool.
    """

    actions: Tensor
    committed: Tensor

    def repeated(self, times: int) -> Prefix:
        """The same for a batch that is this one several times over."""
        return Prefix(self.actions.repeat(times, 1, 1), self.committed.repeat(times, 1))


class ActPlusNetwork(ACT):
    """The network of `act_plus`.

    Stock ACT's modules are made first and in its order, so that a seed gives them the same weights.

    Args:
        config (`ActPlusConfig`): With features.
    """

    depth_nothing: Tensor

    def __init__(self, config: ActPlusConfig) -> None:
        super().__init__(_as_stock_builds_it(config))
        self.config = config
        dim, actions = config.dim_model, config.action_feature.shape[0]
        self._build_vision(config)
        extra_tokens = (config.task_conditioning != "none") + (config.advantage != "none")
        if extra_tokens:
            self.extra_token_pos_embed = nn.Embedding(extra_tokens, dim)
        if config.task_conditioning != "none":
            self.task_embedding = build_task_embedding(config)
            if config.colour_features:
                self.task_film = FiLM(dim, dim)
                nn.init.zeros_(self.task_film.projection.weight)
                nn.init.zeros_(self.task_film.projection.bias)
        if config.advantage != "none":
            self.advantage_embedding = AdvantageEmbedding(config.advantage, dim)
        if config.prefix_steps:
            self.prefix_embedding = PrefixEmbedding(actions, dim)
        if config.head == "flow":
            self.flow_embedding = FlowEmbedding(actions, dim)
            self.flow_head = nn.Linear(dim, actions)
            if config.flow_start == "noise":
                del self.action_head  # there is no draft
        self._register_load_state_dict_pre_hook(self._widen_loaded_weights)

    def _build_vision(self, config: ActPlusConfig) -> None:
        colour, depth = config.colour_features, config.depth_features
        if colour and not backbones.is_stock(config):
            self.backbone = backbones.build_backbone(config)
        if colour and config.depth_fusion == "early":
            backbones.replace_first_convolution(self.backbone, widened)
        if colour and (not backbones.is_stock(config) or config.depth_fusion == "early"):
            self._project_features("encoder_img_feat_input_proj", self.backbone, colour)
        if not colour and config.image_features:
            del self.backbone, self.encoder_img_feat_input_proj
        if depth:
            # What the normaliser makes of "nothing measured"; NaN, which nothing equals, where it is unknown.
            self.register_buffer("depth_nothing", torch.full((len(depth),), torch.nan))
        if config.depth_fusion == "cross":
            self.backbone_depth = backbones.build_backbone(config)
            backbones.replace_first_convolution(self.backbone_depth, for_depth)
            self._project_features("encoder_depth_feat_input_proj", self.backbone_depth, depth)
            if colour:
                self.depth_attention = DepthAttention(config.dim_model, config.n_heads, config.dropout)

    def _project_features(self, name: str, backbone: nn.Module, cameras: dict[str, Any]) -> None:
        """Give a backbone a projection to the width of the tokens, where it needs another than it has."""
        height, width = next(iter(cameras.values())).shape[1:]
        planes = 5 if self.config.depth_fusion == "early" else 2 if name.startswith("encoder_depth") else 3
        channels = backbones.feature_channels(backbone, planes, (height, width))
        if getattr(getattr(self, name, None), "in_channels", None) != channels:
            setattr(self, name, nn.Conv2d(channels, self.config.dim_model, kernel_size=1))

    def set_statistics(self, stats: dict[str, dict[str, Any]]) -> None:
        """Learn from LeRobot's statistics what a depth pixel without a measurement looks like."""
        depth = self.config.depth_features
        if depth:
            found = normalised_nothing(depth, self.config.normalization_mapping, stats).to(self.depth_nothing)
            self.depth_nothing.copy_(torch.where(found.isnan(), self.depth_nothing, found))

    # ---- stock ACT's forward, in parts -------------------------------------------------------------------

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, tuple[Tensor | None, Tensor | None]]:
        """As `ACT.forward`: actions (B, T, A) of the L1 head, and mean and log variance (B, L) of the VAE."""
        if self.config.is_stock:
            found: tuple[Tensor, tuple[Tensor | None, Tensor | None]] = super().forward(batch)
            return found
        return self.forward_in_parts(batch)

    def forward_in_parts(self, batch: dict[str, Any]) -> tuple[Tensor, tuple[Tensor | None, Tensor | None]]:
        """`forward` by this class's own parts, whatever the flags."""
        memory = self.encode(batch)
        return self.action_head(self.decode(memory)), (memory.mu, memory.log_sigma_x2)

    def encode(
        self, batch: dict[str, Any], advantage: Tensor | None = None, shown: Tensor | None = None
    ) -> Memory:
        """Run the encoder.

        Args:
            batch (`dict[str, Any]`): Preprocessed observations (B, ...), and actions in training.
            advantage (`Tensor`, *optional*): (B,) how good the actions are.
            shown (`Tensor`, *optional*): (B,) bool, whether the policy is told.
        """
        size = len(batch[OBS_STATE])
        latent, mu, log_sigma_x2 = self._latent(batch, size)
        tokens = [self.encoder_latent_input_proj(latent)]
        pos = list(self.encoder_1d_feature_pos_embed.weight.unsqueeze(1))
        tokens.append(self.encoder_robot_state_input_proj(batch[OBS_STATE]))
        if self.config.env_state_feature:
            tokens.append(self.encoder_env_state_input_proj(batch[OBS_ENV_STATE]))
        task = self._task(batch, size)
        patches, patch_pos = self._patches(batch, task)
        extra = [] if task is None else [task]
        if advantage is not None and shown is not None:
            extra.append(self.advantage_embedding(advantage, shown))
        stacked, places = torch.stack(tokens), torch.stack(pos)
        if patches is not None and patch_pos is not None:
            stacked, places = torch.cat([stacked, patches]), torch.cat([places, patch_pos])
        if extra:
            stacked = torch.cat([stacked, torch.stack(extra).to(stacked)])
            places = torch.cat([places, self.extra_token_pos_embed.weight.unsqueeze(1)])
        return Memory(self.encoder(stacked, pos_embed=places), places, mu, log_sigma_x2)

    def decode(
        self,
        memory: Memory,
        prefix: Prefix | None = None,
        noisy: Tensor | None = None,
        time: Tensor | None = None,
    ) -> Tensor:
        """Run the decoder.

        Args:
            memory (`Memory`): Of `encode`.
            prefix (`Prefix`, *optional*): What is committed.
            noisy (`Tensor`, *optional*): (B, T, A) state of the flow.
            time (`Tensor`, *optional*): (B,) its time.

        Returns:
            `Tensor`: (B, T, D), for a head.
        """
        size = memory.tokens.shape[1]
        queries = torch.zeros(
            (self.config.chunk_size, size, self.config.dim_model),
            dtype=memory.pos.dtype,
            device=memory.pos.device,
        )
        if noisy is not None and time is not None:
            clean = noisy if prefix is None else _with_committed(noisy, prefix)
            queries = queries + self.flow_embedding(clean, time).transpose(0, 1)
        if prefix is not None:
            queries = queries + self.prefix_embedding(prefix.actions, prefix.committed).transpose(0, 1)
        out: Tensor = self.decoder(
            queries,
            memory.tokens,
            encoder_pos_embed=memory.pos,
            decoder_pos_embed=self.decoder_pos_embed.weight.unsqueeze(1),
        )
        return out.transpose(0, 1)

    def _latent(self, batch: dict[str, Any], size: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The VAE's latent (B, L) of the batch's actions in training, else zeros; and its distribution."""
        state = batch[OBS_STATE]
        if not (self.config.use_vae and self.training):
            return (
                torch.zeros([size, self.config.latent_dim], dtype=torch.float32, device=state.device),
                None,
                None,
            )
        tokens = torch.cat(
            [
                einops.repeat(self.vae_encoder_cls_embed.weight, "1 d -> b 1 d", b=size),
                self.vae_encoder_robot_state_input_proj(state).unsqueeze(1),
                self.vae_encoder_action_input_proj(batch[ACTION]),
            ],
            dim=1,
        )  # (B, 2 + T, D)
        never = torch.zeros((size, 2), dtype=torch.bool, device=state.device)
        out = self.vae_encoder(
            tokens.permute(1, 0, 2),
            pos_embed=self.vae_encoder_pos_enc.clone().detach().permute(1, 0, 2),
            key_padding_mask=torch.cat([never, batch["action_is_pad"]], dim=1),
        )[0]
        mu, log_sigma_x2 = self.vae_encoder_latent_output_proj(out).split(self.config.latent_dim, dim=1)
        return mu + log_sigma_x2.div(2).exp() * torch.randn_like(mu), mu, log_sigma_x2

    # ---- extensions of the encoder -----------------------------------------------------------------------

    def _task(self, batch: dict[str, Any], size: int) -> Tensor | None:
        """(B, D) vectors of the tasks."""
        if self.config.task_conditioning == "none":
            return None
        vectors: Tensor = self.task_embedding(task_texts(batch, size))
        return vectors

    def _patches(self, batch: dict[str, Any], task: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """(N, B, D) patches of all cameras and their places (N, 1, D)."""
        colour = list(self.config.colour_features)
        masked: dict[str, Tensor] = {}
        if self.config.depth_features:
            depth = list(self.config.depth_features)
            maps = with_masks([batch[key] for key in depth], self.depth_nothing)
            masked = dict(zip(depth, maps, strict=True))
        if self.config.depth_fusion == "early":
            partners = self.config.depth_partners()
            images = [with_depth(batch[key], masked[partners[key]]) for key in colour]
        else:
            images = [batch[key] for key in colour]
        found = [self._patches_of(image, self.backbone, self.encoder_img_feat_input_proj) for image in images]
        if task is not None and found:
            found = [(self.task_film(patches, task), pos) for patches, pos in found]
        if self.config.depth_fusion == "cross":
            found = self._attend_to_depth(found, list(masked.values()))
        if not found:
            return None, None
        return torch.cat([patches for patches, _ in found]), torch.cat([pos for _, pos in found])

    def _attend_to_depth(
        self, colour: list[tuple[Tensor, Tensor]], depth: list[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """The colour patches with what they find in all depth maps; those of the depth maps without any."""
        encoded = [
            self._patches_of(d, self.backbone_depth, self.encoder_depth_feat_input_proj) for d in depth
        ]
        if not colour:
            return encoded
        patches, pos = torch.cat([p for p, _ in encoded]), torch.cat([p for _, p in encoded])
        return [(self.depth_attention(own, own_pos, patches, pos), own_pos) for own, own_pos in colour]

    def _patches_of(self, image: Tensor, backbone: nn.Module, project: nn.Module) -> tuple[Tensor, Tensor]:
        """(N, B, D) patches of one camera's images (B, C, H, W), and their places (N, 1, D)."""
        features = backbone(image)["feature_map"]
        pos = self.encoder_cam_feat_pos_embed(features).to(dtype=features.dtype)
        rows = einops.rearrange(project(features), "b c h w -> (h w) b c")
        return rows, einops.rearrange(pos, "b c h w -> (h w) b c")

    def _widen_loaded_weights(self, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
        """Let a checkpoint without depth fill a backbone that reads it: the new channels count nothing."""
        if self.config.depth_fusion != "early":
            return
        for name, own in self.backbone.state_dict(prefix=f"{prefix}backbone.").items():
            given = state_dict.get(name)
            if own.ndim == 4 and given is not None and (own.shape[1], given.shape[1]) == (5, 3):
                state_dict[name] = widened(given)


def _with_committed(actions: Tensor, prefix: Prefix) -> Tensor:
    """`actions` (B, T, A) with the committed ones in their places."""
    return torch.where(prefix.committed[..., None], prefix.actions.to(actions), actions)


def _as_stock_builds_it(config: ActPlusConfig) -> ActPlusConfig:
    """A copy of which stock ACT builds what it can: a backbone of its own is replaced afterwards."""
    if not config.image_features or (config.colour_features and backbones.is_stock(config)):
        return config
    stock = copy.copy(config)
    stock.vision_backbone, stock.pretrained_backbone_weights = "resnet18", None
    return stock
