# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext doctor --gpu`: whether torch can use this machine's GPU, and if not, what keeps it from it."""

import os
import re
import shutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lerobot_ext.doctor.extension import DoctorCheck
from lerobot_ext.doctor.findings import Finding, Section, note, problem, problems_first

_TIMEOUT_S: Final = 120.0
_LITTLE_GB: Final = 2.0
"""Training ACT at batch size 8 takes more than this."""
_NVIDIA: Final = "0x10de"
_DISPLAY: Final = "0x03"
_REINSTALL: Final = "`uv pip install --reinstall --torch-backend=auto torch torchvision`"
"""uv chooses the build that fits the driver; pip always takes the same."""
_DRIVER_TOO_OLD: Final = ("driver", "too old")


@dataclass(frozen=True)
class Machine:
    """What the system says about its GPUs, torch aside.

    Args:
        nvidia_cards (`int`): Display devices of NVIDIA's on the PCI bus, or those `nvidia-smi` lists.
        driver (`str`): Version of the NVIDIA driver; empty when none answers.
        driver_cuda (`str`): Newest CUDA that it runs, such as `13.0`; empty when unknown.
        users (`list[str]`): Processes that hold GPU memory, as `pid 12 (python, 900 MiB)`.
        visible (`str | None`): `CUDA_VISIBLE_DEVICES`; `None` when it is not set.
    """

    nvidia_cards: int = 0
    driver: str = ""
    driver_cuda: str = ""
    users: list[str] = field(default_factory=list)
    visible: str | None = None


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--gpu", action="store_true", help="examine the GPU: torch, driver, memory, a kernel")


def _examine(args: Namespace) -> list[Section]:
    from lerobot_ext.doctor.child import ask

    told = ask("lerobot_ext.doctor.gpu_child", [], _TIMEOUT_S)
    machine = look_at_machine()
    if told.failure:
        return [Section("gpu", "torch", [_broken(told.failure)])]
    return [conclude(told.value, machine)]


def look_at_machine(
    pci: Path = Path("/sys/bus/pci/devices"), environment: Mapping[str, str] | None = None
) -> Machine:
    """Ask the PCI bus and `nvidia-smi`.

    Args:
        pci (`Path`, *optional*): Where Linux lists PCI devices.
        environment (`Mapping`, *optional*): For `CUDA_VISIBLE_DEVICES`; the process's own by default.
    """
    said = _smi()
    listed = _smi("-L").count("GPU ")
    driver = re.search(r"Driver Version: *([\d.]+)", said)
    cuda = re.search(r"CUDA Version: *([\d.]+)", said)
    return Machine(
        nvidia_cards=max(listed, _count_cards(pci)),
        driver=driver.group(1) if driver else "",
        driver_cuda=cuda.group(1) if cuda else "",
        users=_users(),
        visible=(os.environ if environment is None else environment).get("CUDA_VISIBLE_DEVICES"),
    )


def _smi(*words: str) -> str:
    """What `nvidia-smi` says; empty where there is none, or no driver answers it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        ran = subprocess.run([program, *words], capture_output=True, text=True, timeout=30, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout if ran.returncode == 0 else ""


def _users() -> list[str]:
    rows = _smi("--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader").splitlines()
    cells = [[cell.strip() for cell in row.split(",")] for row in rows]
    return [
        f"pid {pid} ({Path(name).name}, {memory})" for pid, name, memory in (c for c in cells if len(c) == 3)
    ]


def _count_cards(pci: Path) -> int:
    def reads(path: Path) -> str:
        try:
            return path.read_text().strip()
        except OSError:
            return ""

    return sum(
        reads(device / "vendor") == _NVIDIA and reads(device / "class").startswith(_DISPLAY)
        for device in (pci.iterdir() if pci.is_dir() else ())
    )


def conclude(found: dict[str, Any], machine: Machine, platform: str = sys.platform) -> Section:
    """The section about what `gpu_child.look` found on `machine`."""
    findings = [*_about_cuda(found, machine, platform)]
    for index, device in enumerate(found["devices"]):
        findings += _about_device(index, device, found, machine)
    findings += _about_mps(found["mps"])
    return Section(
        "gpu",
        f"torch {found['torch']}, built for {found['built_for']}",
        problems_first(findings),
        facts={**found, "machine": vars(machine)},
        lines=list(_lines(found, machine)),
    )


def _lines(found: dict[str, Any], machine: Machine) -> Iterator[str]:
    if machine.driver:
        yield f"NVIDIA driver {machine.driver}, for CUDA up to {machine.driver_cuda or '?'}"
    for index, device in enumerate(found["devices"]):
        bf16 = "bf16" if device["bf16"] else "no bf16"
        memory = f"{device['free_gb']} of {device['total_gb']} GB free"
        yield f"cuda:{index} {device['name']}, {memory}, {bf16}, {device['error'] or 'a kernel runs'}"
    if found["mps"]["available"]:
        yield f"mps: {found['mps']['error'] or 'a kernel runs'}"
    if not found["devices"] and not found["mps"]["available"]:
        yield "no GPU in use: policies train and run on the CPU"


def _about_cuda(found: dict[str, Any], machine: Machine, platform: str) -> Iterator[Finding]:
    """Why CUDA is not available although there is a card."""
    if found["available"] or not (machine.nvidia_cards or machine.driver):
        return
    built = found["built_for"]
    if machine.visible is not None and machine.visible.strip() in ("", "-1", "NoDevFiles"):
        yield note(
            "gpu_hidden",
            "CUDA_VISIBLE_DEVICES",
            f"CUDA_VISIBLE_DEVICES={machine.visible!r} hides the GPU",
            "`unset CUDA_VISIBLE_DEVICES`",
        )
    elif built == "cpu":
        yield problem(
            "gpu_cpu_build",
            "torch",
            f"there is an NVIDIA GPU, and torch {found['torch']} is built for the CPU alone",
            _REINSTALL,
        )
    elif not machine.driver:
        yield problem(
            "gpu_no_driver",
            "NVIDIA driver",
            "there is an NVIDIA GPU, and no driver answers `nvidia-smi`",
            "install the driver (`sudo ubuntu-drivers install`, or NVIDIA's site) and restart; in a "
            "container, "
            "start it with `--gpus all`"
            if platform.startswith("linux")
            else "install the driver from NVIDIA's site and restart",
        )
    elif _too_old(found, machine):
        yield problem(
            "gpu_driver",
            "NVIDIA driver",
            f"driver {machine.driver} runs CUDA up to {machine.driver_cuda or '?'}; torch {found['torch']} "
            "is "
            f"built for {built}",
            f"update the driver, or take a torch for the driver you have: {_REINSTALL}",
        )
    else:
        yield problem(
            "gpu_unavailable",
            "torch",
            f"torch sees no GPU: {found['why_not'][:240] or 'it gives no reason'}",
            "restart the computer (after an update of the driver the old one may still be loaded); in a "
            "container, start it with `--gpus all`",
        )


def _too_old(found: dict[str, Any], machine: Machine) -> bool:
    if all(word in found["why_not"] for word in _DRIVER_TOO_OLD):
        return True
    version = re.match(r"cuda (\d+)", found["built_for"])
    have = re.match(r"(\d+)", machine.driver_cuda)
    # Within a major version of CUDA an older driver runs newer builds.
    return bool(version and have and int(have.group(1)) < int(version.group(1)))


def _about_device(
    index: int, device: dict[str, Any], found: dict[str, Any], machine: Machine
) -> Iterator[Finding]:
    subject = f"cuda:{index}"
    if device["error"]:
        if "no kernel image" in device["error"] or not _has_kernels(device["capability"], found["arch_list"]):
            yield problem(
                "gpu_arch",
                subject,
                f"{device['name']} is of compute capability {device['capability']}, torch {found['torch']} "
                "is "
                f"built for {', '.join(found['arch_list'])}",
                f"install a torch that still, or already, knows this card: {_REINSTALL}",
            )
        else:
            yield problem(
                "gpu_kernel",
                subject,
                f"a tiny kernel fails: {device['error'][:240]}",
                "restart the computer; if it stays, reinstall driver and torch, and look at `dmesg | grep "
                "-i xid`",
            )
        return
    if device["free_gb"] < min(_LITTLE_GB, device["total_gb"] / 2):
        users = ", ".join(machine.users) or "`nvidia-smi` says by whom"
        yield note(
            "gpu_memory",
            subject,
            f"only {device['free_gb']} of {device['total_gb']} GB are free; in use by {users}",
            "end what you no longer need, or lower `--batch_size`",
        )
    if not device["bf16"]:
        yield note(
            "gpu_bf16",
            subject,
            f"{device['name']} has no bf16 (compute capability {device['capability']}, it takes 8.0)",
            "train with `--policy.use_amp=true` or in float32; policies with `dtype=bfloat16` run slowly "
            "here",
        )


def _has_kernels(capability: str, arch_list: list[str]) -> bool:
    """Whether torch's build covers a compute capability: `sm_90` exactly or from the same major version."""
    major, _, minor = capability.partition(".")
    for arch in arch_list:
        number = re.fullmatch(r"(?:sm|compute)_(\d+)(\d)[a-z]?", arch)
        if (
            number
            and arch.startswith("compute")
            and (int(number[1]), int(number[2])) <= (int(major), int(minor))
        ):
            return True
        if number and number[1] == major and int(number[2]) <= int(minor):
            return True
    return False


def _about_mps(mps: dict[str, Any]) -> Iterator[Finding]:
    if mps["error"]:
        yield problem(
            "gpu_kernel",
            "mps",
            f"a tiny kernel fails: {mps['error'][:240]}",
            "update macOS and torch; until then `--policy.device=cpu`",
        )


def _broken(failure: str) -> Finding:
    return problem(
        "gpu_probe",
        "torch",
        f"the process that tries the GPU {failure}",
        "`python -X faulthandler -c 'import torch; torch.zeros(1, device=\"cuda\")'` shows where; a driver "
        "that "
        "hangs needs a restart",
    )


CHECK = DoctorCheck(
    name="gpu",
    configure=_configure,
    applies=lambda args: bool(args.gpu),
    examine=_examine,
    needs_nothing=True,
)
