# SPDX-License-Identifier: Apache-2.0
"""Asks a question in a process of its own: a driver that hangs or a library that dies takes only that along.

A child is a module with `main(words) -> int` that ends with `answer(value)`. What it prints besides, and what
libraries print, does not disturb the answer.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_MARK = "lerobot-ext-answer:"
_KILL_S = 5.0


@dataclass(frozen=True)
class Answer:
    """What a child said.

    Args:
        value (`dict`): Its answer; empty when it gave none.
        failure (`str`): How it ended without an answer, in words; empty when it answered.
        timed_out (`bool`): Whether it was ended because its time was up.
    """

    value: dict[str, Any] = field(default_factory=dict)
    failure: str = ""
    timed_out: bool = False


def ask(module: str, words: Sequence[str], timeout_s: float) -> Answer:
    """Run `python -m module words…` and wait for its answer.

    Args:
        module (`str`): A module that ends with `answer(...)`.
        words (`Sequence[str]`): Its arguments.
        timeout_s (`float`): How long it may take; then it is killed.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", module, *words],
        env={"HF_HUB_OFFLINE": "1"} | os.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        said, complaints = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _end(child)
        return Answer(failure=f"gave no answer within {timeout_s:g} s", timed_out=True)
    for line in reversed(said.splitlines()):
        if line.startswith(_MARK):
            value: dict[str, Any] = json.loads(line.removeprefix(_MARK))
            return Answer(value)
    return Answer(failure=_ending(child.returncode, complaints))


def _end(child: "subprocess.Popen[str]") -> None:
    """Kill a child; one that is stuck inside a driver cannot even be killed and is left behind."""
    child.kill()
    try:
        child.communicate(timeout=_KILL_S)
    except subprocess.TimeoutExpired:
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()


def answer(value: dict[str, Any]) -> None:
    """Give the answer; for children."""
    sys.stdout.write(f"\n{_MARK}{json.dumps(value)}\n")
    sys.stdout.flush()


def one_line(error: BaseException | str, length: int = 300) -> str:
    """An error's text in one line, not endless."""
    text = " ".join(str(error).split())
    if isinstance(error, BaseException):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= length else f"{text[:length]}…"


def _ending(status: int, complaints: str) -> str:
    last = complaints.strip().splitlines()[-1:] or [""]
    said = f" ({one_line(last[0], 160)})" if last[0] else ""
    if status < 0:
        return f"was ended by signal {-status}{said}"
    return f"ended with status {status}{said}"
