# SPDX-License-Identifier: Apache-2.0
"""`PolicyContract`: what a policy must keep to work in LeRobot's own command lines."""

from collections.abc import Mapping
from typing import ClassVar

import draccus
from lerobot.configs import PreTrainedConfig

from .policy_acting import PolicyActingRules
from .policy_names import PolicyNameRules
from .policy_saving import PolicySavingRules
from .policy_subject import quiet

# Fields that make a stock-like policy download weights, and the value that keeps it from doing so.
_NO_DOWNLOAD = {"pretrained_backbone_weights": "null"}


class PolicyContract(PolicyNameRules, PolicyActingRules, PolicySavingRules):
    """A policy that `lerobot-train`, `lerobot-eval` and `lerobot-rollout` can use.

    Override `make_config`, and the hooks of `PolicySubject` where the defaults do not suit:

    ```python
    class TestMyPolicy(PolicyContract):
        def make_config(self):
            return MyPolicyConfig(device="cpu", hidden_dim=16)
    ```
    """

    @classmethod
    def for_choice(cls, name: str, settings: Mapping[str, str] | None = None) -> type["PolicyContract"]:
        """The contract of a registered policy.

        Args:
            name (`str`): Its type, such as `act`.
            settings (`Mapping[str, str]`, *optional*): Fields of its config, as on a command line.

        Returns:
            A contract whose `chosen_settings` say what was set: `settings`, and what keeps the policy from
            downloading weights.

        Raises:
            ValueError: No such policy is registered.
        """
        known = PreTrainedConfig.get_known_choices()
        if name not in known:
            raise ValueError(f"there is no policy type {name!r}; registered are {', '.join(sorted(known))}")
        config_class = known[name]
        fields = getattr(config_class, "__dataclass_fields__", {})
        offline = {field: value for field, value in _NO_DOWNLOAD.items() if field in fields}
        chosen = {**offline, **(settings or {})}
        words = ["--device=cpu", *(f"--{field}={value}" for field, value in chosen.items())]

        class Chosen(cls):  # type: ignore[misc, valid-type]
            chosen_settings: ClassVar[Mapping[str, str]] = chosen

            def make_config(self) -> PreTrainedConfig:
                with quiet():
                    config: PreTrainedConfig = draccus.parse(config_class, args=words)
                return config

        Chosen.__name__ = Chosen.__qualname__ = f"{cls.__name__}_{name}"
        return Chosen
