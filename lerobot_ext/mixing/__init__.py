# SPDX-License-Identifier: Apache-2.0
"""Several datasets mixed into one by a dataset spec file; see `docs/mixing.md`."""
