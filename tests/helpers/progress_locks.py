# SPDX-License-Identifier: Apache-2.0
"""Progress bars of a process that a test forks and kills."""

import threading

from tqdm import tqdm


def own_progress_lock() -> None:
    """In a forked child: lock progress bars by itself.

    Stock's share a lock with the parent, which a killed child would keep for good. A class of bars that asks
    first, such as that of `datasets`, keeps the lock as its own and not as its base's.
    """
    tqdm.set_lock(threading.RLock())
    kinds = [tqdm]
    while kinds:
        kind = kinds.pop()
        if "_lock" in vars(kind):
            kind._lock = tqdm.get_lock()
        kinds += kind.__subclasses__()
