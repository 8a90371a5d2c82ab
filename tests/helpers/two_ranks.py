# SPDX-License-Identifier: Apache-2.0
"""`lerobot-train` as two processes (gloo), as a user starts them."""

import subprocess
import sys
import time
from pathlib import Path

from stock_cli import BIN, START_S, environment


def run_two_ranks(home: Path, *words: str) -> str:
    """`torchrun` on `lerobot-train`, as a user starts two ranks; its port is any that is free.

    torch 2.11 can deadlock while it takes gloo down: the reducer joins gloo's thread and holds the GIL, which
    that thread needs to free a tensor. LeRobot has said "End of training" by then and all files are written,
    so a launcher that does not come back after that is put away.
    """
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    log = home / "two_ranks.log"
    with open(log, "w") as sink:
        process = subprocess.Popen(
            [sys.executable, *launcher, str(BIN / "lerobot-train"), *words],
            env=environment(home),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    end = time.monotonic() + 2 * START_S
    is_over = hangs = False
    while process.poll() is None and not hangs:
        if not is_over and "End of training" in log.read_text():
            is_over, end = True, min(end, time.monotonic() + 30)
        hangs = time.monotonic() > end
        time.sleep(0.2)
    if hangs:
        process.terminate()  # torchrun ends its ranks, by force after 30 s
        process.wait(60)
    said = log.read_text()
    assert process.returncode == 0 or (hangs and is_over), said[-4000:]
    return said
