# SPDX-License-Identifier: Apache-2.0
"""Configuration of ACT+: stock ACT's fields, and flags that are all off by default."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig

from lerobot_ext.pipelines.config import ExtraStepsField

TASK_CONDITIONINGS = ("none", "index", "text")
DEPTH_FUSIONS = ("none", "early", "cross")
ADVANTAGES = ("none", "sign", "value")
HEADS = ("l1", "flow")
TARGETS = ("velocity", "actions")
SOLVERS = ("euler", "midpoint")
STARTS = ("noise", "draft")
NORMS = ("frozen_batch", "group")


@PreTrainedConfig.register_subclass("act_plus")
@dataclass
class ActPlusConfig(ExtraStepsField, ACTConfig):
    """Stock ACT and its extensions. Every field of `ACTConfig` keeps its meaning and its default.

    Args:
        prefix_steps (`int`, *optional*, defaults to `0`): Most actions of the running chunk that a new one is
            told and continues (training-time real-time chunking). Training draws 0 to `prefix_steps` of them;
            0 leaves the part out. Give at least the frames that planning takes.
        commit_steps (`int`, *optional*, defaults to `0`): Actions left of the last chunk that a new one keeps
            at its start, also where planning takes no time; needs `prefix_steps` or `join_steps`.
        join_steps (`int`, *optional*, defaults to `0`): Following actions over which fades out what lies
            between the last kept action and the one a new chunk has in its place; needs no training.
        blend_steps (`int`, *optional*, defaults to `0`): Following actions over which a new chunk is faded in
            over what is left of the last one.
        task_conditioning (`str`, *optional*, defaults to `"none"`): `"index"` learns one vector a task of the
            dataset, `"text"` embeds the task's words.
        task_names (`list[str]`, *optional*): The tasks `"index"` knows; filled in from the dataset.
        task_buckets (`int`, *optional*, defaults to `1024`): Size of the hash table of words and character
            n-grams for `"text"`.
        text_encoder (`str`, *optional*): Folder of a sentence encoder (a `transformers` model with its
            tokenizer) that embeds texts instead of the hash table; it is not trained.
        depth_fusion (`str`, *optional*, defaults to `"none"`): `"early"` adds depth and its mask as two more
            channels of the camera of the same name, `"cross"` encodes depth cameras by themselves and lets
            the colour patches attend to theirs.
        advantage (`str`, *optional*, defaults to `"none"`): Token that tells how good the demonstrated
            actions are: `"sign"` (better than nothing or not) or `"value"` (the number itself).
        advantage_key (`str`, *optional*, defaults to `"observation.advantage"`): Column of the dataset with
            one number a frame; only names that begin with `observation.` reach a policy.
        advantage_dropout (`float`, *optional*, defaults to `0.1`): Chance that the token is hidden in
            training.
        advantage_target (`float`, *optional*, defaults to `1.0`): Advantage that acting asks for.
        guidance (`float`, *optional*, defaults to `1.0`): How far acting goes from what the policy does
            without the token, to what it does with it, and beyond (classifier-free guidance).
        head (`str`, *optional*, defaults to `"l1"`): `"flow"` samples chunks by flow matching, for
            demonstrations that do the same thing in several ways; needs `use_vae=false`.
        flow_draws (`int`, *optional*, defaults to `1`): Noises and times that a sample is trained with at
            once; only the decoder runs for each.
        flow_steps (`int`, *optional*, defaults to `5`): Steps of the solver, each one pass of the decoder
            (two for `"midpoint"`).
        flow_solver (`str`, *optional*, defaults to `"euler"`): `"euler"` or `"midpoint"`.
        flow_target (`str`, *optional*, defaults to `"velocity"`): `"actions"` lets the network say the clean
            chunk, from which the velocity follows: nearer to the demonstrations with small networks.
        flow_start (`str`, *optional*, defaults to `"noise"`): `"draft"` also trains the L1 head and starts
            from its chunk, mixed with noise.
        draft_noise (`float`, *optional*, defaults to `0.5`): Share of noise in a start from the draft.
        backbone_norm (`str`, *optional*, defaults to `"frozen_batch"`): `"group"` for ResNets that are
            trained from scratch.
        backbone_weights (`str`, *optional*): File with weights of the backbone (`.pth`, `.safetensors`),
            read once, when a new policy is built.
        use_relative_actions (`bool`, *optional*, defaults to `False`): Predict actions relative to the joint
            positions at the time of planning.
        relative_exclude_joints (`list[str]`, *optional*): Joints whose actions stay absolute, by a part of
            their names.
        action_feature_names (`list[str]`, *optional*): Names of the joints; filled in from the dataset.
    """

    # Real-time chunking and what happens where one chunk follows another.
    prefix_steps: int = 0
    commit_steps: int = 0
    join_steps: int = 0
    blend_steps: int = 0

    # Instructions.
    task_conditioning: str = "none"
    task_names: list[str] = field(default_factory=list)
    task_buckets: int = 1024
    text_encoder: str | None = None

    # Depth cameras.
    depth_fusion: str = "none"

    # How good the demonstrations are.
    advantage: str = "none"
    advantage_key: str = "observation.advantage"
    advantage_dropout: float = 0.1
    advantage_target: float = 1.0
    guidance: float = 1.0

    # How actions come out.
    head: str = "l1"
    flow_draws: int = 1
    flow_steps: int = 5
    flow_solver: str = "euler"
    flow_target: str = "velocity"
    flow_start: str = "noise"
    draft_noise: float = 0.5

    # Vision, beside ACT's own fields.
    backbone_norm: str = "frozen_batch"
    backbone_weights: str | None = None

    # Relative actions, by the names LeRobot's trainer knows.
    use_relative_actions: bool = False
    relative_exclude_joints: list[str] = field(default_factory=list)
    action_feature_names: list[str] | None = None

    def __post_init__(self) -> None:
        # Past stock ACT's own checks, two of which hold no longer; the others follow.
        PreTrainedConfig.__post_init__(self)
        self._check_choices()
        self._check_chunks()
        self._check_ensemble()
        self._check_numbers()
        self._check_combinations()

    @classmethod
    def from_act(cls, config: ACTConfig, **flags: Any) -> ActPlusConfig:
        """The config of a stock ACT policy with some flags turned on.

        Args:
            config (`ACTConfig`): Of the stock policy; it is left alone.
            **flags (`Any`): Fields of `ActPlusConfig` to set.

        Raises:
            ValueError: If a field has no meaning; names it.
        """
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(flags) - known)
        if unknown:
            raise ValueError(
                f"act_plus has no field `{unknown[0]}`; see `lerobot-train --policy.type=act_plus --help`."
            )
        taken = {f.name: getattr(config, f.name) for f in fields(config) if f.name in known}
        return cls(**{**taken, **flags})

    @property
    def is_stock(self) -> bool:
        """Whether the network is stock ACT's: what differs, if anything, happens around it."""
        return (
            self.prefix_steps == 0
            and self.task_conditioning == "none"
            and self.depth_fusion == "none"
            and self.advantage == "none"
            and self.head == "l1"
        )

    @property
    def colour_features(self) -> dict[str, PolicyFeature]:
        """The cameras whose pictures have three channels."""
        return {key: ft for key, ft in self.image_features.items() if ft.shape[0] == 3}

    @property
    def depth_features(self) -> dict[str, PolicyFeature]:
        """The cameras whose pictures have one channel."""
        return {key: ft for key, ft in self.image_features.items() if ft.shape[0] == 1}

    def validate_features(self) -> None:
        """Check that the dataset offers what the policy needs.

        Raises:
            ValueError: If there is neither a camera nor an environment state, no state, or cameras that
                `depth_fusion` cannot use.
        """
        super().validate_features()
        if self.robot_state_feature is None or self.action_feature is None:
            missing = "observation.state" if self.robot_state_feature is None else "action"
            raise ValueError(
                f"`{missing}` is missing from the policy's features; map a column to it with `--rename_map`."
            )
        for key, feature in self.image_features.items():
            if len(feature.shape) != 3 or feature.shape[0] not in (1, 3):
                raise ValueError(
                    f"`{key}` has shape {tuple(feature.shape)}; the policy reads colour images (3, h, w) "
                    "and depth maps "
                    "(1, h, w). Leave it out of `--policy.input_features`."
                )
        depth = sorted(self.depth_features)
        if depth and self.depth_fusion == "none":
            raise ValueError(
                f"`{depth[0]}` is a depth camera and `depth_fusion` is 'none'; choose "
                "`--policy.depth_fusion=cross` or "
                "'early', or leave the camera out of `--policy.input_features`."
            )
        if not depth and self.depth_fusion != "none":
            raise ValueError(
                f"`depth_fusion` is {self.depth_fusion!r}, but no camera has one channel, (1, h, w); the "
                "cameras are "
                f"{', '.join(self.image_features) or 'none'}. Set `--policy.depth_fusion=none`."
            )
        if self.depth_fusion == "early":
            self.depth_partners()

    def depth_partners(self) -> dict[str, str]:
        """For `depth_fusion="early"`: the depth camera of each colour camera.

        The two go together whose names are alike without "depth"; a single pair always does.

        Raises:
            ValueError: If a camera has no partner.
        """
        colour, depth = list(self.colour_features), list(self.depth_features)
        if len(colour) == len(depth) == 1:
            return {colour[0]: depth[0]}
        by_name = {_without_depth(key): key for key in depth}
        partners = {key: by_name.pop(_without_depth(key), "") for key in colour}
        alone = [key for key, partner in partners.items() if not partner] + list(by_name.values())
        if alone:
            raise ValueError(
                f"`depth_fusion` is 'early', but `{alone[0]}` has no partner; name the depth map of `….top` "
                "`….top_depth`, or choose `--policy.depth_fusion=cross`."
            )
        return partners

    def _check_choices(self) -> None:
        for name, choices in (
            ("task_conditioning", TASK_CONDITIONINGS),
            ("depth_fusion", DEPTH_FUSIONS),
            ("advantage", ADVANTAGES),
            ("head", HEADS),
            ("flow_solver", SOLVERS),
            ("flow_target", TARGETS),
            ("flow_start", STARTS),
            ("backbone_norm", NORMS),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"`{name}` ({getattr(self, name)!r}) must be one of {', '.join(choices)}.")

    def _check_chunks(self) -> None:
        if self.n_obs_steps != 1:
            raise ValueError(f"`n_obs_steps` ({self.n_obs_steps}) must be 1: ACT sees the newest frame only.")
        if not 1 <= self.n_action_steps <= self.chunk_size:
            raise ValueError(
                f"`n_action_steps` ({self.n_action_steps}) must lie in 1..`chunk_size` ({self.chunk_size}); "
                "lower it or "
                "train with longer chunks."
            )
        if not 0 <= self.prefix_steps < self.chunk_size:
            raise ValueError(
                f"`prefix_steps` ({self.prefix_steps}) must lie in 0..`chunk_size` - 1 "
                f"({self.chunk_size - 1}): at least "
                "one action of a chunk has to be new."
            )
        if self.join_steps < 0:
            raise ValueError(f"`join_steps` ({self.join_steps}) must be 0 or more.")
        most = self.chunk_size - 1 if self.join_steps and not self.prefix_steps else self.prefix_steps
        if not 0 <= self.commit_steps <= most:
            raise ValueError(
                f"`commit_steps` ({self.commit_steps}) must lie in 0..{most}; raise `prefix_steps` and train "
                "with it, or set `join_steps`."
            )
        left = self.chunk_size - self.n_action_steps
        if self.blend_steps < 0 or (
            (self.commit_steps or self.blend_steps) and self.commit_steps + self.blend_steps > left
        ):
            raise ValueError(
                f"`commit_steps` + `blend_steps` ({self.commit_steps} + {self.blend_steps}) must lie in "
                f"0..{left}, the "
                "actions that are left of a chunk (`chunk_size` - `n_action_steps`); lower `n_action_steps`."
            )

    def _check_ensemble(self) -> None:
        coefficient = self.temporal_ensemble_coeff
        if coefficient is None:
            return
        if not 0 <= coefficient <= 1:
            raise ValueError(
                f"`temporal_ensemble_coeff` ({coefficient}) must lie in 0..1. A negative one favours the "
                "newest chunk: "
                "on ALOHA transfer cube LeRobot's pull request 319 measured 6.6 % success at -0.1 and 62.2 "
                "% at -0.01, "
                "against 70.8 % at 0.01 and 87.6 % without ensembling."
            )
        if self.commit_steps or self.blend_steps or self.join_steps:
            raise ValueError(
                "`temporal_ensemble_coeff` averages over chunks and goes with none of `commit_steps`, "
                "`join_steps` and `blend_steps`; leave it out."
            )

    def _check_numbers(self) -> None:
        for name in ("advantage_dropout", "draft_noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` ({getattr(self, name)}) must lie in 0..1.")
        if self.draft_noise == 0:
            raise ValueError("`draft_noise` (0) leaves nothing to refine; give more, or choose `head=l1`.")
        for name in ("flow_draws", "flow_steps"):
            if not 1 <= getattr(self, name) <= 100:
                raise ValueError(f"`{name}` ({getattr(self, name)}) must lie in 1..100.")
        if self.task_buckets < 2:
            raise ValueError(f"`task_buckets` ({self.task_buckets}) must be at least 2.")
        if self.dim_model % 2 or self.dim_model < 4 or self.dim_model % self.n_heads:
            raise ValueError(
                f"`dim_model` ({self.dim_model}) must be even and a multiple of `n_heads` ({self.n_heads})."
            )

    def _check_combinations(self) -> None:
        if self.head == "flow" and self.use_vae:
            raise ValueError(
                "`head` is 'flow' and `use_vae` is true: both would carry what tells the ways of doing a "
                "task apart. Set "
                "`--policy.use_vae=false`."
            )
        if self.join_steps and self.prefix_steps and self.head == "flow":
            raise ValueError(
                f"`join_steps` ({self.join_steps}) and `prefix_steps` ({self.prefix_steps}) do not go "
                "together "
                "with `head` 'flow', which says nothing of committed actions; set one of them to 0."
            )
        if self.backbone_norm == "group" and self.pretrained_backbone_weights:
            raise ValueError(
                f"`backbone_norm` is 'group', but `pretrained_backbone_weights` "
                f"({self.pretrained_backbone_weights}) are "
                "of a network with batch norms; set `--policy.pretrained_backbone_weights=null`."
            )
        if self.text_encoder and self.task_conditioning != "text":
            raise ValueError(
                f"`text_encoder` is set, but `task_conditioning` is {self.task_conditioning!r}; set it to "
                "'text'."
            )
        if self.advantage != "none" and not self.advantage_key.startswith("observation."):
            raise ValueError(
                f"`advantage_key` ({self.advantage_key!r}) must begin with `observation.`: LeRobot drops "
                "other columns on "
                "their way to the policy."
            )
        if self.guidance != 1.0 and self.advantage == "none":
            raise ValueError(
                f"`guidance` ({self.guidance}) needs an advantage token; set `advantage` to 'sign'."
            )


def _without_depth(key: str) -> str:
    """The name of a camera without the word depth and its separator."""
    name = key.rpartition(".")[2]
    return "_".join(part for part in name.split("_") if part != "depth")
