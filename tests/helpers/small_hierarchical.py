# SPDX-License-Identifier: Apache-2.0
"""Fields of a hierarchical diffusion policy that trains a step in milliseconds."""

SMALL = {
    "safety_dim": 16,
    "dynamics_dim": 16,
    "manipulation_dim": 16,
    "planning_dim": 16,
    "condition_dim": 16,
    "denoiser_dim": 32,
    "denoiser_depth": 2,
    "task_buckets": 64,
    "attention_heads": 2,
    "image_size": (32, 32),
}
