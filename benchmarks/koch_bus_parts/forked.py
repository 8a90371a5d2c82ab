# SPDX-License-Identifier: Apache-2.0
"""Becoming another program in a forked process."""

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn


def reopen_streams() -> None:
    """Make Python's standard streams anew: file descriptors 0 to 2 may have come to mean other files."""
    sys.stdin = os.fdopen(0, "r", closefd=False)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


def end_with(main: Callable[[], Any]) -> NoReturn:
    """Run `main` and end this process as a script would, but without the exit handlers of the parent."""
    code = 1
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - printed, as the interpreter does at a script's end
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
