# SPDX-License-Identifier: Apache-2.0
"""Runs a job in a process in which no plugin has been imported yet: what a stock command line starts from.

Python's fork server imports stock LeRobot once; each job is a fork of it, so it costs a fraction of a second
instead of the ten that LeRobot's import takes. Where the system cannot fork, each job is a new interpreter.
"""

import contextlib
import json
import multiprocessing
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_STOCK = "lerobot_ext.testing.contracts.fresh_stock"
_JOBS = "lerobot_ext.testing.contracts.fresh_jobs"


def run_fresh(job: str, folder: Path, timeout_s: float = 240.0) -> dict[str, Any]:
    """Run one of `fresh_jobs` in a fresh process and wait for it.

    Args:
        job (`str`): Name of the function; it gets `folder` and returns what JSON can hold.
        folder (`Path`): Where the job finds its input and leaves tensors.
        timeout_s (`float`, *optional*, defaults to 240): How long it may take.

    Returns:
        What the job returned. When it raised, ended or hung: `{"error": …, "trace": …}`.
    """
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([_STOCK])
    process = context.Process(target=_child, args=(job, str(folder), list(sys.path)), daemon=True)
    with _importable_main():
        process.start()
    process.join(timeout_s)
    if process.is_alive():
        process.kill()
        process.join()
        return {"error": f"did not finish within {timeout_s:.0f} s", "trace": ""}
    result = folder / f"{job}.json"
    if not result.exists():
        return {"error": f"the process ended with status {process.exitcode}", "trace": ""}
    answer: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return answer


@contextlib.contextmanager
def _importable_main() -> Any:
    """Keep the child from importing this process's main module: a script might start its work again."""
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    main.__spec__, main.__file__ = None, None
    try:
        yield
    finally:
        main.__spec__, main.__file__ = spec, file


def _child(job: str, folder: str, path: list[str]) -> None:
    """Body of the fresh process."""
    import importlib

    sys.path[:] = path
    answer: Mapping[str, Any]
    with (
        open(Path(folder) / f"{job}.log", "w", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        try:
            answer = getattr(importlib.import_module(_JOBS), job)(Path(folder))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the plugin boundary
            message = " ".join(str(error).split())
            answer = {"error": f"{type(error).__name__}: {message}", "trace": traceback.format_exc()}
    (Path(folder) / f"{job}.json").write_text(json.dumps(answer), encoding="utf-8")
