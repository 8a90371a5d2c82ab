# SPDX-License-Identifier: Apache-2.0
"""The four layers of the hierarchy, each with its own trunk, self-supervised loss and features."""
