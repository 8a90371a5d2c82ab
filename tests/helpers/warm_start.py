# SPDX-License-Identifier: Apache-2.0
"""Console scripts that start in a second instead of eight: `run(command, env=...)`, as `subprocess.run`.

A server process has imported the third-party libraries of a stock command line, and nothing of LeRobot's or
ours. For each call it forks a process that takes over directory, environment and standard streams, and runs
the script's file as `__main__`: LeRobot is imported, and plugins are found, as ever.

What those libraries read of the environment they have read by then. So a call goes to a server that was
started with the same variables, but for those in `FREE`, which nothing reads so early. There are two kinds:
`NO_HUB` serves any folder and address of the Hub; `ALL` has the Hub's client too, and is started for an
environment that is asked for again and again.

What this is not for: how long a start takes, how much memory a process needs, `python -m`, scripts of other
environments; `real=True`, or `subprocess` itself, is.
"""

import functools
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

BIN: Final = Path(sys.executable).parent
NO_HUB: Final = (
    *("torch", "torch._dynamo", "torch.utils.data", "torch.distributed.fsdp", "torchvision"),
    *("torchvision.models", "torchvision.transforms.v2", "numpy", "pandas", "pyarrow.dataset"),
    *("pyarrow.parquet", "gymnasium", "av", "cv2", "PIL.Image", "zmq", "rich.console", "requests", "httpx"),
    *("aiohttp", "draccus", "deepdiff", "einops", "serial", "multiprocess", "sympy", "fsspec", "filelock"),
    *("dill", "triton"),
)
ALL: Final = (
    *NO_HUB,
    *("huggingface_hub", "datasets", "accelerate", "diffusers"),
    *(
        "diffusers.schedulers.scheduling_ddim",
        "diffusers.schedulers.scheduling_ddpm",
        "diffusers.optimization",
    ),
)
FREE: Final = ("LEROBOT_", "HF_LEROBOT_", "PYTEST_", "COLUMNS", "LINES", "PWD", "OLDPWD", "SHLVL", "_=")
FREE_WITHOUT_HUB: Final = ("HF_", "HUGGING", "XDG_CACHE_HOME")
OFTEN: Final = 4
"""So often an environment is asked for before it gets a server with the Hub's client."""
THREADS: Final = {"jemalloc_bg_thd"}  # jemalloc's own, which it starts anew in a forked process

WIDTH: Final = 10  # characters of a process id

_asked: Counter[tuple[str, ...]] = Counter()


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    timeout: float | None = None,
    real: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a Python script to its end, with nobody at the keyboard.

    Args:
        command (`Sequence[str | Path]`): A console script of this environment, or this interpreter and a
            file, and the arguments.
        env (`Mapping[str, str]`, *optional*): Its environment; this process's by default.
        cwd (`str | Path`, *optional*): Its working directory; this process's by default.
        timeout (`float`, *optional*): Seconds after which it is killed.
        real (`bool`, *optional*, defaults to `False`): Whether to start it as anybody would.

    Raises:
        subprocess.TimeoutExpired: It took longer.
    """
    words, env = [str(word) for word in command], dict(os.environ if env is None else env)
    if words[0] == sys.executable and not words[1].startswith("-"):
        script, *arguments = words[1:]
    else:
        script, *arguments = words
    if real or (script is words[0] and Path(script).parent != BIN):
        return subprocess.run(
            words, env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )
    request = {"script": script, "words": arguments, "env": env, "cwd": str(cwd or Path.cwd())}
    return _server(env).run(words, request, timeout)


def _server(env: dict[str, str]) -> "Server":
    key = _fixed(env, FREE)
    _asked[key] += 1
    if _asked[key] >= OFTEN:
        return _started(ALL, key)
    return _started(NO_HUB, _fixed(env, FREE + FREE_WITHOUT_HUB))


def _fixed(env: Mapping[str, str], free: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(f"{name}={value}" for name, value in env.items() if not f"{name}=".startswith(free)))


@functools.cache
def _started(modules: tuple[str, ...], env: tuple[str, ...]) -> "Server":
    return Server(modules, dict(line.split("=", 1) for line in env))


class Server:
    """The process that forks; it ends with this one.

    Args:
        modules (`tuple[str, ...]`): What it imports first.
        env (`dict[str, str]`): Its environment.

    Raises:
        RuntimeError: It could not be started.
    """

    def __init__(self, modules: tuple[str, ...], env: dict[str, str]) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), *modules],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        said = self._socket.recv(10_000).decode()
        if said != "ready":
            raise RuntimeError(f"the process that starts console scripts: {said or 'it ended'}")

    def run(
        self, words: list[str], request: dict[str, Any], timeout: float | None
    ) -> subprocess.CompletedProcess[str]:
        """`run`, by this server."""
        end = time.monotonic() + timeout if timeout is not None else float("inf")
        pipes = [os.pipe() for _ in range(4)]  # its request, its output, its errors, how it ended
        asks, *reads = pipes[0][1], *(read for read, _ in pipes[1:])
        given = [pipes[0][0], *(write for _, write in pipes[1:])]
        with self._lock:
            socket.send_fds(self._socket, [b"run"], given)
        for descriptor in given:
            os.close(descriptor)
        with os.fdopen(asks, "w") as file:
            json.dump(request, file)
        try:
            process = os.read(reads[2], WIDTH)
            if not process:
                raise RuntimeError(f"nothing was started for {words}")
            try:
                complete, (output, errors, status) = _read(reads, end)
            except BaseException:  # the test's own time is over, or somebody pressed Ctrl-C
                os.kill(int(process), signal.SIGKILL)
                raise
            if not complete:
                if not status:
                    os.kill(int(process), signal.SIGKILL)
                    os.read(reads[2], WIDTH)  # waits for its end
                raise subprocess.TimeoutExpired(words, timeout or 0.0, bytes(output), bytes(errors))
        finally:
            for descriptor in reads:
                os.close(descriptor)
        return subprocess.CompletedProcess(words, int(status), output.decode(), errors.decode())


def _read(files: list[int], end: float) -> tuple[bool, list[bytearray]]:
    """What is in some files, and whether that is all: `False` where it takes too long."""
    found = {descriptor: bytearray() for descriptor in files}
    with selectors.DefaultSelector() as selector:
        for descriptor in files:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(None if end == float("inf") else max(0.0, end - time.monotonic()))
            if not ready:
                return False, list(found.values())
            for key, _ in ready:
                data = os.read(key.fd, 1 << 16)
                found[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
    return True, list(found.values())


# --- in the server ---


def serve(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Fork at each request until the other side is gone; what is returned is a forked process's task."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        data, files, _, _ = socket.recv_fds(connection, 64, 4)
        if not data:
            os._exit(0)
        if _fork() == 0:
            connection.close()
            return _fork_once_more(files)
        for descriptor in files:
            os.close(descriptor)


def _fork_once_more(files: list[int]) -> tuple[dict[str, Any], list[int]]:
    """The first of the two processes waits for the second and says how it ended."""
    asked, output, errors, status = files
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with os.fdopen(asked) as file:
        request = json.load(file)
    process = _fork()
    if process == 0:
        os.close(status)
        return request, [output, errors]
    os.close(output)
    os.close(errors)
    os.write(status, f"{process:{WIDTH}}".encode())
    _, ended = os.waitpid(process, 0)
    with suppress(BrokenPipeError):  # it took too long and was killed: nobody waits any more
        os.write(status, f"{os.waitstatus_to_exitcode(ended)}".encode())
    os._exit(0)


def _fork() -> int:
    with warnings.catch_warnings():  # of jemalloc's thread, see `THREADS`
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def become(request: dict[str, Any], files: list[int]) -> None:
    """Take over directory, environment, arguments and standard streams of a request."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in zip((1, 2), files, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = [request["script"], *request["words"]]
    sys.path[0] = str(Path(request["script"]).parent)
    numpy = sys.modules.get("numpy")
    if numpy is not None:  # `random` does so by itself
        numpy.random.seed()


def prepare(modules: Sequence[str]) -> str:
    """Import; `ready`, or what is wrong."""
    for name in modules:
        importlib.import_module(name)
    threads = {
        Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in os.listdir("/proc/self/task")
    }
    more = threads - THREADS - {Path("/proc/self/comm").read_text().strip()}
    ours = sorted(name for name in sys.modules if name.startswith("lerobot"))
    gc.freeze()
    if more or ours:
        return f"it runs threads {sorted(more)} and has imported {ours}; take out of the list what does so"
    return "ready"


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as side:
        side.send(prepare(sys.argv[2:]).encode())
        task = serve(side)
    become(*task)
    runpy.run_path(task[0]["script"], run_name="__main__")
