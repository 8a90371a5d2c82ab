# SPDX-License-Identifier: Apache-2.0
"""What each layer of a trained policy is worth to its denoiser."""
