# SPDX-License-Identifier: Apache-2.0
"""JSON from a stranger: one object, no duplicate keys, no NaN, no unknown fields, one kind of error."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

MAX_DEPTH: Final = 8
_NOT_NUMBERS: Final = "NaN, Infinity and numbers that overflow are not allowed"
_OPENING: Final = re.compile(rb"[\[{]")


class PayloadError(ValueError):
    """A payload that is refused: it is malformed, too large, or not what was announced."""


def parse_object(text: bytes, what: str) -> dict[str, Any]:
    """Parse one JSON object strictly.

    Args:
        text (`bytes`): UTF-8. The caller has bounded its length.
        what (`str`): What it is, for messages.

    Raises:
        PayloadError: It is no JSON object, nests deeper than 8 levels, repeats a key, or holds a number that
            is not finite.
    """
    _refuse_deep(text, what)
    try:
        parsed = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except PayloadError as error:
        raise PayloadError(f"{what}: {error}") from None
    # A whole number of thousands of digits is a ValueError of its own.
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"{what} is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise PayloadError(f"{what} is a JSON {type(parsed).__name__}; it must be an object")
    return parsed


def dump_object(value: Mapping[str, Any]) -> bytes:
    """`value` as compact UTF-8 JSON.

    Raises:
        ValueError: It holds NaN or infinity.
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode("utf-8")


class Fields:
    """Takes the fields of a parsed object one by one, each with its type; `done` refuses what is left over.

    Args:
        values (`Mapping`): The parsed object.
        what (`str`): What it is, for messages.
    """

    def __init__(self, values: Mapping[str, Any], what: str) -> None:
        self._left = dict(values)
        self._what = what

    def text(self, name: str, *, max_length: int = 256, any_letters: bool = False) -> str:
        """A string of at most `max_length` characters; printable ones, unless `any_letters` may come.

        What is printable may end in a terminal or a log.
        """
        value = self._take(name, None)
        if not isinstance(value, str) or len(value) > max_length:
            raise self._wrong(name, f"text of at most {max_length} characters", value)
        if not any_letters and not value.isprintable():
            raise self._wrong(name, "text without control characters", value)
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false", value)
        return value

    def whole(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number in `low..high`."""
        value = self._take(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(name, f"a whole number from {low} to {high}", value)
        return value

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        """A finite number in `low..high`."""
        value = self._take(name, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(name, f"a number from {low:g} to {high:g}", value)
        return float(value)

    def texts(self, name: str, *, max_items: int = 256, default: Sequence[str] | None = None) -> list[str]:
        """A list of short strings."""
        value = self._take(name, None if default is None else list(default))
        if not isinstance(value, list) or len(value) > max_items or not all(map(_is_short, value)):
            raise self._wrong(name, f"a list of at most {max_items} short texts", value)
        return list(value)

    def sizes(self, name: str, *, max_items: int = 4) -> tuple[int, ...]:
        """A shape: a list of positive whole numbers."""
        value = self._take(name, None)
        if (
            not isinstance(value, list)
            or len(value) > max_items
            or not all(isinstance(n, int) and not isinstance(n, bool) and 0 < n < 2**31 for n in value)
        ):
            raise self._wrong(name, f"at most {max_items} whole numbers above 0", value)
        return tuple(value)

    def mapping(self, name: str, *, max_items: int = 64, default: bool = False) -> dict[str, Any]:
        """An object with short names; empty when it is missing and `default` is set."""
        value = self._take(name, {} if default else None)
        if not isinstance(value, dict) or len(value) > max_items or not all(map(_is_short, value)):
            raise self._wrong(name, f"an object of at most {max_items} entries", value)
        return dict(value)

    def done(self) -> None:
        """Refuse fields nobody asked for.

        Raises:
            PayloadError: There are some.
        """
        if self._left:
            names = ", ".join(repr(name[:40]) for name in sorted(self._left)[:5])
            raise PayloadError(f"{self._what} has unknown fields: {names}")

    def _take(self, name: str, default: Any) -> Any:
        if name not in self._left and default is None:
            raise PayloadError(f"{self._what} lacks `{name}`")
        return self._left.pop(name, default)

    def _wrong(self, name: str, expected: str, value: object) -> PayloadError:
        return PayloadError(f"{self._what}: `{name}` must be {expected}, not {repr(value)[:60]}")


def _is_short(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 256 and value.isprintable()


def _refuse_deep(text: bytes, what: str) -> None:
    """Refuse deep nesting before the parser meets it.

    Brackets inside strings count too: no field of ours holds enough of them in a row to matter.
    """
    depth = deepest = 0
    if len(_OPENING.findall(text)) <= MAX_DEPTH:
        return
    in_text = escaped = False
    for byte in text:
        if in_text:
            escaped, in_text = byte == 0x5C and not escaped, byte != 0x22 or escaped
            continue
        if byte == 0x22:
            in_text = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    if deepest > MAX_DEPTH:
        raise PayloadError(f"{what} nests deeper than {MAX_DEPTH} levels")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise PayloadError(f"key {twice[:40]!r} stands there twice")
    return made


def _refuse_constant(name: str) -> float:
    raise PayloadError(f"{name}: {_NOT_NUMBERS}")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise PayloadError(f"{text[:20]}: {_NOT_NUMBERS}")
    return value
