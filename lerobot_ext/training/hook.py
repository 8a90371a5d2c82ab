# SPDX-License-Identifier: Apache-2.0
"""Decides whether a process gets our comforts for the trainer; imports nothing heavy to find out.

Each is an entry point of group `lerobot_ext.plugins`, with an environment variable that switches it off.
"""

from lerobot_ext.switches import switched_on
from lerobot_ext.training.script import training_script

METRICS_SWITCH = "LEROBOT_EXT_METRICS"
EVENTS_SWITCH = "LEROBOT_EXT_TENSORBOARD"
ETA_SWITCH = "LEROBOT_EXT_ETA"
LAST_SWITCH = "LEROBOT_EXT_LAST_CHECKPOINT"
ACCUMULATION_SWITCH = "LEROBOT_EXT_ACCUMULATION"
ORDER_SWITCH = "LEROBOT_EXT_DATA_ORDER"
MEMORY_SWITCH = "LEROBOT_EXT_MEMORY_PEAKS"


def record_metrics() -> None:
    """Keep what `lerobot-train` measures, if this process is one.

    `LEROBOT_EXT_METRICS=off` leaves out `metrics.csv`, `LEROBOT_EXT_TENSORBOARD=off` the events.

    Raises:
        ValueError: A switch is neither `on` nor `off`; the plugin loader turns that into one line.
    """
    with_file, with_events = switched_on(METRICS_SWITCH), switched_on(EVENTS_SWITCH)
    script = training_script()
    if script is None:
        return
    # Imported here, as below: it needs LeRobot's trainer, which is loaded by now.
    from lerobot_ext.training import loop, record

    if with_file:
        loop.observe(record.CsvRecorder(), script)
    if with_events:
        loop.observe(record.EventRecorder(), script)


def show_time_left() -> None:
    """Add the time left to the lines that `lerobot-train` logs, if this process is one.

    Raises:
        ValueError: `LEROBOT_EXT_ETA` is neither `on` nor `off`.
    """
    script = training_script()
    if not switched_on(ETA_SWITCH) or script is None:
        return
    from lerobot_ext.training import loop, time_left

    loop.observe(time_left.TimeLeft(), script)


def accumulate_gradients() -> None:
    """Make `--optimizer.type=accumulated_adamw` known to `lerobot-train`, if this process is one.

    Raises:
        ValueError: `LEROBOT_EXT_ACCUMULATION` is neither `on` nor `off`.
    """
    script = training_script()
    if not switched_on(ACCUMULATION_SWITCH) or script is None:
        return
    from lerobot_ext.training import accumulation_hooks

    accumulation_hooks.install(script)


def resume_data_order() -> None:
    """Let `lerobot-train` resume in the epoch where it stopped, if this process is one.

    Raises:
        ValueError: `LEROBOT_EXT_DATA_ORDER` is neither `on` nor `off`.
    """
    if not switched_on(ORDER_SWITCH) or training_script() is None:
        return
    from lerobot_ext.training import data_order

    data_order.install()


def point_without_links() -> None:
    """Let `lerobot-train` point to its last checkpoint where symbolic links are refused.

    Raises:
        ValueError: `LEROBOT_EXT_LAST_CHECKPOINT` is neither `on` nor `off`.
    """
    script = training_script()
    if not switched_on(LAST_SWITCH) or script is None:
        return
    from lerobot_ext.training import last_checkpoint

    last_checkpoint.install(script)


def record_memory_peaks() -> None:
    """Put the memory of each phase of a step among the metrics of `lerobot-train`, if this process is one.

    Raises:
        ValueError: `LEROBOT_EXT_MEMORY_PEAKS` is neither `on` nor `off`.
    """
    script = training_script()
    if not switched_on(MEMORY_SWITCH) or script is None:
        return
    from lerobot_ext.training import memory_peaks

    memory_peaks.install(script)
