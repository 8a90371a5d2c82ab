# SPDX-License-Identifier: Apache-2.0
"""Another LeRobot policy as the actor: built, asked for chunks, trained and exported by its own interface.

What a policy has to offer is what every one of LeRobot's has: `forward`, `predict_action_chunk`,
`get_optim_params`, its delta indices and its processors. Plugins never import each other: all of it comes
through LeRobot's factory.

Legend: `B` batch, `S` samples, `T` actions of the actor's chunk, `H` of the critics', `A` action.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE
from lerobot.configs.policies import PreTrainedConfig
from lerobot.optim.optimizers import AdamConfig, AdamWConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.processor import NormalizerProcessorStep
from lerobot.utils.constants import ACTION
from safetensors import safe_open
from torch import Tensor, nn

from lerobot_ext.exporting.protocol import NotExportableError, is_stock
from lerobot_ext.offline_rl.routing import CLIP_NORM
from lerobot_ext.processing.pipelines import Pipelines
from lerobot_ext.processing.statistics import require_statistics, unusable_statistics

from .configuration_q_chunking import QChunkingConfig

logger = logging.getLogger(__name__)

_LOOKED_AT = 20
"""Tensors of an actor's file that are compared with what was read."""


def prepared(config: QChunkingConfig) -> PreTrainedConfig:
    """The actor's configuration with the features of the policy, which are known when it is built.

    An actor that widens vectors to a width of its own (pi0, smolvla) may come from a base model, which was
    trained for other robots: it gets the features of the dataset, as `lerobot-train` gives them to it.

    Raises:
        ValueError: The actor is from a checkpoint that has other features, and cannot take these.
    """
    actor = config.other_actor
    assert actor is not None
    actor.device = config.device  # it may have been changed since the configuration was made
    inputs, outputs = dict(config.input_features or {}), dict(config.output_features or {})
    if not actor.output_features:
        actor.output_features = outputs
    if not actor.input_features:
        actor.input_features = inputs
        return actor
    ours = {**inputs, **outputs}
    for name, feature in {**actor.input_features, **actor.output_features}.items():
        same = name in ours and (len(feature.shape) == 3 or tuple(ours[name].shape) == tuple(feature.shape))
        if same or "empty_camera" in name:
            continue
        given = f"has shape {tuple(ours[name].shape)}" if name in ours else "is missing"
        if _widens(actor):
            logger.info("q_chunking: `%s` %s in the dataset; the actor takes the dataset's", name, given)
            actor.input_features, actor.output_features = inputs, outputs
            return actor
        raise ValueError(
            f"the actor {actor.type!r} takes `{name}` of shape {tuple(feature.shape)}, which {given} "
            "in the policy's features; use a dataset with the features that it was trained on, or leave out "
            "`--policy.actor.pretrained_path`."
        )
    return actor


def _widens(actor: PreTrainedConfig) -> bool:
    """Whether it pads states and actions of any robot to one width."""
    return hasattr(actor, "max_state_dim") and hasattr(actor, "max_action_dim")


def build_actor(
    config: QChunkingConfig, dataset_stats: dict[str, dict[str, Any]] | None, dataset_meta: Any | None
) -> PreTrainedPolicy:
    """The policy that acts, with the weights of its own checkpoint if one is named.

    Within a checkpoint of this policy the weights come with it, and the actor's own is not read again.
    """
    actor = prepared(config)
    cls = get_policy_class(actor.type)
    given = {"config": actor, "dataset_stats": dataset_stats, "dataset_meta": dataset_meta}
    origin = actor.pretrained_path
    if origin is not None and config.pretrained_path is None:
        made = cls.from_pretrained(origin, revision=actor.pretrained_revision, **given)
        _check_weights(made, str(origin), actor.pretrained_revision)
        logger.info("q_chunking: the actor is the %s of %s", actor.type, origin)
    else:
        made = cls(**given)
    config.origin = None if origin is None else (str(origin), actor.pretrained_revision)
    actor.pretrained_path = actor.pretrained_revision = None
    if config.freeze_actor:
        made.requires_grad_(False)
    if config.actor_lora_rank:
        _adapt(made, config.actor_lora_rank)
    return made


def _check_weights(actor: PreTrainedPolicy, origin: str, revision: str | None) -> None:
    """LeRobot's pi0 goes on with random weights, after a printed line, where it cannot read its file.

    Raises:
        ValueError: Some of the file's tensors are not what the actor has.
    """
    folder = Path(origin)
    file = folder / SAFETENSORS_SINGLE_FILE
    if not folder.is_dir():
        file = Path(hf_hub_download(origin, SAFETENSORS_SINGLE_FILE, revision=revision))  # it is here by now
    state = actor.state_dict()
    with safe_open(file, "pt") as weights:
        pairs = [(name, state.get(name, state.get(f"model.{name}"))) for name in weights.keys()]  # noqa: SIM118
        known = [(name, tensor) for name, tensor in pairs if tensor is not None]
        wrong = [
            name
            for name, tensor in known[:: max(1, len(known) // _LOOKED_AT)]
            if not torch.equal(weights.get_tensor(name).to(tensor), tensor)
        ]
    if wrong or not known:
        raise ValueError(
            f"the weights of {file} were not read into the actor {actor.config.type!r} "
            f"({wrong[0] if wrong else 'no name fits'}): is it of the same sizes (`--policy.actor.…`)?"
        )


def actor_pipelines(
    config: QChunkingConfig, dataset_stats: dict[str, dict[str, Any]] | None, dataset_meta: Any | None
) -> Pipelines:
    """The actor's own processors; from its checkpoint, if it has one, with its statistics if they fit."""
    actor = prepared(config)
    origin = config.origin or (
        (str(actor.pretrained_path), actor.pretrained_revision) if actor.pretrained_path else None
    )
    if origin is None:
        require_statistics(actor, dataset_stats)
        made: Pipelines = make_pre_post_processors(
            actor, dataset_stats=dataset_stats, dataset_meta=dataset_meta
        )
        return made
    loaded: dict[str, Any] = {"pretrained_path": origin[0], "pretrained_revision": origin[1]}
    before = {"device_processor": {"device": config.device}}
    made = make_pre_post_processors(actor, **loaded, preprocessor_overrides=before)
    if dataset_stats is None or _has_statistics(made[0], actor):
        return made
    logger.info("q_chunking: %s has no statistics of these features; they are the dataset's", origin[0])
    require_statistics(actor, dataset_stats)
    inputs, outputs = actor.input_features or {}, actor.output_features or {}
    rules = {"norm_map": actor.normalization_mapping, "stats": dataset_stats}
    made = make_pre_post_processors(
        actor,
        **loaded,
        preprocessor_overrides=before
        | {"normalizer_processor": {"features": {**inputs, **outputs}, **rules}},
        postprocessor_overrides={"unnormalizer_processor": {"features": outputs, **rules}},
    )
    return made


def _has_statistics(preprocessor: Any, actor: PreTrainedConfig) -> bool:
    """Whether it normalises the vectors of the actor, by numbers of their widths."""
    steps = [step for step in preprocessor.steps if isinstance(step, NormalizerProcessorStep)]
    stats: dict[str, Any] = (steps[0].stats or {}) if steps else {}
    features = {**(actor.input_features or {}), **(actor.output_features or {})}
    vectors = {name: feature for name, feature in features.items() if len(feature.shape) == 1}
    if unusable_statistics(vectors, actor.normalization_mapping, stats, finite=False):
        return False
    return all(
        tuple(torch.as_tensor(value).shape) == tuple(feature.shape)
        for name, feature in vectors.items()
        for key, value in stats.get(name, {}).items()
        if key != "count"
    )


class Borrowed:
    """How an actor is asked, whatever policy it is.

    Args:
        config (`PreTrainedConfig`): The actor's.
        horizon (`int`): H.
    """

    def __init__(self, config: PreTrainedConfig, horizon: int) -> None:
        self.config, self.horizon = config, horizon
        seen = config.observation_delta_indices
        self.seen: list[int] | None = None if seen is None else list(seen)
        self.acting: list[int] | None = None if seen is None else [frame for frame in seen if frame <= 0]
        self.actions = list(config.action_delta_indices or range(horizon))
        self.differ = False

    def sample(self, actor: PreTrainedPolicy, batch: Mapping[str, Any], count: int) -> Tensor:
        """`count` chunks for each observation.

        Args:
            actor (`PreTrainedPolicy`): The policy, or its average.
            batch (`Mapping`): Preprocessed observations, of the frames `acting`.
            count (`int`): S.

        Returns:
            `Tensor`: (B, S, H * A).

        Raises:
            ValueError: Its chunks are shorter than those of the critics, or all samples are the same.
        """
        asked = {key: _repeated(value, count) for key, value in batch.items() if not key.startswith(ACTION)}
        actor.reset()  # an earlier episode's frames would be asked in place of these
        with evaluating(actor), torch.no_grad():
            chunks = actor.predict_action_chunk(asked)
        if chunks.shape[1] < self.horizon:
            raise ValueError(
                f"the actor {self.config.type!r} plans {chunks.shape[1]} actions at once, and the critics "
                f"read `chunk_size` ({self.horizon}); lower it, or raise `--policy.actor.n_action_steps`."
            )
        made = chunks[:, : self.horizon].flatten(1).view(-1, count, self.horizon * chunks.shape[2])
        if count > 1 and not self.differ:
            # Asked so that tensors without values (`lerobot-ext memory`), which answer yes, do differ.
            if not bool((made != made[:, :1]).any()):
                raise ValueError(
                    f"the actor {self.config.type!r} plans the same chunk again and again, and there is "
                    "nothing to choose from; use a policy that samples (diffusion, or a flow)."
                )
            self.differ = True
        samples: Tensor = made.float()
        return samples

    def losses(
        self, actor: PreTrainedPolicy, batch: dict[str, Any], weights: Tensor | None
    ) -> tuple[Tensor, dict[str, float]]:
        """The actor's own loss, weighted where `weights` (B,) are given.

        A policy that has no losses by sample is given a batch in which samples are drawn by their weights,
        whose mean loss is, on average, the weighted one. Where all weights are zero, so is the loss.

        Returns:
            `tuple[Tensor, dict]`: (B,), or () without losses by sample; and the numbers that it logs.
        """
        if "reduction" in inspect.signature(actor.forward).parameters:
            losses, log = actor.forward(batch, reduction="none")
            return (losses if weights is None else losses * weights), _numbers(log)
        if weights is None:
            loss, log = actor.forward(batch)
            return loss, _numbers(log)
        # A small batch may hold nothing to learn from: any samples will do, as their loss counts nothing.
        likely = torch.where(weights.sum() > 0, weights, 1.0)
        drawn = torch.multinomial(likely, len(weights), replacement=True)
        loss, log = actor.forward({key: _chosen(value, drawn, len(weights)) for key, value in batch.items()})
        return loss * weights.mean(), _numbers(log)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Within, `module` is in evaluation mode; each part is put back to its own afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def optimizer_groups(actor: PreTrainedPolicy, clip_norm: float) -> list[dict[str, Any]]:
    """The actor's parameters as its own preset trains them.

    Args:
        actor (`PreTrainedPolicy`): The policy.
        clip_norm (`float`): Largest norm where the preset names none.

    Raises:
        ValueError: Its preset is no kind of Adam, or its parameters come in a form of their own.
    """
    preset = actor.config.get_optimizer_preset()
    if not isinstance(preset, (AdamConfig, AdamWConfig)):
        raise ValueError(
            f"the actor {actor.config.type!r} is trained by {preset.type!r}, which cannot share one AdamW "
            "with the critics; set `--policy.freeze_actor=true`."
        )
    options = {
        "lr": preset.lr,
        "betas": tuple(preset.betas),
        "eps": preset.eps,
        "weight_decay": preset.weight_decay,
        "decoupled_weight_decay": isinstance(preset, AdamWConfig),
        CLIP_NORM: preset.grad_clip_norm or clip_norm,
    }
    given: Any = actor.get_optim_params()
    if isinstance(given, Mapping):
        raise ValueError(
            f"the actor {actor.config.type!r} gives its parameters by name, which this optimizer does not "
            "take; set `--policy.freeze_actor=true`."
        )
    listed = list(given)
    groups = listed if listed and isinstance(listed[0], Mapping) else [{"params": listed}]
    made = []
    for group in groups:
        trained = [p for p in _parameters(group["params"]) if p.requires_grad]
        if trained:
            made.append({**options, **group, "params": trained})
    return made


def stock_actor(actor: PreTrainedPolicy, config: QChunkingConfig) -> PreTrainedPolicy:
    """The actor alone, as an instance of LeRobot's class, its adapters merged.

    Raises:
        NotExportableError: It is no class of LeRobot's, or acts only together with the critics.
    """
    if not is_stock(type(actor)):
        raise NotExportableError(
            f"the actor {actor.config.type!r} is no policy of LeRobot's own",
            "run the checkpoint where its packages are installed",
        )
    if config.extraction == "best_of_n" and config.num_samples > 1:
        raise NotExportableError(
            f"the critics choose among `num_samples` ({config.num_samples}) of the actor's chunks, which a "
            "stock policy cannot",
            "train with --policy.extraction=awr, or set num_samples to 1 in config.json: the actor alone",
        )
    made = deepcopy(actor)
    _merge(made)
    made.requires_grad_(True)
    made.reset()
    return made


def _adapt(actor: PreTrainedPolicy, rank: int) -> None:
    """Freeze the actor and put LoRA adapters where it wants them.

    Raises:
        ValueError: It does not say where.
        ImportError: PEFT is missing.
    """
    targets = dict(actor._get_default_peft_targets() or {})
    if not targets.get("target_modules"):
        raise ValueError(
            f"the actor {actor.config.type!r} names no places for adapters; set `--policy.actor_lora_rank=0`."
        )
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError(
            '`actor_lora_rank` needs PEFT: pip install "lerobot_policy_q_chunking[lora]", or set it to 0.'
        ) from error
    actor.requires_grad_(False)
    whole = targets.pop("modules_to_save", None) or []
    inject_adapter_in_model(LoraConfig(r=rank, **targets), actor)
    for name, parameter in actor.named_parameters():
        parameter.requires_grad_("lora_" in name or any(part in name.split(".") for part in whole))


def _merge(actor: nn.Module) -> None:
    """Add LoRA adapters to the weights that they adapt, and take them away."""
    adapted = [(name, module) for name, module in actor.named_modules() if hasattr(module, "get_base_layer")]
    for name, module in adapted:
        module.merge()
        parent, _, child = name.rpartition(".")
        setattr(actor.get_submodule(parent), child, module.get_base_layer())


def _parameters(given: Any) -> Iterable[nn.Parameter]:
    return [given] if isinstance(given, nn.Parameter) else given


def _repeated(value: Any, times: int) -> Any:
    if times == 1:
        return value
    if isinstance(value, Tensor) and value.ndim:
        return value.repeat_interleave(times, 0)
    if isinstance(value, list):
        return [item for item in value for _ in range(times)]
    return value


def _chosen(value: Any, drawn: Tensor, size: int) -> Any:
    if isinstance(value, Tensor) and value.ndim and len(value) == size:
        return value[drawn]
    if isinstance(value, list) and len(value) == size:
        return [value[place] for place in drawn.tolist()]
    return value


def _numbers(log: Any) -> dict[str, float]:
    """What a policy logs as plain numbers; its own total is not one of them."""
    found = (log or {}).items()
    return {
        f"actor_{name}": float(value)
        for name, value in found
        if isinstance(value, (int, float)) and not isinstance(value, bool) and name != "loss"
    }
