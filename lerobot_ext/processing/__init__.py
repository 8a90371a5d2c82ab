# SPDX-License-Identifier: Apache-2.0
"""Processor steps that several plugins share; importing this package registers none of them."""
