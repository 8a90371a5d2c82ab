# SPDX-License-Identifier: Apache-2.0
"""The same numbers in less time: how a plan is computed on a CPU.

Nothing here has weights or keeps any: what is computed once per chunk is computed from the weights as they
are at that moment, so that training, averaging and loading never meet an old copy.
"""
