# SPDX-License-Identifier: Apache-2.0
"""Tools for any policy: open-loop evaluation against a dataset, and a look at what a batch becomes."""
