# SPDX-License-Identifier: Apache-2.0
"""SIGTERM and SIGHUP while a device is connected: who gets them, when they interrupt, what is left."""

import atexit
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from lerobot_robot_koch import signals
from lerobot_robot_koch.recording import SaveGuard
from lerobot_robot_koch.session import connecting, disconnecting
from lerobot_robot_koch.signals import Endings


@pytest.fixture
def endings(monkeypatch):
    """Endings of this test's own, with every signal counted, and nothing left for the end of pytest."""
    made = Endings()
    before = {number: signal.signal(number, signal.SIG_DFL) for number in signals.SIGNALS}
    monkeypatch.setattr(signals, "SAME_WISH_S", 0.0)
    for module in ("session", "recording"):
        monkeypatch.setattr(f"lerobot_robot_koch.{module}.ENDINGS", made)
    yield made
    atexit.unregister(made._exit_as_signalled)
    for number, handler in before.items():
        signal.signal(number, handler)


HEAD = """
import time
from lerobot_robot_koch import signals
from lerobot_robot_koch.signals import ENDINGS
signals.SAME_WISH_S = 0.0
"""


def run(script: str, *signals_when_asked: int) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own; it gets one of the signals for each line that says `now`."""
    process = subprocess.Popen(
        [sys.executable, "-uc", HEAD + textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    waiting = list(signals_when_asked)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "now\n":
            process.send_signal(waiting.pop(0))
    _, error = process.communicate(timeout=30)
    assert not waiting, error
    return subprocess.CompletedProcess([], process.returncode, "".join(lines), error)


# What record does: finally, and the interrupt goes on.
RECORD = """
    arm = object()
    ENDINGS.hold(arm)
    try:
        print("now")
        time.sleep(20)
    finally:
        print("finalized")
        ENDINGS.release(arm)
        print("released")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_clean_up_runs_and_the_exit_status_tells(number):
    done = run(RECORD, number)
    assert done.stdout == "now\nfinalized\nreleased\n"
    assert done.returncode == -number
    assert f"{signal.Signals(number).name}: ending as with Ctrl-C." in done.stderr


def test_the_exit_status_tells_although_the_program_caught_the_interrupt():
    script = """
        import atexit
        atexit.register(print, "registered before")
        ENDINGS.hold("arm")
        atexit.register(print, "registered after")
        try:
            print("now")
            time.sleep(20)
        except KeyboardInterrupt:
            pass
        ENDINGS.release("arm")
    """
    done = run(script, signal.SIGTERM)
    assert done.returncode == -signal.SIGTERM
    assert sorted(done.stdout.splitlines()[1:]) == ["registered after", "registered before"]


def test_ctrl_c_is_as_in_stock():
    done = run(RECORD, signal.SIGINT)
    assert done.returncode == -signal.SIGINT
    assert "ending as with" not in done.stderr


def test_a_second_signal_does_not_break_the_clean_up_and_the_third_ends_at_once():
    script = """
        ENDINGS.hold("arm")
        try:
            print("now")
            time.sleep(20)
        finally:
            print("now")
            time.sleep(0.3)
            print("still cleaning")
            print("now")
            time.sleep(20)
            print("never")
    """
    done = run(script, signal.SIGTERM, signal.SIGTERM, signal.SIGTERM)
    assert done.stdout == "now\nnow\nstill cleaning\nnow\n"
    assert done.returncode == -signal.SIGTERM
    assert "once more ends it at once" in done.stderr
    assert "`lerobot-ext repair`" in done.stderr


def test_signals_that_come_together_are_one(endings, monkeypatch):
    monkeypatch.setattr(signals, "SAME_WISH_S", 60.0)
    endings.hold("arm")
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    for _ in range(3):
        signal.raise_signal(signal.SIGHUP)
    endings.release("arm")


def test_nohup_is_respected(endings):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    endings.hold("arm")
    signal.raise_signal(signal.SIGHUP)
    endings.release("arm")
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_handler_of_somebody_else_is_respected(endings):
    """`lerobot-rollout` installs LeRobot's before it builds the robot."""
    from lerobot.utils.process import ProcessSignalHandler

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGQUIT)}
    stock = ProcessSignalHandler(use_threads=True)
    theirs = signal.getsignal(signal.SIGTERM)
    endings.hold("arm")
    signal.raise_signal(signal.SIGTERM)
    assert stock.shutdown_event.is_set()
    endings.release("arm")
    assert signal.getsignal(signal.SIGTERM) is theirs
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_handler_that_somebody_installed_meanwhile_stays(endings):
    endings.hold("arm")
    theirs = lambda number, frame: None  # noqa: E731
    signal.signal(signal.SIGTERM, theirs)
    endings.release("arm")
    assert signal.getsignal(signal.SIGTERM) is theirs
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_the_last_device_gives_the_signals_back(endings):
    endings.hold("leader")
    endings.hold("follower")
    endings.release("leader")
    assert signal.getsignal(signal.SIGTERM) == endings._handle
    endings.release("follower")
    assert [signal.getsignal(number) for number in signals.SIGNALS] == [signal.SIG_DFL] * len(signals.SIGNALS)


def test_a_thread_takes_no_signals(endings):
    thread = threading.Thread(target=endings.hold, args=["arm"])
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_episode_is_saved_before_the_interrupt(endings):
    guard = SaveGuard()
    endings.hold("arm")
    guard.busy(None, with_finish=False)
    signal.raise_signal(signal.SIGTERM)
    saved = True
    with pytest.raises(KeyboardInterrupt):
        guard.idle(None)
    assert saved
    endings.release("arm")


def test_the_end_is_not_broken(endings):
    guard = SaveGuard()
    endings.hold("arm")
    guard.busy(None, with_finish=True)
    signal.raise_signal(signal.SIGTERM)
    guard.idle(None)
    with disconnecting("arm"):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_connection_that_fails_gives_the_signals_back(endings):
    with pytest.raises(ConnectionError), connecting("arm"):
        raise ConnectionError("no arm")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_connecting_twice_keeps_the_signals(endings):
    with connecting("arm"):
        pass
    with pytest.raises(RuntimeError), connecting("arm"):
        raise RuntimeError("already connected")
    assert signal.getsignal(signal.SIGTERM) == endings._handle
    endings.release("arm")


def test_a_new_session_forgets_the_signals_of_the_last(endings):
    endings.hold("arm")
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
    endings.release("arm")
    endings.hold("arm")
    assert endings._first is None
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    endings.release("arm")


def test_a_thread_that_saves_meanwhile_confuses_nothing(endings):
    guard = SaveGuard()
    endings.hold("arm")

    # A save in another thread begins before the main thread's finish and ends within it.
    begun, may_end = threading.Event(), threading.Event()

    def save():
        guard.busy(None, with_finish=False)
        begun.set()
        may_end.wait(10)
        guard.idle(None)

    thread = threading.Thread(target=save)
    thread.start()
    begun.wait(10)
    guard.busy(None, with_finish=True)
    may_end.set()
    thread.join()
    guard.idle(None)
    assert (endings._saving, endings._ending) == (0, 0)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    endings.release("arm")


def test_a_device_disconnected_in_a_thread_leaves_no_handler_at_work():
    script = """
        import threading
        ENDINGS.hold("arm")
        thread = threading.Thread(target=ENDINGS.release, args=["arm"])
        thread.start()
        thread.join()
        try:
            print("now")
            time.sleep(20)
        finally:
            print("never")
    """
    done = run(script, signal.SIGTERM)
    assert done.returncode == -signal.SIGTERM
    assert done.stdout == "now\n"


POOL = """
    import os, signal, threading
    from concurrent.futures import ProcessPoolExecutor, as_completed

    def encode(seconds, crash):
        time.sleep(seconds)
        if crash:
            os.kill(os.getpid(), signal.SIGKILL)
        return "encoded"

    os.setpgid(0, 0)
    ENDINGS.hold("arm")
    ENDINGS.start_saving()
    threading.Timer(15, os._exit, [9]).start()  # the end if nothing ends
"""


def test_an_encoder_that_crashes_while_saving_does_not_hang_the_save():
    """The pool terminates the other encoders, which have inherited our handlers, and waits for them."""
    script = (
        POOL
        + """
    try:
        with ProcessPoolExecutor(2) as pool:
            for done in as_completed([pool.submit(encode, 0.3, True), pool.submit(encode, 2, False)]):
                done.result()
    except Exception as error:
        print(type(error).__name__, flush=True)
    os._exit(0)
    """
    )
    done = run(script)
    assert (done.stdout, done.returncode) == ("BrokenProcessPool\n", 0)


def test_a_signal_to_all_processes_lets_the_encoders_finish():
    """Closing a terminal: parent and encoders get the signal at once."""
    script = (
        POOL
        + """
    with ProcessPoolExecutor(2) as pool:
        jobs = [pool.submit(encode, 2, False) for _ in range(2)]
        time.sleep(0.5)
        os.killpg(0, signal.SIGHUP)
        print([job.result() for job in jobs], flush=True)
    try:
        ENDINGS.stop_saving()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    os._exit(0)
    """
    )
    done = run(script)
    assert done.stdout == "['encoded', 'encoded']\ninterrupted\n", done.stderr
