# SPDX-License-Identifier: Apache-2.0
"""The policies that are compared, as words of the stock `lerobot-train` and `lerobot-eval`.

lapo, bc, filtered_bc, iql   the four extractions of `lapo`; both cloners regress
qc, qc_best_of_n, qc_awr     Q-chunking, by its three extractions
qc_bc, qc_filtered_bc        its flow alone, of all and of the best episodes
diffusion      LeRobot's `diffusion`, with a U-Net of 2 M parameters, chunks of 16 and a learning rate of
               1e-3: as it ships it has 250 M parameters, too many for one thread; evaluated with 10 DDIM
               steps, for its own 100 DDPM steps take ten times as long
"""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass
from functools import cache
from typing import Any

_ASIDE = (
    "device", "push_to_hub", "repo_id", "private", "tags", "license", "pretrained_path",
    "pretrained_revision", "input_features", "output_features",
)  # fmt: skip
"""Fields of a policy that decide nothing of what is learned, or that the dataset fills in."""


@dataclass(frozen=True)
class Method:
    """A policy that takes part.

    Args:
        title (`str`): Name in tables.
        words (`tuple[str, ...]`): Of `lerobot-train`.
        acting (`tuple[str, ...]`): Of `lerobot-eval`.
    """

    title: str
    words: tuple[str, ...]
    acting: tuple[str, ...] = ()


def _lapo(title: str, extraction: str, *more: str) -> Method:
    return Method(title, ("--policy.type=lapo", f"--policy.extraction={extraction}", *more))


def _q_chunking(title: str, extraction: str, *more: str) -> Method:
    return Method(title, ("--policy.type=q_chunking", f"--policy.extraction={extraction}", *more))


METHODS = {
    "lapo": _lapo("LAPO", "lapo"),
    "bc": _lapo("cloning", "bc"),
    "filtered_bc": _lapo("cloning of the best 30 %", "filtered_bc"),
    "iql": _lapo("IQL", "iql", "--policy.expectile=0.7"),
    "qc": _q_chunking("Q-chunking, `distill`", "distill"),
    "qc_best_of_n": _q_chunking("Q-chunking, `best_of_n`", "best_of_n"),
    "qc_awr": _q_chunking("Q-chunking, `awr`", "awr"),
    "qc_bc": _q_chunking("flow cloning", "bc"),
    "qc_filtered_bc": _q_chunking("flow cloning of the best 30 %", "filtered_bc"),
    "diffusion": Method(
        "LeRobot's diffusion, 10 DDIM steps",
        (
            "--policy.type=diffusion", "--policy.horizon=16", "--policy.n_action_steps=8",
            "--policy.down_dims=[40,80,160]", "--policy.optimizer_lr=1e-3",
            "--policy.scheduler_warmup_steps=100",
        ),
        ("--policy.noise_scheduler_type=DDIM", "--policy.num_inference_steps=10"),
    ),
}  # fmt: skip

OF_LAPO = ("lapo", "bc", "filtered_bc", "iql")
NO_VALUES = ("bc", "filtered_bc", "qc_bc", "qc_filtered_bc", "diffusion")
CLONING = {"lapo": "bc", "qc": "qc_bc"}
"""What learns values, and the cloning of all episodes by the same networks."""


def learns_values(method: str) -> bool:
    """Whether it can go on learning from rewards in an environment."""
    return method not in NO_VALUES


@cache
def fields_of(words: tuple[str, ...]) -> dict[str, Any]:
    """All fields of the policy that these words of `lerobot-train` name which decide what it learns."""
    import draccus
    import lerobot.policies  # noqa: F401 - registers LeRobot's own
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.utils.import_utils import register_third_party_plugins

    register_third_party_plugins()
    # A registry of choices can only be parsed as a field of something.
    holder = make_dataclass("Policy", [("policy", PreTrainedConfig)])
    policy = draccus.parse(holder, args=[*words, "--policy.device=cpu"]).policy
    every = {"type": policy.type, **draccus.encode(policy)}
    return {name: value for name, value in every.items() if name not in _ASIDE}


def fields(method: str, more: tuple[str, ...] = ()) -> dict[str, Any]:
    """All fields of a method's policy that decide what it learns, the defaults of its type among them.

    Args:
        method (`str`): A key of `METHODS`.
        more (`tuple[str, ...]`): Words beyond its own; those that are not of the policy are left out.
    """
    return dict(fields_of((*METHODS[method].words, *(word for word in more if word.startswith("--policy.")))))


def package(method: str) -> str:
    """The package that a method's policy is in."""
    return package_of(fields(method)["type"])


def package_of(kind: str) -> str:
    """The package that a registered policy is in, once its fields were asked for."""
    from lerobot.configs.policies import PreTrainedConfig

    return PreTrainedConfig.get_choice_class(kind).__module__.partition(".")[0]
