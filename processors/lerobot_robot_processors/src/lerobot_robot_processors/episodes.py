# SPDX-License-Identifier: Apache-2.0
"""Tells the steps of a policy's pipelines where an episode starts in `lerobot-eval`.

`lerobot-rollout` resets policy and pipelines; `lerobot-eval`, also within `lerobot-train`, resets the policy
alone. A history of frames, or the state that a chunk is relative to, would then reach from one episode into
the next. Tasks that LeRobot evaluates in parallel threads (`max_parallel_tasks` above 1) share one pipeline:
steps with a memory cannot be right there.
"""

import sys
from types import ModuleType
from typing import Any

from lerobot_ext.patches import Patch

_SCRIPT = "lerobot.scripts.lerobot_eval"
_PIPELINES = ("env_preprocessor", "env_postprocessor", "preprocessor", "postprocessor")

_patch = Patch("evaluation", "steps with a memory are not reset between the episodes of lerobot-eval")


def install() -> None:
    """Reset the pipelines at the start of each rollout, if this process has LeRobot's evaluation."""
    script = evaluation_script()
    if script is not None:
        _patch.install({(script, "rollout"): _rollout})


def uninstall() -> None:
    """Give LeRobot its own evaluation back."""
    _patch.uninstall()


def evaluation_script() -> ModuleType | None:
    """The module that evaluates, under whatever name it runs; `None` where there is none."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    return main if spec is not None and spec.name == _SCRIPT else sys.modules.get(_SCRIPT)


def _rollout(env: Any, policy: Any, *pipelines: Any, **named: Any) -> Any:
    """LeRobot's rollout, after a reset of its pipelines."""
    for pipeline in (*pipelines, *(named.get(name) for name in _PIPELINES)):
        if hasattr(pipeline, "steps") and hasattr(pipeline, "reset"):
            pipeline.reset()
    return _patch.stock("rollout")(env, policy, *pipelines, **named)
