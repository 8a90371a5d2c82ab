# SPDX-License-Identifier: Apache-2.0
"""Comforts for the stock trainer: figures kept, gradients accumulated, time left, profiles and plots."""
