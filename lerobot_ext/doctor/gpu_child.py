# SPDX-License-Identifier: Apache-2.0
"""Tries the GPU with a tiny kernel; runs in a process of its own, which the driver may end."""

import sys
import warnings
from typing import Any


def main(words: list[str]) -> int:
    """Answer with what was found."""
    from lerobot_ext.doctor.child import answer

    answer(look())
    return 0


def look() -> dict[str, Any]:
    """What torch sees and can do.

    Returns:
        `dict`: `torch`, `built_for` (`cpu`, `cuda 13.0`, `rocm 6.4`), `available`, `why_not` (torch's own
        words), `arch_list`, `devices`: for each `name`, `capability`, `free_gb`, `total_gb`, `bf16`, `error`
        (of the kernel); `mps`: `built`, `available`, `error`.
    """
    import torch

    found: dict[str, Any] = {"torch": torch.__version__, "built_for": _built_for(torch)}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    found["available"] = available
    found["why_not"] = "" if available else _why_not(torch, [str(warning.message) for warning in said])
    found["arch_list"] = torch.cuda.get_arch_list() if available else []
    found["devices"] = (
        [_try_device(torch, index) for index in range(torch.cuda.device_count())] if available else []
    )
    found["mps"] = _try_mps(torch)
    return found


def _built_for(torch: Any) -> str:
    if torch.version.cuda:
        return f"cuda {torch.version.cuda}"
    return f"rocm {torch.version.hip}" if getattr(torch.version, "hip", None) else "cpu"


def _why_not(torch: Any, warned: list[str]) -> str:
    """Torch says why in a warning, or when it is asked to start CUDA all the same."""
    if torch.version.cuda is None and not getattr(torch.version, "hip", None):
        return ""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return " ".join([*warned, str(error)])
    return " ".join(warned)


def _try_device(torch: Any, index: int) -> dict[str, Any]:
    """Name, memory, and whether a matrix product on it is right."""
    entry: dict[str, Any] = {"name": "", "capability": "", "free_gb": 0.0, "total_gb": 0.0, "bf16": False}
    entry["error"] = ""
    try:
        entry["name"] = torch.cuda.get_device_name(index)
        entry["capability"] = "{}.{}".format(*torch.cuda.get_device_capability(index))
        free, total = torch.cuda.mem_get_info(index)
        entry["free_gb"], entry["total_gb"] = round(free / 1e9, 1), round(total / 1e9, 1)
        entry["error"] = _product(torch, f"cuda:{index}")
        with torch.cuda.device(index):
            entry["bf16"] = bool(torch.cuda.is_bf16_supported(including_emulation=False))
    except RuntimeError as error:  # torch's CUDA errors are of this type
        entry["error"] = " ".join(str(error).split())[:300]
    return entry


def _try_mps(torch: Any) -> dict[str, Any]:
    backend = torch.backends.mps
    found = {"built": bool(backend.is_built()), "available": bool(backend.is_available()), "error": ""}
    if found["available"]:
        try:
            found["error"] = _product(torch, "mps")
        except RuntimeError as error:
            found["error"] = " ".join(str(error).split())[:300]
    return found


def _product(torch: Any, device: str) -> str:
    """Empty when a product of two small matrices comes out right."""
    numbers = torch.arange(256, dtype=torch.float32).reshape(16, 16) / 256
    there = (numbers.to(device) @ numbers.to(device)).cpu()
    return "" if torch.allclose(there, numbers @ numbers, atol=1e-2) else "a matrix product comes out wrong"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
