# SPDX-License-Identifier: Apache-2.0
"""LeRobot's default processors, with a check that no statistics are missing."""

from lerobot.processor.factory import make_default_pre_post_processors

from lerobot_ext.processing.statistics import require_statistics


def make_toy_pre_post_processors(config, dataset_stats=None):
    require_statistics(config, dataset_stats)
    return make_default_pre_post_processors(config, dataset_stats)
