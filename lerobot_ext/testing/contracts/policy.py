# SPDX-License-Identifier: Apache-2.0
"""`PolicyContract`: what a policy must keep to work in LeRobot's own command lines."""

from collections.abc import Mapping
from typing import Self, cast

from lerobot.configs import PreTrainedConfig

from ..choices import choice_class, config_factory
from .policy_acting import PolicyActingRules
from .policy_names import PolicyNameRules
from .policy_saving import PolicySavingRules
from .policy_subject import quiet

# Fields that make a stock-like policy download weights, and the text that keeps it from doing so.
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
    def for_choice(cls, name: str, settings: Mapping[str, str]) -> type[Self]:
        """See `Contract.for_choice`; nothing is downloaded, so a pretrained backbone begins untrained."""
        fields = choice_class(PreTrainedConfig, name).__dataclass_fields__
        offline = {field: text for field, text in _NO_DOWNLOAD.items() if field in fields}
        texts = {"device": "cpu", **offline, **settings}
        with quiet():
            make = config_factory(PreTrainedConfig, name, texts)
            make()  # settings that do not fit are the user's to mend, no broken rule
        why = {field: f"{text}, because a check downloads nothing" for field, text in offline.items()}
        changed = {field: reason for field, reason in why.items() if field not in settings}
        members = {
            "make_config": lambda self: make(),
            "changed": {**make.placeholders, **changed},
            "__doc__": f"{cls.__name__} of `{name}`.",
        }
        return cast(type[Self], type(f"{cls.__name__}_{name}", (cls,), members))
