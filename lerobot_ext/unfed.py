# SPDX-License-Identifier: Apache-2.0
"""The last line for who runs a command that fails: of a policy, what did not come in that it was trained on.

Policies of LeRobot take what they need from the batch and end in a bare `KeyError:
'observation.environment_state'` when an environment or a robot does not give it. Behind the traceback stands
then what came in instead, and which options decide that; and behind every error what was said of the command
line before the command began. Nothing is looked at before a process fails.
"""

import logging
import sys
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from lerobot_ext import last_words

_REMEDIES = {
    "lerobot_eval": "choose observations of the environment that hold it (of the simulated Koch "
    "`--env.obs=pixels` for cameras, `state` for poses; of others `--env.obs_type`)",
    "lerobot_train": "choose a dataset, and of the environment (`--env.obs`, `--env.obs_type`) observations, "
    "that hold it",
}
_ON_A_ROBOT = "give the robot the camera or sensor by that name (`--robot.cameras`, `--robot.tracker`)"
_RENAMED = """, or give it another's by `--rename_map='{{"{given}": "{wanted}"}}'`"""

# LeRobot's `OBS_PREFIX` and `OBS_IMAGES`: its constants come with torch, which no plugin needs to load.
_PREFIX, _IMAGES = "observation.", "observation.images"

logger = logging.getLogger(__name__)


def explain_at_the_end() -> None:
    """Have this process, if it is one of LeRobot's commands, say what a policy lacked before it ends."""
    if _program().startswith("lerobot_") and _program() != "lerobot_ext":
        install()


def install() -> None:
    """Put ours behind the present `sys.excepthook`; a second time changes nothing."""
    if getattr(sys.excepthook, "explains", None) is explanation:
        return
    first = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        first(kind, error, traceback)
        if not isinstance(error, Exception):
            return  # Ctrl-C
        said = explanation(error)
        if said:
            logger.error("lerobot_ext: %s", said)
        last_words.repeat(logger)

    hook.explains = explanation  # type: ignore[attr-defined]
    sys.excepthook = hook


def explanation(error: BaseException) -> str:
    """What a policy lacked, what it had, and the remedy; empty for any other failure.

    Args:
        error (`BaseException`): As it was raised, with its traceback.
    """
    wanted = error.args[0] if isinstance(error, KeyError) and error.args else None
    if not isinstance(wanted, str) or not wanted.startswith(_PREFIX):
        return ""
    given = _given(error.__traceback__, wanted)
    if not given:
        return ""
    remedy = _REMEDIES.get(_program(), _ON_A_ROBOT)
    alike = [name for name in given if name.rpartition(".")[0] == wanted.rpartition(".")[0]]
    if wanted.startswith(f"{_IMAGES}.") and alike:
        remedy += _RENAMED.format(given=alike[0], wanted=wanted)
    return f"the policy takes {wanted}, and was given {', '.join(given)}. Remedy: {remedy}"


def _program() -> str:
    """Which command this is, `lerobot_eval` for `lerobot-eval`."""
    return Path(sys.argv[0]).stem.replace("-", "_")


def _given(traceback: TracebackType | None, wanted: str) -> list[str]:
    """Tensors by such names in the innermost batch without the wanted one, among what functions held."""
    found: list[str] = []
    while traceback is not None:
        for value in traceback.tb_frame.f_locals.values():
            if isinstance(value, dict) and wanted not in value:
                found = sorted(filter(partial(_is_tensor, value), value)) or found
        traceback = traceback.tb_next
    return found


def _is_tensor(batch: dict[Any, Any], name: Any) -> bool:
    return isinstance(name, str) and name.startswith(_PREFIX) and hasattr(batch[name], "shape")
