# SPDX-License-Identifier: Apache-2.0
"""`lerobot-train` as two processes (gloo)."""

import random
import socket
import subprocess
import sys
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import TextIO

import warm_start
from stock_cli import BIN, START_S, environment

PORTS = range(20_000, 30_000)  # none that the system gives away by itself in the meantime


def run_two_ranks(home: Path, *words: str, real: bool = False) -> str:
    """`lerobot-train` as two ranks; all that they said.

    torch 2.11 can deadlock while it takes gloo down: the reducer joins gloo's thread and holds the GIL, which
    that thread needs to free a tensor. LeRobot has said "End of training" by then and all files are written,
    so ranks that do not come back after that are put away.

    Args:
        home (`Path`): LeRobot's files.
        *words (`str`): Of the command line.
        real (`bool`, *optional*, defaults to `False`): Whether `torchrun` starts them, as a user does. Else
            they start from a warm process, with what `torchrun` tells its ranks.
    """
    log = home / "two_ranks.log"
    with open(log, "w") as sink:
        processes = [_torchrun(home, words, sink)] if real else _ranks(home, words, sink)
    end = time.monotonic() + 2 * START_S
    is_over = False
    try:
        while any(process.poll() is None for process in processes):
            if not is_over and "End of training" in log.read_text():
                is_over, end = True, min(end, time.monotonic() + 30)
            # A rank waits for ever for one that failed.
            if time.monotonic() > end or any(process.poll() for process in processes):
                break
            time.sleep(0.2)
        hangs = [process for process in processes if process.poll() is None]
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()  # torchrun ends its ranks, by force after 30 s
                _put_away(process)
    said = log.read_text()
    failed = any(process.returncode for process in processes if process not in hangs)
    assert not failed, said[-4000:]
    assert is_over or not hangs, said[-4000:]
    return said


def _put_away(process: "subprocess.Popen[bytes] | warm_start.Process") -> None:
    try:
        process.wait(60 if isinstance(process, subprocess.Popen) else 5)
    except (TimeoutError, subprocess.TimeoutExpired):
        process.kill()


def _torchrun(home: Path, words: tuple[str, ...], sink: TextIO) -> "subprocess.Popen[bytes]":
    """As a user starts two ranks; its port is any that is free."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *(str(BIN / "lerobot-train"), *words),
        ],
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=sink,
        stderr=subprocess.STDOUT,
    )


def _ranks(home: Path, words: tuple[str, ...], sink: TextIO) -> list[warm_start.Process]:
    """What `torchrun --standalone --nproc-per-node=2` starts."""
    both = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(_free_port()),
        "TORCHELASTIC_RUN_ID": str(uuid.uuid4()),
    }
    return [
        warm_start.start(
            [BIN / "lerobot-train", *words],
            sink.fileno(),
            sink.fileno(),
            env=environment(home) | both | {"RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in "01"
    ]


def _free_port() -> int:
    for port in random.SystemRandom().sample(PORTS, 100):
        with closing(socket.socket()) as taken:
            try:
                taken.bind(("localhost", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no port of {PORTS} is free")
