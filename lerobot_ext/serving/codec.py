# SPDX-License-Identifier: Apache-2.0
"""One message on the wire: a small JSON header and safetensors, both checked before memory is set aside.

    4 bytes   b"LRX1": format and version
    4 bytes   length of the header, little endian
    n bytes   header, UTF-8 JSON: what this is (`kind`) and its plain values
    the rest  a safetensors file, or nothing

`split` reads the header; what it says, and what the policy takes, decides which tensors may follow.
`read_tensors` then compares the safetensors header with exactly those, name by name, before any of their
bytes is copied. Both raise `PayloadError` and nothing else, whatever the bytes are.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from lerobot_ext.serving.strict_json import Fields, PayloadError, dump_object, parse_object

MAGIC: Final = b"LRX1"
MAX_HEADER: Final = 64 * 1024
MAX_MESSAGE: Final = 64 * 1024 * 1024
"""Bytes of a whole message by default; a session's own limit, from its policy's features, lies below."""

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "F32": np.dtype("<f4"),
    "U8": np.dtype("u1"),
    "U16": np.dtype("<u2"),
}
"""What may travel: numbers of joints and actions, pictures, depth."""

_PREFIX: Final = struct.Struct("<4sI")
_LENGTH: Final = struct.Struct("<Q")
_MAX_TENSORS: Final = 64
_PICKLES: Final = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """What one tensor must be.

    Args:
        dtype (`str`): `F32`, `U8` or `U16`.
        shape (`tuple[int, ...]`): Its exact shape, or its largest one where `compressed` is set.
        compressed (`bool`, *optional*, defaults to `False`): It is a JPEG of at most `n_bytes`, (N,) of U8.
    """

    dtype: str
    shape: tuple[int, ...]
    compressed: bool = False

    @property
    def n_bytes(self) -> int:
        """Bytes it takes, at most."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize

    def accepts(self, dtype: str, shape: tuple[int, ...]) -> bool:
        """Whether a tensor that is announced so may come."""
        if self.compressed:
            return dtype == "U8" and len(shape) == 1 and 0 < shape[0] <= self.n_bytes
        return dtype == self.dtype and shape == self.shape

    def __str__(self) -> str:
        if self.compressed:
            return f"JPEG of at most {self.n_bytes} bytes"
        return f"{self.dtype} {list(self.shape)}"


def encode(header: Mapping[str, Any], tensors: Mapping[str, Array] | None = None) -> bytes:
    """One message.

    Args:
        header (`Mapping`): Plain values, finite.
        tensors (`Mapping[str, ndarray]`, *optional*): float32, uint8 or uint16, of any shape.

    Raises:
        ValueError: A header that is too long or not plain, or a dtype that does not travel.
    """
    plain = dump_object(header)
    if len(plain) > MAX_HEADER:
        raise ValueError(f"the header is {len(plain)} bytes long; at most {MAX_HEADER} travel.")
    for name, tensor in (tensors or {}).items():
        if tensor.dtype.newbyteorder("<") not in DTYPES.values():
            raise ValueError(f"`{name}` is {tensor.dtype}; only float32, uint8 and uint16 travel.")
    # safetensors writes memory as it lies, so slices and transposed views must be laid out first.
    body = save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}) if tensors else b""
    return _PREFIX.pack(MAGIC, len(plain)) + plain + body


def split(data: bytes, max_bytes: int = MAX_MESSAGE) -> tuple[dict[str, Any], memoryview]:
    """Header and body of a message; the body is not looked into, and not copied.

    Args:
        data (`bytes`): The whole message.
        max_bytes (`int`, *optional*): Most bytes it may have.

    Raises:
        PayloadError: It is too large, has another format, or its header is not strict JSON.
    """
    if len(data) > max_bytes:
        raise PayloadError(f"the message is {len(data)} bytes long; at most {max_bytes} are taken")
    if len(data) < _PREFIX.size:
        raise PayloadError(f"the message ends after {len(data)} bytes, within its prefix")
    magic, length = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise PayloadError(_what_instead(data))
    if length > MAX_HEADER:
        raise PayloadError(f"the header claims {length} bytes; at most {MAX_HEADER} are taken")
    end = _PREFIX.size + length
    if end > len(data):
        raise PayloadError(f"the header claims {length} bytes, but {len(data) - _PREFIX.size} follow")
    view = memoryview(data)
    return parse_object(bytes(view[_PREFIX.size : end]), "the header"), view[end:]


def read_tensors(body: memoryview, expected: Mapping[str, TensorSpec]) -> dict[str, Array]:
    """The tensors of a body, if they are exactly the expected ones.

    Args:
        body (`memoryview`): What `split` returned.
        expected (`Mapping[str, TensorSpec]`): Every tensor that must be there; no other may be.

    Raises:
        PayloadError: Names, dtypes, shapes, offsets or the total size differ, or a number is not finite.
    """
    if not expected:
        if len(body):
            raise PayloadError(f"{len(body)} bytes of tensors follow where none are expected")
        return {}
    _check_layout(body, expected)
    try:
        entries = deserialize(bytes(body))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise PayloadError(f"the tensors are not safetensors: {error}") from None
    tensors = {}
    for name, entry in entries:
        flat = np.frombuffer(entry["data"], dtype=DTYPES[entry["dtype"]])
        tensors[name] = flat.reshape(entry["shape"])
        if flat.dtype.kind == "f" and not np.isfinite(flat).all():
            raise PayloadError(f"tensor `{name}` holds NaN or infinity")
    return tensors


def largest_message(expected: Mapping[str, TensorSpec]) -> int:
    """Bytes of the largest message that carries `expected`: limits and padding included."""
    return _PREFIX.size + 2 * MAX_HEADER + sum(spec.n_bytes for spec in expected.values())


def _check_layout(body: memoryview, expected: Mapping[str, TensorSpec]) -> None:
    """Compare the safetensors header with what is expected; nothing of a tensor is read."""
    if len(body) < _LENGTH.size:
        raise PayloadError(f"the tensors end after {len(body)} bytes, within their prefix")
    (length,) = _LENGTH.unpack_from(body)
    if length > MAX_HEADER:
        raise PayloadError(f"the tensors' header claims {length} bytes; at most {MAX_HEADER} are taken")
    start = _LENGTH.size + length
    if start > len(body):
        raise PayloadError(f"the tensors' header claims {length} bytes, but {len(body) - 8} follow")
    announced = parse_object(bytes(body[_LENGTH.size : start]), "the tensors' header")
    if len(announced) > _MAX_TENSORS:
        raise PayloadError(f"{len(announced)} tensors are announced; at most {_MAX_TENSORS} are taken")
    missing, extra = sorted(expected.keys() - announced.keys()), sorted(announced.keys() - expected.keys())
    if missing or extra:
        raise PayloadError(
            f"the tensors are not those that are expected: missing {missing}, not asked for {_short(extra)}"
        )
    spans = [_span(name, announced[name], spec) for name, spec in expected.items()]
    end = 0
    for low, high in sorted(spans):
        if low != end:
            raise PayloadError("the tensors overlap or leave gaps")
        end = high
    if end != len(body) - start:
        raise PayloadError(f"the tensors take {end} bytes, but {len(body) - start} follow")


def _span(name: str, entry: object, spec: TensorSpec) -> tuple[int, int]:
    """First and last byte of a tensor that is announced as it must be."""
    what = f"tensor `{name}`"
    if not isinstance(entry, dict):
        raise PayloadError(f"{what} is announced as {type(entry).__name__}, not as an object")
    fields = Fields(entry, what)
    dtype, shape = fields.text("dtype", max_length=8), fields.sizes("shape")
    offsets = entry.get("data_offsets")
    if (
        not isinstance(offsets, list)
        or len(offsets) != 2
        or not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**48 for n in offsets)
    ):
        raise PayloadError(f"{what}: `data_offsets` must be two whole numbers")
    if set(entry) != {"dtype", "shape", "data_offsets"}:
        raise PayloadError(f"{what} has unknown fields")
    if not spec.accepts(dtype, shape):
        raise PayloadError(f"{what} is {dtype} {list(shape)}; it must be {spec}")
    if offsets[1] - offsets[0] != math.prod(shape) * DTYPES[dtype].itemsize:
        raise PayloadError(f"{what} is {dtype} {list(shape)}, but takes {offsets[1] - offsets[0]} bytes")
    return offsets[0], offsets[1]


def _short(names: list[str]) -> list[str]:
    return [name[:40] for name in names[:5]]


def _what_instead(data: bytes) -> str:
    """Why a message without our magic is refused."""
    if data[:2] in _PICKLES:
        return (
            "this is a pickle, which could run any code when it is read; it was refused unread. LeRobot's "
            "own robot client sends those: use `lerobot-ext robot-client` with this server"
        )
    return f"the message starts with {data[:4]!r}, not with {MAGIC!r}: another format or another version"
