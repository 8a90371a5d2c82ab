# SPDX-License-Identifier: Apache-2.0
"""What plugin authors and our own tests need to test against: fake distributions, a Hub on loopback."""
