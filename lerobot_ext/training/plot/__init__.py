# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext plot`: curves of training runs, compared."""
