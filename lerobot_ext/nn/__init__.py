# SPDX-License-Identifier: Apache-2.0
"""Network blocks shared by the policies; importing this package imports no torch, its submodules do."""
