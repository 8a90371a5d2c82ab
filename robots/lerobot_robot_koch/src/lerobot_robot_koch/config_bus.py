# SPDX-License-Identifier: Apache-2.0
"""Config fields about the bus that follower and leader share."""

from dataclasses import dataclass, field

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")


@dataclass(kw_only=True)
class BusFields:
    """How patient the driver is, and which way the joints turn.

    Args:
        num_read_retries (`int`, *optional*, defaults to `3`): Further tries, at least, after a failed ping or
            configuration read; trying goes on for three times `give_up_ms`.
        num_write_retries (`int`, *optional*, defaults to `5`): The same for acknowledged writes.
        read_budget_ms (`float`, *optional*, defaults to `10.0`): Time one read of the joint positions may
            take in the control loop before the last known values of the missing joints are used.
        max_stale_ms (`float`, *optional*, defaults to `200.0`): Oldest value that is used in their place.
        give_up_ms (`float`, *optional*, defaults to `300.0`): Time of active trying after which the bus
            counts as lost.
        fast_sync_read (`bool`, *optional*, defaults to `True`): Use Fast Sync Read when every motor
            understands it.
        drive_mode (`dict[str, int]`, *optional*): Direction of single joints, 1 for inverted, such as
            `{elbow_flex: 1}`; joints not named keep the stock direction.

    Raises:
        ValueError: A field's value cannot work; the message names it.
    """

    # Further tries, at least, after a failed ping or configuration read
    num_read_retries: int = 3
    # Further tries, at least, after a failed acknowledged write
    num_write_retries: int = 5
    # Milliseconds one read of the joint positions may take in the control loop
    read_budget_ms: float = 10.0
    # Oldest value, in milliseconds, that stands in for one that did not come in time
    max_stale_ms: float = 200.0
    # Milliseconds of active trying after which the bus counts as lost
    give_up_ms: float = 300.0
    # Use Fast Sync Read when every motor understands it
    fast_sync_read: bool = True
    # Direction of single joints, 1 for inverted, e.g. {elbow_flex: 1}
    drive_mode: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("num_read_retries", "num_write_retries"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ValueError(f"`{name}` ({value!r}) must be a whole number >= 0; the default is 3 or 5.")
        if not self.read_budget_ms > 0:
            raise ValueError(
                f"`read_budget_ms` ({self.read_budget_ms}) must be above 0; a third of a frame is good."
            )
        if not self.max_stale_ms >= 0:
            raise ValueError(f"`max_stale_ms` ({self.max_stale_ms}) must be >= 0; 0: never use an old value.")
        if not self.give_up_ms >= self.read_budget_ms:
            raise ValueError(
                f"`give_up_ms` ({self.give_up_ms}) is below `read_budget_ms` ({self.read_budget_ms})."
            )
        for joint, mode in self.drive_mode.items():
            if joint not in JOINTS:
                raise ValueError(f"`drive_mode` names {joint!r}; the joints are {', '.join(JOINTS)}.")
            if mode not in (0, 1):
                raise ValueError(f"`drive_mode.{joint}` ({mode!r}) must be 0 (as stock) or 1 (inverted).")
        parent = getattr(super(), "__post_init__", None)
        if parent is not None:
            parent()
