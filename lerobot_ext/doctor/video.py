# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext doctor --video`: which video backend LeRobot will use, and why not the faster one."""

import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any, Final

from lerobot_ext.doctor.extension import DoctorCheck
from lerobot_ext.doctor.findings import Finding, Section, note, problem, problems_first

_TIMEOUT_S: Final = 120.0
_DEFAULT_CODEC: Final = "av1"
"""LeRobot records with `libsvtav1` unless told otherwise."""
_MISSING_LIBRARY: Final = re.compile(
    r"lib(?:av|sw)\w+[.\d]*\.?(?:so|dylib)?[.\d]*: cannot open shared object|Library not loaded"
    r"|Could not find module|DLL load failed"
)
_WRONG_SYMBOL: Final = re.compile(
    r"undefined symbol:? ?(\S+)|Symbol not found:? ?(\S+)|procedure could not be found"
)


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--video", action="store_true", help="examine the video backends and codecs")


def _examine(args: Namespace) -> list[Section]:
    from lerobot_ext.doctor.child import ask

    told = ask("lerobot_ext.doctor.video_child", [], _TIMEOUT_S)
    if told.failure:
        return [Section("video", "video backends", [_broken(told.failure)])]
    return [conclude(told.value)]


def conclude(found: dict[str, Any], platform: str = sys.platform) -> Section:
    """The section about what `video_child.look` found.

    Args:
        found (`dict`): Its answer.
        platform (`str`, *optional*): As `sys.platform`.
    """
    findings = [*_about_torchcodec(found, platform), *_about_pyav(found)]
    backend = "torchcodec" if found["torchcodec"] and not found["torchcodec_error"] else "pyav"
    facts = {**found, "backend": backend}
    facts["torchcodec_error"] = " ".join(found["torchcodec_error"].split())[:300]
    return Section(
        "video", "video backends", problems_first(findings), facts=facts, lines=list(_lines(found, backend))
    )


def _lines(found: dict[str, Any], backend: str) -> Iterator[str]:
    yield f"LeRobot decodes with {backend}"
    state = (
        "not installed" if not found["torchcodec"] else "does not load" if found["torchcodec_error"] else ""
    )
    with_ffmpeg = f"with FFmpeg {found['ffmpeg']}" if found["ffmpeg"] else ""
    yield " ".join(filter(None, ["torchcodec", found["torchcodec"], state or with_ffmpeg]))
    if found["av"]:
        working = [
            f"{codec} ({entry['encoder'] or 'decodes only'})"
            for codec, entry in found["codecs"].items()
            if entry["decodes"]
        ]
        codecs = ", ".join(working) or "no codec"
        yield f"pyav {found['av']} with FFmpeg {found['av_ffmpeg'] or '?'}: {codecs}"


def _about_torchcodec(found: dict[str, Any], platform: str) -> Iterator[Finding]:
    """Never a problem by itself: LeRobot falls back to PyAV."""
    pyav = "or say `--dataset.video_backend=pyav` openly: LeRobot falls back to it anyway"
    error = found["torchcodec_error"]
    if not found["torchcodec"]:
        yield note(
            "torchcodec_absent",
            "torchcodec",
            "it is not installed; LeRobot decodes with PyAV, which is slower at random access",
            f"`pip install torchcodec` where it has a wheel for this platform, {pyav}",
        )
    elif symbol := _WRONG_SYMBOL.search(error):
        name = next((group for group in symbol.groups() if group), "")
        yield note(
            "torchcodec_torch",
            "torchcodec",
            f"torchcodec {found['torchcodec']} was built for another torch than {found['torch']}"
            + (f" (symbol {name} is missing)" if name else ""),
            "install the torchcodec of the same month as torch, by the table in its README: "
            f"`pip install --upgrade torchcodec`; {pyav}",
        )
    elif _MISSING_LIBRARY.search(error):
        yield note(
            "torchcodec_ffmpeg",
            "torchcodec",
            f"torchcodec {found['torchcodec']} does not load: it finds no FFmpeg libraries (versions 4 to "
            "8); "
            "PyAV's own do not count",
            f"{_install_ffmpeg(platform)}, {pyav}",
        )
    elif error:
        yield note(
            "torchcodec_load",
            "torchcodec",
            f"torchcodec {found['torchcodec']} does not load: {' '.join(error.split())[:200]}",
            f"`python -c 'import torchcodec'` shows the whole error; reinstall it, {pyav}",
        )


def _install_ffmpeg(platform: str) -> str:
    if platform == "darwin":
        return "`brew install ffmpeg`"
    if platform == "win32":
        return "`conda install -c conda-forge ffmpeg`, or put the DLLs of a full-shared build on PATH"
    return "`sudo apt install ffmpeg`, or without root `conda install -c conda-forge ffmpeg`"


def _about_pyav(found: dict[str, Any]) -> Iterator[Finding]:
    if not found["av"] or found["av_error"]:
        why = f"does not load: {found['av_error'][:200]}" if found["av"] else "is not installed"
        yield problem(
            "pyav",
            "pyav",
            f"PyAV {why}; LeRobot encodes with it, so that no video can be recorded",
            "`pip install --force-reinstall 'lerobot[dataset]'`",
        )
        return
    for codec, entry in found["codecs"].items():
        if entry["encoder"] and entry["decodes"]:
            continue
        level = problem if codec == _DEFAULT_CODEC else note
        what = "is not decoded rightly" if entry["encoder"] else "cannot be encoded"
        what += "" if entry["decodes"] or entry["encoder"] else " or decoded"
        yield level(
            "codec",
            codec,
            f"{codec} {what}: {entry['error']}",
            "`pip install --force-reinstall --only-binary=:all: av`: PyAV's wheels bring all three; "
            "or record with another codec, such as `--dataset.rgb_encoder.vcodec=h264`",
        )


def _broken(failure: str) -> Finding:
    return problem(
        "video_libraries",
        "video backends",
        f"the process that loads the video libraries {failure}",
        "find the culprit with `python -X faulthandler -c 'import torchcodec'` and `… 'import av'`, and "
        "reinstall it",
    )


CHECK = DoctorCheck(
    name="video",
    configure=_configure,
    applies=lambda args: bool(args.video),
    examine=_examine,
    needs_nothing=True,
)
