# SPDX-License-Identifier: Apache-2.0
"""The policies that are compared, as words of the stock `lerobot-train` and `lerobot-eval`.

LeRobot's are made small enough for one thread, with a learning rate for few steps: as they ship they are many
times larger and hardly move in some hundred steps. Ours are as they come, act_plus as small as LeRobot's ACT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

STATE, IMAGE = "state", "image"
"""Joints and the poses of cube and goal; joints and two cameras of 96 x 96."""
TOP = (
    '--policy.input_features={"observation.state": {"type": "STATE", "shape": [6]}, '
    '"observation.images.top": {"type": "VISUAL", "shape": [3, 96, 96]}}'
)
"""For a policy that takes one camera."""


@dataclass(frozen=True)
class Policy:
    """One that takes part.

    Args:
        title (`str`): Name in tables.
        words (`tuple[str, ...]`): Of `lerobot-train`.
        acting (`tuple[str, ...]`): Of `lerobot-eval`.
        image (`tuple[str, ...]`): More words with cameras.
        not_with (`dict[str, str]`): Observations that it does not take, with the reason.
    """

    title: str
    words: tuple[str, ...]
    acting: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    not_with: dict[str, str] = field(default_factory=dict)

    def training(self, observation: str) -> tuple[str, ...]:
        """Words of `lerobot-train` for an observation."""
        return (*self.words, *(self.image if observation == IMAGE else ()))


ACT = (
    "--policy.chunk_size=24", "--policy.n_action_steps=12", "--policy.dim_model=128", "--policy.n_heads=4",
    "--policy.dim_feedforward=256", "--policy.n_encoder_layers=2", "--policy.use_vae=false",
    "--policy.dropout=0", "--policy.optimizer_lr=1e-3", "--policy.pretrained_backbone_weights=null",
)  # fmt: skip
SMALL_RESNET = ("--policy.pretrained_backbone_weights=null", "--policy.use_group_norm=true")

POLICIES = {
    "act": Policy("LeRobot's `act`", ("--policy.type=act", *ACT)),
    "diffusion": Policy(
        "LeRobot's `diffusion`, 10 DDIM steps",
        (
            "--policy.type=diffusion", "--policy.horizon=16", "--policy.n_action_steps=8",
            "--policy.down_dims=[40,80,160]", "--policy.optimizer_lr=1e-3",
            "--policy.scheduler_warmup_steps=100",
        ),
        ("--policy.noise_scheduler_type=DDIM", "--policy.num_inference_steps=10"),
        SMALL_RESNET,
    ),
    "vqbet": Policy(
        "LeRobot's `vqbet`",
        (
            "--policy.type=vqbet", "--policy.n_obs_steps=2", "--policy.n_vqvae_training_steps=100",
            "--policy.gpt_input_dim=128", "--policy.gpt_output_dim=128", "--policy.gpt_hidden_dim=128",
            "--policy.gpt_n_layer=4", "--policy.gpt_n_head=4", "--policy.optimizer_lr=1e-3",
            "--policy.scheduler_warmup_steps=50", TOP, *SMALL_RESNET,
        ),
        not_with={STATE: "it needs a camera"},
    ),
    "tdmpc": Policy(
        "LeRobot's `tdmpc`, its policy without planning",
        (
            "--policy.type=tdmpc", "--policy.use_mpc=false", "--policy.n_action_repeats=1",
            '--policy.normalization_mapping={"VISUAL": "IDENTITY", "STATE": "MIN_MAX", "ENV": "MIN_MAX", '
            '"ACTION": "MIN_MAX"}',
        ),
        not_with={IMAGE: "when it acts it knows a camera only as `observation.image`"},
    ),
    "act_flow": Policy(
        "`act_plus` with a flow head",
        (
            "--policy.type=act_plus", *ACT, "--policy.head=flow", "--policy.flow_target=actions",
            "--policy.n_decoder_layers=2",
        ),
    ),
    "hierarchical_diffusion": Policy("`hierarchical_diffusion`", ("--policy.type=hierarchical_diffusion",)),
    "lapo": Policy("`lapo`", ("--policy.type=lapo",)),
    "q_chunking": Policy("`q_chunking`", ("--policy.type=q_chunking",)),
}  # fmt: skip


def taking_part(names: Sequence[str], observation: str) -> list[str]:
    """Those of the policies that take an observation."""
    return [name for name in names if observation not in POLICIES[name].not_with]


def left_out(observation: str) -> list[str]:
    """Sentences on the policies that do not take it."""
    return [
        f"{policy.title} does not take part: {policy.not_with[observation]}."
        for policy in POLICIES.values()
        if observation in policy.not_with
    ]
