# SPDX-License-Identifier: Apache-2.0
"""Whether a module is what it was built as, so that reading its weights says what calling it would do."""

from __future__ import annotations

from torch import nn


def is_plain(module: nn.Module, types: frozenset[type[nn.Module]]) -> bool:
    """Whether `module` and all in it are exactly of `types`, without hooks.

    A LoRA adapter, a quantised layer, a sharded block or a weight norm has another type, and its `weight` is
    not the whole truth.
    """
    return all(
        type(part) in types and not part._forward_hooks and not part._forward_pre_hooks
        for part in module.modules()
    )
