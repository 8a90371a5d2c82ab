# SPDX-License-Identifier: Apache-2.0
"""What a policy's training needs of memory, estimated without it, and measured."""
