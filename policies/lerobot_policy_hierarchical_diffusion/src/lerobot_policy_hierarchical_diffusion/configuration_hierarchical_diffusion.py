# SPDX-License-Identifier: Apache-2.0
"""Configuration of the hierarchical diffusion policy."""

from __future__ import annotations

from dataclasses import dataclass, field

# Not from `lerobot.configs`: this module may be imported while that package still is.
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import NormalizationMode
from lerobot.optim.optimizers import AdamWConfig
from lerobot.optim.schedulers import CosineAnnealingWithWarmupSchedulerConfig

from lerobot_ext.pipelines.config import ExtraStepsField

from .curriculum import Curriculum, CurriculumStage

LAYER_NAMES = ("safety", "dynamics", "manipulation", "planning")
"""The layers in priority order. Conditioning masks are nested in this order."""

MAX_INFERENCE_STEPS = 16
"""Most denoising steps at inference; beyond it a chunk only gets slower."""


def _default_layer_weights() -> dict[str, float]:
    return {"safety": 0.1, "dynamics": 0.1, "manipulation": 1.0, "planning": 0.1}


def _default_normalization() -> dict[str, NormalizationMode]:
    return {
        "VISUAL": NormalizationMode.MEAN_STD,
        "STATE": NormalizationMode.MIN_MAX,
        "ENV": NormalizationMode.MIN_MAX,
        "ACTION": NormalizationMode.MIN_MAX,
    }


@PreTrainedConfig.register_subclass("hierarchical_diffusion")
@dataclass
class HierarchicalDiffusionConfig(ExtraStepsField, PreTrainedConfig):
    """Everything that decides what a hierarchical diffusion policy is, how it trains and how it infers.

    The defaults suit a small arm on a CPU: some 1.5 M parameters without cameras. Time offsets are in frames
    of the dataset; 0 is the current frame.

    Args:
        n_obs_steps (`int`, *optional*, defaults to `1`): Newest frames the observation encoder and the
            manipulation layer see.
        layers (`tuple[str, ...]`, *optional*): Which of the layers `safety`, `dynamics`, `manipulation`,
            `planning` the policy has; all of them. What a layer looks at reaches the denoiser through that
            layer alone; what no layer looks at, through the observation encoder. Without any layer it is a
            flat diffusion policy.
        observation_encoder (`str`, *optional*, defaults to `"mlp"`): `"mlp"`, or `"stock"`: LeRobot's
            diffusion policy's own, which sees state, cameras and environment of `n_obs_steps` frames whatever
            the layers see. With it, `denoiser="unet"` and no layers, the policy's loss is LeRobot's.
        history_steps (`int`, *optional*, defaults to `4`): Newest consecutive states the safety layer sees,
            at least 2 (a velocity needs two).
        dynamics_history (`int`, *optional*, defaults to `12`): Newest consecutive states the dynamics layer
            sees, at least 2.
        future_steps (`int`, *optional*, defaults to `4`): Consecutive future states the safety and dynamics
            layers learn to foresee.
        planning_history (`int`, *optional*, defaults to `8`): States in the planning layer's memory, the
            current one included.
        planning_stride (`int`, *optional*, defaults to `8`): Frames between two states of that memory.
        planning_interval (`int`, *optional*, defaults to `1`): Chunks for which one run of the planning layer
            serves.
        subgoal_steps (`int`, *optional*, defaults to `16`): How far ahead the subgoal may lie: it is the next
            frame in which the motion comes to rest, or this many frames ahead, or the episode's last frame,
            whichever comes first.
        contact_key (`str`, *optional*, defaults to `"observation.contact"`): Feature that tells contacts (of
            feet, of a gripper) by numbers near 0 and 1. If the dataset has it, the dynamics layer learns to
            foresee them; it is needed in training only.
        normalization_mapping (`dict[str, NormalizationMode]`, *optional*): Normalisation for each kind of
            feature; actions must end up near [-1, 1].
        image_size (`tuple[int, int]`, *optional*, defaults to `(96, 96)`): Height and width to which every
            camera is resized.
        vision_backbone (`str`, *optional*, defaults to `"small"`): `"small"` (four convolutions) or
            `"resnet18"` (torchvision's, GroupNorm, random weights).
        gradient_checkpointing (`bool`, *optional*, defaults to `False`): Compute the camera networks'
            activations anew in the backward pass: less memory, more time.
        horizon (`int`, *optional*, defaults to `16`): Length of a predicted chunk of actions; the first one
            belongs to the current frame.
        n_action_steps (`int`, *optional*, defaults to `8`): Actions of a chunk that are executed before the
            next one.
        safety_dim (`int`, *optional*, defaults to `64`): Width of the safety layer's GRU.
        dynamics_dim (`int`, *optional*, defaults to `64`): Width of the dynamics layer's GRU and attention.
        manipulation_dim (`int`, *optional*, defaults to `128`): Token width of the manipulation transformer
            and of the camera encoder.
        manipulation_depth (`int`, *optional*, defaults to `2`): Blocks of the manipulation transformer.
        planning_dim (`int`, *optional*, defaults to `64`): Token width of the planning transformer.
        planning_depth (`int`, *optional*, defaults to `1`): Blocks of the planning transformer.
        attention_heads (`int`, *optional*, defaults to `4`): Heads of both transformers.
        dropout (`float`, *optional*, defaults to `0.0`): Dropout in both transformers.
        task_buckets (`int`, *optional*, defaults to `1024`): Hash buckets of the task text embedding.
        condition_dim (`int`, *optional*, defaults to `128`): Width of the encoded observation and of the
            fused layer features; the denoiser's condition is twice as wide.
        denoiser (`str`, *optional*, defaults to `"mlp"`): `"mlp"` (FiLM residual network over the whole
            chunk, a few milliseconds a step on a CPU) or `"unet"` (stock LeRobot's temporal U-Net).
        denoiser_dim (`int`, *optional*, defaults to `256`): Width of the `"mlp"` denoiser.
        denoiser_depth (`int`, *optional*, defaults to `3`): Residual blocks of the `"mlp"` denoiser.
        unet_dims (`tuple[int, ...]`, *optional*, defaults to `(64, 128, 256)`): Channels of the `"unet"`
            denoiser.
        layer_dropout (`float`, *optional*, defaults to `0.15`): Chance that a training sample misses layers:
            half the time it keeps only a prefix (safety, safety + dynamics, ...), which is what a latency
            budget leaves, half the time it misses one of them, which is what `set_layer_enabled` does (the
            safety layer, which always runs, more seldom).
        command_dropout (`float`, *optional*, defaults to `0.5`): Chance that a training sample's last action
            is hidden: a cloned policy that always sees it learns to repeat it.
        task_dropout (`float`, *optional*, defaults to `0.1`): Chance that a training sample's task text is
            hidden.
        layer_weights (`dict[str, float]`, *optional*): Weight of each layer's own loss; the diffusion loss
            has weight 1.
        task_weights (`dict[str, dict[str, float]]`, *optional*): Other layer weights for the samples of some
            tasks, by the task's text or, as a decimal number, its `task_index`; layers that are not named
            keep theirs.
        learned_loss_weights (`bool`, *optional*, defaults to `False`): Whether each layer's loss is also
            weighted by a learned noise (Kendall et al., 2018), so that a loss that cannot get small counts
            less.
        curriculum (`list[CurriculumStage]`, *optional*): Stages of the training, each with `name`, `layers`
            that take part, `steps` and `ramp`; empty, all layers take part all the time.
        velocity_quantile (`float`, *optional*, defaults to `0.999`): Joint speeds and tracking errors above
            this quantile of the training data count as violations for the safety layer.
        limit_margin (`float`, *optional*, defaults to `0.05`): How far beyond the training data's range a
            joint or an action may go, as a share of the range.
        filter_margin (`float`, *optional*, defaults to `1.5`): How much faster than usual a planned action
            may change, as a factor of the `velocity_quantile` of the demonstrated changes, at least 1; 0 does
            not bound changes. Actions always stay within the training data's range and `limit_margin`.
        emergency_alpha (`float`, *optional*, defaults to `0.01`): Share of clean frames that the safety
            layer may flag as emergencies, in which the robot holds its position. The threshold is taken from
            held-out frames (`--dataset.eval_split`, `--eval_steps`); without any, or at 0, nothing holds.
        num_train_timesteps (`int`, *optional*, defaults to `100`): Noise levels in training.
        beta_schedule (`str`, *optional*, defaults to `"squaredcos_cap_v2"`): Noise schedule of diffusers'
            scheduler.
        prediction_type (`str`, *optional*, defaults to `"sample"`): What the denoiser predicts: `"sample"` or
            `"epsilon"`.
        num_inference_steps (`int`, *optional*, defaults to `4`): DDIM steps a chunk, 0 to 16; 0 executes the
            manipulation layer's draft as it is.
        draft_noise (`float`, *optional*, defaults to `0.4`): Where refinement of the draft starts, as a
            share of the noise levels; 1 ignores the draft and starts from pure noise.
        fps (`float`, *optional*, defaults to `0.0`): Frames a second of the data; set from the dataset in
            training. Real-time chunking tells by it how many frames lie between two plans.
        latency_budget_ms (`float`, *optional*): Time in ms that planning a chunk may take; layers and
            denoising steps (0 to 16) are chosen to keep it. Without it all layers run, with
            `num_inference_steps`.
        ema_decay (`float`, *optional*, defaults to `0.99`): Decay of the averaged weights used at inference;
            0 turns averaging off.
        optimizer_lr (`float`, *optional*, defaults to `1e-3`): Peak learning rate of AdamW.
        optimizer_betas (`tuple[float, float]`, *optional*, defaults to `(0.9, 0.99)`): AdamW's betas.
        optimizer_weight_decay (`float`, *optional*, defaults to `1e-4`): Weight decay of matrices (never of
            biases, norms and embeddings).
        optimizer_grad_clip_norm (`float`, *optional*, defaults to `1.0`): Largest joint gradient norm.
        scheduler_warmup_steps (`int`, *optional*, defaults to `100`): Linear warm-up; a cosine to zero
            follows.
    """

    # Layers.
    layers: tuple[str, ...] = LAYER_NAMES
    observation_encoder: str = "mlp"

    # Inputs.
    n_obs_steps: int = 1
    history_steps: int = 4
    dynamics_history: int = 12
    future_steps: int = 4
    planning_history: int = 8
    planning_stride: int = 8
    planning_interval: int = 1
    subgoal_steps: int = 16
    contact_key: str = "observation.contact"
    normalization_mapping: dict[str, NormalizationMode] = field(default_factory=_default_normalization)
    image_size: tuple[int, int] = (96, 96)
    vision_backbone: str = "small"
    gradient_checkpointing: bool = False

    # Actions.
    horizon: int = 16
    n_action_steps: int = 8

    # Architecture.
    safety_dim: int = 64
    dynamics_dim: int = 64
    manipulation_dim: int = 128
    manipulation_depth: int = 2
    planning_dim: int = 64
    planning_depth: int = 1
    attention_heads: int = 4
    dropout: float = 0.0
    task_buckets: int = 1024
    condition_dim: int = 128
    denoiser: str = "mlp"
    denoiser_dim: int = 256
    denoiser_depth: int = 3
    unet_dims: tuple[int, ...] = (64, 128, 256)

    # Losses.
    layer_dropout: float = 0.15
    command_dropout: float = 0.5
    task_dropout: float = 0.1
    layer_weights: dict[str, float] = field(default_factory=_default_layer_weights)
    task_weights: dict[str, dict[str, float]] = field(default_factory=dict)
    learned_loss_weights: bool = False
    curriculum: list[CurriculumStage] = field(default_factory=list)
    velocity_quantile: float = 0.999
    limit_margin: float = 0.05
    filter_margin: float = 1.5
    emergency_alpha: float = 0.01

    # Diffusion and inference.
    num_train_timesteps: int = 100
    beta_schedule: str = "squaredcos_cap_v2"
    prediction_type: str = "sample"
    num_inference_steps: int = 4
    draft_noise: float = 0.4
    fps: float = 0.0
    latency_budget_ms: float | None = None

    # Optimisation.
    ema_decay: float = 0.99
    optimizer_lr: float = 1e-3
    optimizer_betas: tuple[float, float] = (0.9, 0.99)
    optimizer_weight_decay: float = 1e-4
    optimizer_grad_clip_norm: float = 1.0
    scheduler_warmup_steps: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_at_least(1, "n_obs_steps", "future_steps", "planning_history", "planning_stride")
        self._require_at_least(1, "subgoal_steps", "horizon", "n_action_steps", "num_train_timesteps")
        self._require_at_least(1, "planning_interval")
        self._require_at_least(1, "manipulation_depth", "planning_depth", "attention_heads", "denoiser_depth")
        self._require_at_least(2, "history_steps", "dynamics_history", "task_buckets")
        self._require_at_least(8, "safety_dim", "dynamics_dim", "condition_dim", "denoiser_dim")
        self._require_share("layer_dropout", "task_dropout", "velocity_quantile", "emergency_alpha")
        if not 0.0 <= self.command_dropout <= 1.0:
            raise ValueError(
                f"`command_dropout` ({self.command_dropout}) must lie in [0, 1]; 1 always hides it."
            )
        self._require_choice("observation_encoder", ("mlp", "stock"))
        self._check_layers()
        self._require_choice("vision_backbone", ("small", "resnet18"))
        self._require_choice("denoiser", ("mlp", "unet"))
        self._require_choice("prediction_type", ("sample", "epsilon"))
        self._check_dimensions()
        self._check_inference()
        self._check_weights("layer_weights", self.layer_weights)
        for task, weights in self.task_weights.items():
            self._check_weights(f"task_weights[{task!r}]", weights)
        Curriculum(self.curriculum, self.layers)  # refuses stages that cannot be

    @property
    def observation_delta_indices(self) -> list[int]:
        """Frames of every observation that training needs: the layers' histories and their future targets."""
        from .window import TimeWindow

        return list(TimeWindow.from_config(self).offsets)

    @property
    def camera_delta_indices(self) -> list[int]:
        """The only frames whose images are used; a reader that knows this need not decode the others."""
        return list(range(1 - self.n_obs_steps, 1))

    @property
    def action_delta_indices(self) -> list[int]:
        """The chunk, from the current frame `horizon` frames on; before it the last action, for safety."""
        return list(range(-self.command_steps, self.horizon))

    @property
    def command_steps(self) -> int:
        """Actions before the current frame that training looks at: 1, or 0 as in stock diffusion."""
        return int("safety" in self.layers or self.observation_encoder == "mlp")

    @property
    def reward_delta_indices(self) -> None:
        """Rewards are not used."""
        return None

    def get_optimizer_preset(self) -> AdamWConfig:
        """AdamW with the `optimizer_*` fields."""
        return AdamWConfig(
            lr=self.optimizer_lr,
            betas=self.optimizer_betas,
            weight_decay=self.optimizer_weight_decay,
            grad_clip_norm=self.optimizer_grad_clip_norm,
        )

    def get_scheduler_preset(self) -> CosineAnnealingWithWarmupSchedulerConfig:
        """Linear warm-up, then a cosine to zero over the steps of the run."""
        return CosineAnnealingWithWarmupSchedulerConfig(num_warmup_steps=self.scheduler_warmup_steps)

    def validate_features(self) -> None:
        """Check that the dataset offers what the policy needs.

        Raises:
            ValueError: If the state or the action is missing or not a vector, or an image is neither
                (3, H, W) nor (1, H, W).
        """
        for name, feature in (
            ("observation.state", self.robot_state_feature),
            ("action", self.action_feature),
        ):
            if feature is None:
                raise ValueError(
                    f"`{name}` is missing from the policy's features; record a dataset with `{name}`, or map "
                    'a column to it with `--rename_map=\'{"observation.joints": "observation.state"}\'`.'
                )
            if len(feature.shape) != 1:
                raise ValueError(
                    f"`{name}` has shape {tuple(feature.shape)}; the policy needs a vector, (width,)."
                )
        if self.observation_encoder == "stock":
            self._check_stock_features()
        for name, feature in self.image_features.items():
            if len(feature.shape) != 3 or feature.shape[0] not in (1, 3):
                raise ValueError(
                    f"`{name}` has shape {tuple(feature.shape)}; the policy reads colour images (3, h, w) "
                    "and depth maps (1, h, w). Leave it out of `--policy.input_features`."
                )

    def _check_stock_features(self) -> None:
        shapes = {name: tuple(feature.shape) for name, feature in self.image_features.items()}
        if len(set(shapes.values())) > 1 or any(shape[0] != 3 for shape in shapes.values()):
            raise ValueError(
                "`observation_encoder` ('stock') reads colour images of one shape, and there are "
                f"{shapes}; use `observation_encoder=mlp`."
            )

    def _require_at_least(self, least: int, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"`{name}` ({value}) must be at least {least}; raise it.")

    def _require_share(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not 0.0 <= value < 1.0:
                raise ValueError(f"`{name}` ({value}) must lie in [0, 1); it is a probability.")

    def _require_choice(self, name: str, choices: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in choices:
            raise ValueError(f"`{name}` ({value!r}) is unknown; choose one of {', '.join(choices)}.")

    def _check_layers(self) -> None:
        unknown = sorted(set(self.layers) - set(LAYER_NAMES))
        if unknown or len(set(self.layers)) != len(self.layers):
            raise ValueError(
                f"`layers` ({list(self.layers)}) must name some of {', '.join(LAYER_NAMES)}, each once."
            )
        self.layers = tuple(name for name in LAYER_NAMES if name in self.layers)

    def _check_dimensions(self) -> None:
        for name in ("manipulation_dim", "planning_dim"):
            value = getattr(self, name)
            if value < 8 or value % self.attention_heads:
                raise ValueError(
                    f"`{name}` ({value}) must be at least 8 and a multiple of `attention_heads` "
                    f"({self.attention_heads}); change one of them."
                )
        if len(self.image_size) != 2 or min(self.image_size) < 32:
            raise ValueError(
                f"`image_size` ({self.image_size}) must be (height, width), both at least 32 pixels."
            )
        if self.denoiser == "unet":
            factor = 2 ** (len(self.unet_dims) - 1)
            if not self.unet_dims or self.horizon % factor:
                raise ValueError(
                    f"`horizon` ({self.horizon}) must be a multiple of {factor} for `unet_dims` "
                    f"{self.unet_dims}, which halves it at each level but the last; change one of them."
                )

    def _check_inference(self) -> None:
        if self.n_action_steps > self.horizon:
            raise ValueError(
                f"`n_action_steps` ({self.n_action_steps}) must not exceed `horizon` "
                f"({self.horizon}); lower it or train with a longer horizon."
            )
        if self.num_inference_steps == 0 and "manipulation" not in self.layers:
            raise ValueError(
                "`num_inference_steps` (0) executes the manipulation layer's draft, and `layers` "
                f"({list(self.layers)}) has no such layer; take at least 1 step."
            )
        if not 0 <= self.num_inference_steps <= MAX_INFERENCE_STEPS:
            raise ValueError(
                f"`num_inference_steps` ({self.num_inference_steps}) must lie in 0..{MAX_INFERENCE_STEPS}; "
                "0 executes the draft."
            )
        if self.latency_budget_ms is not None and not self.latency_budget_ms > 0:
            raise ValueError(
                f"`latency_budget_ms` ({self.latency_budget_ms}) must be above 0; leave it out for no budget."
            )
        if not 0.0 < self.draft_noise <= 1.0:
            raise ValueError(
                f"`draft_noise` ({self.draft_noise}) must lie in (0, 1]; use 1 to start from pure noise, and "
                "`num_inference_steps=0` to execute the draft."
            )
        if self.filter_margin != 0 and not self.filter_margin >= 1:
            raise ValueError(
                f"`filter_margin` ({self.filter_margin}) must be 1 or more, or 0 for no bound on changes."
            )
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"`ema_decay` ({self.ema_decay}) must lie in [0, 1); 0 turns averaging off.")
        if self.limit_margin < 0.0:
            raise ValueError(
                f"`limit_margin` ({self.limit_margin}) must not be negative; 0 clips at the data's range."
            )

    def _check_weights(self, field_name: str, weights: dict[str, float]) -> None:
        unknown = sorted(set(weights) - set(LAYER_NAMES))
        if unknown:
            raise ValueError(
                f"`{field_name}` names {', '.join(unknown)}; the layers are {', '.join(LAYER_NAMES)}."
            )
        for name, weight in weights.items():
            if weight < 0.0:
                raise ValueError(
                    f"`{field_name}[{name!r}]` ({weight}) must not be negative; 0 ignores that loss."
                )
