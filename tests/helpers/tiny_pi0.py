# SPDX-License-Identifier: Apache-2.0
"""A pi0 of LeRobot's own classes, a thousand times smaller: its sizes are constants in the modeling file."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.pi0 import modeling_pi0
from lerobot.policies.pi0.configuration_pi0 import PI0Config

_HAS_PI0 = find_spec("transformers") is not None and find_spec("peft") is not None
PI0_MARKS = [
    pytest.mark.pi0,
    pytest.mark.skipif(not _HAS_PI0, reason="test_pi0_environment.py runs it, where transformers is"),
]


def needs_pi0(test: Any) -> Any:
    """Mark a test that needs a pi0."""
    for mark in PI0_MARKS:
        test = mark(test)
    return test


WIDTHS = {"gemma_2b": 32, "gemma_300m": 16}
TOKENS = 6
VOCABULARY = 64


def shrink_pi0(patch: pytest.MonkeyPatch) -> None:
    """Make every `PI0Policy` small, until `patch` is undone."""

    def gemma_config(variant: str) -> Any:
        # 8 heads are written into the attention.
        return modeling_pi0.GemmaConfig(
            width=WIDTHS[variant], depth=2, mlp_dim=48, num_heads=8, num_kv_heads=1, head_dim=8
        )

    paligemma, gemma = (
        modeling_pi0.PaliGemmaForConditionalGenerationWithPiGemma,
        modeling_pi0.PiGemmaForCausalLM,
    )

    def small_paligemma(config: Any) -> Any:
        config.image_token_index = VOCABULARY - 1
        config._vocab_size = config.text_config.vocab_size = VOCABULARY
        config.text_config.pad_token_id = 0
        config.vision_config.hidden_size = 24
        config.vision_config.intermediate_size = 32
        config.vision_config.num_hidden_layers = 2
        config.vision_config.num_attention_heads = 2
        config.vision_config.projection_dim = config.projection_dim = WIDTHS["gemma_2b"]
        return paligemma(config=config)

    def small_gemma(config: Any) -> Any:
        config.vocab_size, config.pad_token_id = VOCABULARY, 0
        return gemma(config=config)

    patch.setattr(modeling_pi0, "get_gemma_config", gemma_config)
    patch.setattr(modeling_pi0, "PaliGemmaForConditionalGenerationWithPiGemma", small_paligemma)
    patch.setattr(modeling_pi0, "PiGemmaForCausalLM", small_gemma)


def tiny_pi0_config(**fields: Any) -> PI0Config:
    """One camera, state of 5 and actions of 4, short chunks."""
    return PI0Config(
        device="cpu",
        push_to_hub=False,
        chunk_size=4,
        n_action_steps=4,
        max_state_dim=8,
        max_action_dim=8,
        num_inference_steps=2,
        image_resolution=(28, 28),
        tokenizer_max_length=TOKENS,
        input_features={
            "observation.images.base_0_rgb": PolicyFeature(FeatureType.VISUAL, (3, 30, 40)),
            "observation.state": PolicyFeature(FeatureType.STATE, (5,)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (4,))},
        **fields,
    )


def word_tokenizer(folder: Path) -> Path:
    """A tokenizer in a folder, as `AutoTokenizer` loads it: a word is a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<unk>": 1, "pick": 2, "up": 3, "the": 4, "cube": 5}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(
        str(folder)
    )
    return folder
