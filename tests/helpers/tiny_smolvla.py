# SPDX-License-Identifier: Apache-2.0
"""A SmolVLA of LeRobot's own classes, a thousand times smaller, without the Hub."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_pi0 import VOCABULARY, word_tokenizer


def shrink_smolvla(patch: pytest.MonkeyPatch) -> None:
    """Make every `SmolVLAPolicy` small, until `patch` is undone."""
    from lerobot.policies.smolvla import smolvlm_with_expert
    from transformers import SmolVLMConfig

    config = SmolVLMConfig(
        text_config={
            "model_type": "llama",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "vocab_size": VOCABULARY,
            "pad_token_id": 0,
        },
        vision_config={
            "hidden_size": 24,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        scale_factor=2,
        image_token_id=VOCABULARY - 1,
        pad_token_id=0,
    )
    words = SimpleNamespace(tokenizer=SimpleNamespace(fake_image_token_id=1, global_image_token_id=2))
    patch.setattr(smolvlm_with_expert, "AutoConfig", SimpleNamespace(from_pretrained=lambda _: config))
    patch.setattr(smolvlm_with_expert, "AutoProcessor", SimpleNamespace(from_pretrained=lambda _: words))


def tiny_smolvla_config(tokenizer: Path, **fields: Any) -> Any:
    """Short chunks and small pictures; its tokenizer is in a folder (`word_tokenizer`)."""
    from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig

    return SmolVLAConfig(
        device="cpu",
        push_to_hub=False,
        chunk_size=4,
        n_action_steps=4,
        max_state_dim=8,
        max_action_dim=8,
        num_steps=2,
        resize_imgs_with_padding=(32, 32),
        tokenizer_max_length=6,
        vlm_model_name=str(word_tokenizer(tokenizer)),
        **fields,
    )
