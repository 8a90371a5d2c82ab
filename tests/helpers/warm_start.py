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

import gc
import importlib
import json
import multiprocessing.process
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
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
HUB: Final = ("huggingface_hub", "datasets")  # they read addresses and folders at import
FREE: Final = (
    *("LEROBOT_", "HF_LEROBOT_", "TOY_", "PYTEST_", "COLUMNS", "LINES", "PWD", "OLDPWD", "SHLVL", "_="),
    *("PYTHONPATH", "CUDA_VISIBLE_DEVICES"),  # the one is taken over by `become`, the other read at first use
    *("RANK=", "LOCAL_RANK=", "WORLD_SIZE=", "LOCAL_WORLD_SIZE=", "MASTER_", "TORCHELASTIC_"),  # torchrun's
)
FREE_WITHOUT_HUB: Final = ("HF_", "HUGGING", "XDG_CACHE_HOME", "HOME=")
OFTEN: Final = 8
"""So often an environment is asked for before it gets a server with the Hub's client."""
SERVERS: Final = 3
"""So many are kept, each holds half a gigabyte; the one that was used longest ago is ended."""
THREADS: Final = {"jemalloc_bg_thd"}  # jemalloc's own, which it starts anew in a forked process

WIDTH: Final = 10  # characters of a process id

Key = tuple[tuple[str, ...], tuple[str, ...]]

_asked: Counter[tuple[str, ...]] = Counter()
_servers: "OrderedDict[Key, Server]" = OrderedDict()
_lock: Final = threading.RLock()


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
        ValueError: It is no such script.
    """
    words = [str(word) for word in command]
    if real:
        return subprocess.run(
            words, env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )
    end = time.monotonic() + timeout if timeout is not None else float("inf")
    (output, its_output), (errors, its_errors) = os.pipe(), os.pipe()
    try:
        try:
            process = start(words, its_output, its_errors, env=env, cwd=cwd)
        finally:
            os.close(its_output)
            os.close(its_errors)
        try:
            said = _read([output, errors], end)
            process.wait(max(0.0, end - time.monotonic()))
        except TimeoutError as late:
            raise subprocess.TimeoutExpired(words, timeout or 0.0, *late.args) from None
        finally:  # not only what takes too long: the test's own time is over, or somebody pressed Ctrl-C
            process.kill()
    finally:
        os.close(output)
        os.close(errors)
    return subprocess.CompletedProcess(words, process.wait(), *(text.decode() for text in said))


def run_program(text: str, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a Python program, with `words` as its arguments; `options` are those of `run`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "program.py")
        file.write_text(text, encoding="utf-8")
        return run([sys.executable, file, *words], **options)


def start(
    command: Sequence[str | Path],
    stdout: int,
    stderr: int,
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
) -> "Process":
    """Start a Python script; see `run`.

    Args:
        command (`Sequence[str | Path]`): As for `run`.
        stdout (`int`): The file it writes to.
        stderr (`int`): And where its errors go.
        env (`Mapping[str, str]`, *optional*): As for `run`.
        cwd (`str | Path`, *optional*): As for `run`.

    Raises:
        ValueError: It is no such script.
    """
    words, env = [str(word) for word in command], dict(os.environ if env is None else env)
    folder = str(cwd or Path.cwd())
    script, *arguments = words[1:] if words[0] == sys.executable else words
    path = Path(folder, script)
    if not path.is_file() or path.read_bytes()[:4] == b"\x7fELF":
        raise ValueError(f"{script!r} is no Python script that could be started from a warm process")
    if words[0] != sys.executable and path.parent != BIN:
        raise ValueError(f"{script} is not of this environment ({BIN})")
    request = {"script": str(path), "words": arguments, "env": env, "cwd": folder}
    return _server(env).start(request, stdout, stderr)


def _read(files: list[int], end: float) -> list[bytes]:
    """What is written into some pipes until all that can write are gone.

    Raises:
        TimeoutError: It takes longer; with what was written until then.
    """
    found = dict.fromkeys(files, b"")
    with selectors.DefaultSelector() as selector:
        for descriptor in files:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(None if end == float("inf") else max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(*found.values())
            for key, _ in ready:
                data = os.read(key.fd, 1 << 16)
                found[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
    return list(found.values())


class Process:
    """A script that was started, as `subprocess.Popen`.

    Args:
        status (`int`): The pipe into which its number and then how it ended are written.

    Raises:
        RuntimeError: There is none.
    """

    def __init__(self, status: int) -> None:
        self._status = status
        self.returncode: int | None = None
        number = os.read(status, WIDTH)
        if not number:
            os.close(status)
            raise RuntimeError("nothing was started")
        self.pid = int(number)

    def poll(self) -> int | None:
        """How it ended, if it did."""
        with suppress(TimeoutError):
            return self.wait(0.0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            TimeoutError: It takes longer.
        """
        if self.returncode is None:
            ready = select.poll()
            ready.register(self._status, select.POLLIN)
            if not ready.poll(None if timeout in (None, float("inf")) else 1000 * (timeout or 0.0)):
                raise TimeoutError(b"", b"")
            self.returncode = int(os.read(self._status, WIDTH))
            os.close(self._status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it, and wait for that."""
        self.send_signal(signal.SIGKILL)
        self.wait()


def _server(env: dict[str, str]) -> "Server":
    """One that was started with these variables."""
    with _lock:
        key = _fixed(env, FREE)
        _asked[key] += 1
        if _asked[key] >= OFTEN:
            return _started(ALL, key)
        return _started(NO_HUB, _fixed(env, FREE + FREE_WITHOUT_HUB))


def _fixed(env: Mapping[str, str], free: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(f"{name}={value}" for name, value in env.items() if not f"{name}=".startswith(free)))


def _started(modules: tuple[str, ...], env: tuple[str, ...]) -> "Server":
    key = (modules, env)
    if key not in _servers:
        while len(_servers) >= SERVERS:
            _servers.popitem(last=False)[1].end()
        _servers[key] = Server(modules, dict(line.split("=", 1) for line in env))
    _servers.move_to_end(key)
    return _servers[key]


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
        with theirs, tempfile.TemporaryFile("w+") as errors:  # a terminal would be found by what is imported
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), *modules],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=[theirs.fileno()],
            )
            theirs.close()
            said = self._socket.recv(10_000).decode()
            if said != "ready":
                self.end()
                errors.seek(0)
                raise RuntimeError(f"what starts scripts did not start: {said}{errors.read()[-3000:]}")

    def end(self) -> None:
        """Start no more; what runs goes on."""
        with self._lock, self._socket:
            self._socket.shutdown(socket.SHUT_WR)  # whoever else may hold it
        self._process.wait()

    def start(self, request: dict[str, Any], stdout: int, stderr: int) -> Process:
        """Start a script."""
        (given, asks), (status, tells) = os.pipe(), os.pipe()
        with self._lock:
            socket.send_fds(self._socket, [b"run"], [given, stdout, stderr, tells])
        os.close(given)
        os.close(tells)
        with os.fdopen(asks, "w") as file:
            json.dump(request, file)
        return Process(status)


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
    with suppress(BrokenPipeError):  # nobody waits any more
        os.write(status, f"{os.waitstatus_to_exitcode(ended)}".encode())
    os._exit(0)


def _fork() -> int:
    with warnings.catch_warnings():  # of jemalloc's thread, see `THREADS`
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def become(request: dict[str, Any], files: list[int]) -> None:
    """Take over directory, environment, paths, arguments and standard streams of a request."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in zip((1, 2), files, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["cwd"])
    multiprocessing.process.ORIGINAL_DIR = request["cwd"]  # type: ignore[attr-defined]
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = [request["script"], *request["words"]]
    own = [path for path in request["env"].get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:1] = [str(Path(request["script"]).parent), *(os.path.abspath(path) for path in own)]
    numpy = sys.modules.get("numpy")
    if numpy is not None:  # `random` does so by itself
        numpy.random.seed()


def execute(script: str) -> None:
    """Be a script, as the interpreter is that is given its file."""
    module = ModuleType("__main__")
    module.__file__ = script
    sys.modules["__main__"] = module
    exec(compile(Path(script).read_bytes(), script, "exec"), vars(module))


def prepare(modules: Sequence[str]) -> str:
    """Import; `ready`, or what is wrong."""
    for name in modules:
        importlib.import_module(name)
    others = [task for task in os.listdir("/proc/self/task") if int(task) != os.getpid()]
    names = [Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in others]
    more = sorted(name for name in names if name not in THREADS)
    ours = sorted(name for name in sys.modules if name.startswith("lerobot"))
    ours += [name for name in HUB if name in sys.modules and name not in modules]
    gc.freeze()
    if more or ours:
        return f"it runs threads {more} and has imported {ours}; take out of the list what does so"
    return "ready"


if __name__ == "__main__":
    this = sys.modules["__main__"]  # lives on when `execute` puts another one there
    with socket.socket(fileno=int(sys.argv[1])) as side:
        side.send(prepare(sys.argv[2:]).encode())
        task = serve(side)
    become(*task)
    execute(task[0]["script"])
