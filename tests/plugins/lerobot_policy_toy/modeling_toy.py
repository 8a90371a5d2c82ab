# SPDX-License-Identifier: Apache-2.0
"""A linear policy with everything that the contract can ask for: noise, a step count, real-time chunks."""

from collections import deque

import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from torch import nn

from .configuration_toy import ToyConfig


class ToyBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x):
        return x + self.layer(x).tanh()


class ToyPolicy(PreTrainedPolicy):
    config_class = ToyConfig
    name = "toy"
    _fsdp_wrap_modules = ("ToyBlock",)

    def __init__(self, config, dataset_stats=None, dataset_meta=None, **kwargs):
        super().__init__(config)
        self.check(config)
        width = sum(feature.shape[0] for feature in config.input_features.values())
        self.inputs = nn.Linear(width, config.hidden)
        self.block = ToyBlock(config.hidden)
        self.head = nn.Linear(config.hidden, config.horizon * config.action_feature.shape[0])
        self.register_buffer("train_step", torch.zeros(()))
        self.reset()

    def check(self, config):
        config.validate_features()

    def get_optim_params(self):
        return self.parameters()

    # ---- training

    def forward(self, batch, reduction="mean"):
        each = self.losses(batch, self.plan(batch)) * self.weight()
        return (each if reduction == "none" else each.mean()), {"toy_loss": each.mean().item()}

    def weight(self):
        return 1 + 0.1 * self.train_step

    def losses(self, batch, plan):
        plan = plan + 0.01 * torch.randn(plan.shape) if self.training else plan
        valid = ~batch["action_is_pad"][..., None]
        return ((plan - batch["action"]).abs() * valid).sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)

    def update(self):
        self.train_step += 1

    # ---- acting

    def reset(self):
        self.queue = deque()

    def features(self, batch):
        """(B, width): the newest frame, of a camera its mean colour."""
        found = []
        for name, feature in self.config.input_features.items():
            value = batch[name]
            value = value[:, -1] if value.ndim > 1 + len(feature.shape) else value
            found.append(value.mean((-2, -1)) if value.ndim == 4 else value)
        return torch.cat(found, dim=-1)

    def plan(self, batch):
        hidden = self.block(self.inputs(self.features(batch)))
        return self.head(hidden).reshape(len(hidden), self.config.horizon, -1)

    def sample(self, batch):
        plan = self.plan(batch)
        return plan + 0.01 * torch.randn(plan.shape)

    @torch.no_grad()
    def predict_action_chunk(self, batch, inference_delay=0, prev_chunk_left_over=None):
        chunk = self.sample(batch)
        if prev_chunk_left_over is not None:
            kept = min(inference_delay, len(prev_chunk_left_over))
            chunk[:, :kept] = prev_chunk_left_over[:kept]
        return chunk

    def supports_rtc(self):
        return True

    @torch.no_grad()
    def select_action(self, batch):
        if not self.queue:
            self.queue.extend(self.sample(batch)[:, : self.config.n_action_steps].unbind(1))
        return self.queue.popleft()
