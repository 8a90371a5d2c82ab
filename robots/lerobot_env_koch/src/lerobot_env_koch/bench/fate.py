# SPDX-License-Identifier: Apache-2.0
"""What becomes of one packet between servo and client: a value to apply, to write down and to read back."""

from dataclasses import dataclass
from typing import Any, Final

ARRIVES: Final = "ok"
_BODY: Final = 8
"""First byte of a whole packet that may be damaged: a damaged header would look like a lost packet."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to one packet; by default it arrives as it was sent.

    Args:
        lost (`str`, *optional*): The fault that swallowed it (`drop`, `burst`, `silent`, …); empty if none
            did.
        late_ms (`float`, *optional*): How much later it arrives, in milliseconds.
        flip (`tuple[int, int] | None`, *optional*): `(byte, bit)` that is inverted.
        keep (`int | None`, *optional*): How many of its bytes are sent; the rest is cut off.
        noise (`bytes`, *optional*): Garbage sent before it.
    """

    lost: str = ""
    late_ms: float = 0.0
    flip: tuple[int, int] | None = None
    keep: int | None = None
    noise: bytes = b""

    @property
    def name(self) -> str:
        """The faults that hit it, joined by `+`; `ok` if none did."""
        if self.lost:
            return self.lost
        hit = {"truncate": self.keep is not None, "crc": self.flip is not None, "noise": bool(self.noise)}
        hit["late"] = self.late_ms > 0
        return "+".join(name for name, is_hit in hit.items() if is_hit) or ARRIVES

    @property
    def breaks_the_line(self) -> bool:
        """Whether a servo that waits for the end of this packet before it answers waits in vain."""
        return bool(self.lost) or self.keep is not None

    def apply(self, raw: bytes) -> bytes:
        """The bytes that the client gets instead of `raw`; empty when the packet is lost.

        A fate read from a trace may meet a packet of another length: the damage then falls on the byte
        nearest to the recorded one.
        """
        if self.lost:
            return b""
        if self.flip is not None:
            index, bit = min(self.flip[0], len(raw) - 1), self.flip[1]
            raw = raw[:index] + bytes([raw[index] ^ (1 << bit)]) + raw[index + 1 :]
        if self.keep is not None:
            raw = raw[: min(self.keep, len(raw) - 1)]
        return self.noise + raw

    def as_json(self) -> dict[str, Any]:
        """The fields that differ from a safe arrival, for a trace."""
        fields: dict[str, Any] = {}
        if self.lost:
            fields["lost"] = self.lost
        if self.late_ms:
            fields["late_ms"] = self.late_ms
        if self.flip is not None:
            fields["flip"] = list(self.flip)
        if self.keep is not None:
            fields["keep"] = self.keep
        if self.noise:
            fields["noise"] = self.noise.hex()
        return fields

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Fate":
        """The inverse of `as_json`.

        Raises:
            ValueError: A field is unknown or malformed; the message names the fields.
        """
        try:
            flip = fields.get("flip")
            byte, bit = (int(flip[0]), int(flip[1])) if flip is not None else (0, 0)
            keep = fields.get("keep")
            fate = cls(
                lost=str(fields.get("lost", "")),
                late_ms=float(fields.get("late_ms", 0.0)),
                flip=(byte, bit) if flip is not None else None,
                keep=int(keep) if keep is not None else None,
                noise=bytes.fromhex(fields.get("noise", "")),
            )
        except (TypeError, ValueError, IndexError) as error:
            raise ValueError(f"{fields} is no fate of a packet: {error}") from error
        unknown = set(fields) - {"lost", "late_ms", "flip", "keep", "noise"}
        if unknown or byte < 0 or not 0 <= bit < 8 or fate.late_ms < 0 or (fate.keep or 0) < 0:
            raise ValueError(f"{fields} is no fate of a packet; a trace of `--trace` has only such.")
        return fate


def body_start(raw: bytes, *, is_part: bool) -> int:
    """First byte of a packet that may be damaged; a later part of a fast packet has no header."""
    return 0 if is_part else min(_BODY, len(raw) - 1)
