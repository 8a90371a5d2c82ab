# SPDX-License-Identifier: Apache-2.0
"""The client's end of the network, in a thread of its own: the control loop never waits for it.

It joins, gives signs of life, carries the newest observation over and chunks back, and after a drop joins
again under the same session, with growing pauses, until `give_up_s` have passed without the server.
"""

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import grpc
from lerobot.transport import services_pb2, services_pb2_grpc  # type: ignore[attr-defined]
from lerobot.transport.utils import send_bytes_in_chunks

from lerobot_ext.serving.access import Token
from lerobot_ext.serving.chunked import SESSION_KEY, channel_options
from lerobot_ext.serving.figures import Latencies
from lerobot_ext.serving.messages import Chunk, Join, Observation, Welcome, Wish, read_answer
from lerobot_ext.serving.strict_json import PayloadError
from lerobot_ext.serving.timesteps import TimestepQueue

logger = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0
TURN_S: Final = 1.0
"""How often a client in the queue asks whether it is its turn."""

_JOIN_S: Final = 600.0  # the server may have to load a large policy first
_CALL_S: Final = 10.0
_ANSWER_S: Final = 30.0  # a call returns empty-handed every two seconds; an observation got lost by then
_SLICE_S: Final = 0.1
_AHEAD_KEY: Final = "x-lerobot-ahead"

_Code = grpc.StatusCode
_FATAL: Final = {
    _Code.UNAUTHENTICATED,
    _Code.PERMISSION_DENIED,
    _Code.INVALID_ARGUMENT,
    _Code.UNIMPLEMENTED,
    _Code.ABORTED,
}


class LinkError(ConnectionError):
    """The server refused this client for good, or did not come back; the message says which."""


class _Closing(Exception):  # noqa: N818 - no error
    """The link is being closed."""


class _Rejoin(Exception):  # noqa: N818 - no error
    """The server does not know the session (any more)."""


@dataclass(frozen=True)
class Server:
    """Where the server is and how to speak to it.

    Args:
        address (`str`): HOST:PORT.
        token (`Token`, *optional*): The shared secret.
        tls (`bool`): Whether to use TLS.
        tls_ca (`Path`, *optional*): PEM file of whom to trust; the system's authorities without.
    """

    address: str
    token: Token | None = None
    tls: bool = False
    tls_ca: Path | None = None

    def channel(self) -> Any:
        """A connection of its own."""
        if not self.tls:
            return grpc.insecure_channel(self.address, options=channel_options())
        roots = self.tls_ca.read_bytes() if self.tls_ca is not None else None
        return grpc.secure_channel(
            self.address, grpc.ssl_channel_credentials(roots), options=channel_options()
        )


@dataclass
class LinkCounts:
    """What became of the link."""

    connections: int = 0
    sent: int = 0
    chunks: int = 0
    late_actions: int = 0
    bytes_out: int = 0


class Link:
    """Keeps a session with a server; its thread runs from `start` to `close`.

    Args:
        server (`Server`): Whom to talk to.
        join (`Join`): What to ask for.
        queue (`TimestepQueue`): Where actions go.
        give_up_s (`float`): Without the server for this long, the link fails.
        quality (`int`, *optional*): Of JPEG pictures, where `join` announces them.
        say (`Callable`, *optional*): Gets one line for people when something changes.
    """

    def __init__(
        self,
        server: Server,
        join: Join,
        queue: TimestepQueue,
        give_up_s: float,
        quality: int = 90,
        say: Callable[[str], None] = logger.info,
    ) -> None:
        self.counts = LinkCounts()
        self.round_trips = Latencies()
        self.welcome: Welcome | None = None
        self._server = server
        self._join = join
        self._queue = queue
        self._give_up_s = give_up_s
        self._quality = quality
        self._say = say
        self._session = secrets.token_hex(16)
        self._error: LinkError | None = None
        self._outgoing: Observation | None = None
        self._exchanging = False
        self._wants_reset = False
        self._connected = False
        self._closing = False
        self._ahead: object = None
        self._alive_at = time.monotonic()
        self._signalled_at = time.monotonic()
        self._changed = threading.Condition()
        self._channel: Any = None
        self._stub: Any = None
        self._thread = threading.Thread(target=self._work, name="robot-client-link", daemon=True)

    # ---- for the control loop

    def start(self) -> None:
        """Begin to connect."""
        self._alive_at = time.monotonic()
        self._thread.start()

    def wait_until_welcome(self, stop: threading.Event) -> Welcome | None:
        """Wait for the first welcome; None when `stop` is set before.

        Raises:
            LinkError: The server refuses, or cannot be reached.
        """
        while not stop.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self.welcome is not None or self._error is not None, _SLICE_S)
            self.raise_if_failed()
            if self.welcome is not None:
                return self.welcome
        return None

    def raise_if_failed(self) -> None:
        """Raise what ended the link.

        Raises:
            LinkError: It ended.
        """
        if self._error is not None:
            raise self._error

    @property
    def connected(self) -> bool:
        """Whether the session is open now."""
        return self._connected

    @property
    def idle(self) -> bool:
        """Whether an observation would be sent at once."""
        with self._changed:
            return self._connected and self._outgoing is None and not self._exchanging

    def offer(self, observation: Observation) -> None:
        """Hand over the newest observation; one that still waits gives way."""
        with self._changed:
            self._outgoing = observation
            self._changed.notify_all()

    def new_episode(self) -> None:
        """Let the policy forget what was."""
        with self._changed:
            self._wants_reset = True
            self._changed.notify_all()

    def close(self) -> None:
        """Give the session back and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)
        self._hang_up()

    # ---- the thread

    def _work(self) -> None:
        pause_s = FIRST_PAUSE_S
        try:
            while True:
                try:
                    self._open()
                    pause_s = FIRST_PAUSE_S
                    while True:
                        self._serve_once()
                except _Rejoin:
                    self._connected = False
                except grpc.RpcError as error:
                    self._note_failure(error)
                    self._wait(pause_s * random.uniform(0.7, 1.0))
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        except _Closing:
            self._leave()
        except LinkError as error:
            self._fail(error)
        except (PayloadError, ValueError) as error:
            self._fail(LinkError(f"server {self._server.address}: {error}"))
        finally:
            self._connected = False
            self._hang_up()

    def _open(self) -> None:
        """Connect where needed, and join until it is this client's turn."""
        if self._channel is None:
            self._channel = self._server.channel()
            self._stub = services_pb2_grpc.AsyncInferenceStub(self._channel)
        setup = services_pb2.PolicySetup(data=self._join.encode())
        while not self._try_to_join(setup):
            self._wait(TURN_S)
        answer = self._ask_for_answer()
        if not isinstance(answer, Welcome):
            raise LinkError(f"server {self._server.address} did not answer the join with a welcome")
        answer.check_for(self._join)
        if self.welcome is not None and replace(answer, lease_s=self.welcome.lease_s) != self.welcome:
            raise LinkError(
                f"server {self._server.address} came back with another policy or other features "
                f"({answer.policy_type} {answer.policy}); start the client anew"
            )
        self.counts.connections += 1
        if self.counts.connections > 1:
            self._say(f"connected to {self._server.address} again")
        with self._changed:
            self.welcome = answer
            self._connected = True
            self._changed.notify_all()

    def _try_to_join(self, setup: Any) -> bool:
        """Whether the server opened the session; False when this client waits in its queue."""
        try:
            self._call(self._stub.SendPolicyInstructions, setup, _JOIN_S, heartbeat=False)
        except grpc.RpcError as error:
            if error.code() != _Code.RESOURCE_EXHAUSTED:
                raise
            ahead = dict(error.trailing_metadata() or ()).get(_AHEAD_KEY)
            if ahead is None and self.welcome is None:
                raise LinkError(
                    f"server {self._server.address} is taken: {_plain(error.details())}"
                ) from None
            if ahead is None:
                raise
            self._alive_at = time.monotonic()
            if ahead != self._ahead:
                self._say(
                    f"waiting for {self._server.address}: {_plain(ahead)} more before this client; "
                    f"{_plain(error.details())}"
                )
                self._ahead = ahead
            return False
        return True

    def _ask_for_answer(self) -> Welcome | Chunk | None:
        """The next answer that says something; None when the server has none for this long."""
        deadline = time.monotonic() + _ANSWER_S
        while time.monotonic() < deadline:
            data = self._call(self._stub.GetActions, services_pb2.Empty(), _JOIN_S).data
            if data:
                return read_answer(data, self.welcome)
        return None

    def _serve_once(self) -> None:
        """Carry one observation over, or give a sign of life, or wait for either."""
        assert self.welcome is not None
        with self._changed:
            self._changed.wait_for(
                lambda: self._outgoing is not None or self._closing or self._wants_reset, _SLICE_S
            )
            if self._closing:
                raise _Closing
            reset, self._wants_reset = self._wants_reset, False
            observation, self._outgoing = self._outgoing, None
            self._exchanging = observation is not None
        try:
            if reset:
                setup = services_pb2.PolicySetup(data=Wish("reset").encode())
                self._call(self._stub.SendPolicyInstructions, setup, _CALL_S)
            if observation is not None:
                self._exchange(observation)
            self._signal()
        finally:
            with self._changed:
                self._exchanging = False

    def _exchange(self, observation: Observation) -> None:
        """Send an observation and merge the chunk that follows from it."""
        assert self.welcome is not None
        data = observation.encode(self.welcome, self._quality)
        # The call for actions goes first and waits over there, so that an exchange costs one round trip.
        waiting = self._stub.GetActions.future(
            services_pb2.Empty(), timeout=_JOIN_S, metadata=self._metadata()
        )
        try:
            pieces = send_bytes_in_chunks(data, services_pb2.Observation)
            self._call(self._stub.SendObservations, _as_iterator(pieces), _CALL_S)
            self.counts.sent += 1
            self.counts.bytes_out += len(data)
            answer = self._finish(waiting).data
        finally:
            waiting.cancel()
        chunk = read_answer(answer, self.welcome) if answer else self._ask_for_answer()
        if not isinstance(chunk, Chunk):
            logger.warning("no actions followed from an observation; the next one is sent")
            return
        self.round_trips.add((time.monotonic() - chunk.timestamp) * 1e3)
        self.counts.chunks += 1
        self.counts.late_actions += self._queue.merge(chunk.timestep, chunk.actions).late

    def _signal(self) -> None:
        """A sign of life, when the last one is a third of the lease ago."""
        if self.welcome is not None and time.monotonic() - self._signalled_at > self.welcome.lease_s / 3:
            self._call(self._stub.Ready, services_pb2.Empty(), _CALL_S, heartbeat=False)

    def _call(self, method: Any, request: Any, timeout_s: float, *, heartbeat: bool = True) -> Any:
        """Call the server."""
        return self._finish(
            method.future(request, timeout=timeout_s, metadata=self._metadata()), heartbeat=heartbeat
        )

    def _finish(self, call: Any, *, heartbeat: bool = True) -> Any:
        """Wait for a call, giving signs of life meanwhile."""
        while True:
            try:
                answer = call.result(timeout=_SLICE_S)
            except grpc.FutureTimeoutError:
                if self._closing:
                    call.cancel()
                    raise _Closing from None
                if heartbeat:
                    self._signal()
                continue
            except grpc.FutureCancelledError:
                raise _Closing from None
            except grpc.RpcError as error:
                if error.code() == _Code.FAILED_PRECONDITION:
                    raise _Rejoin from None
                raise
            self._alive_at = self._signalled_at = time.monotonic()
            return answer

    def _note_failure(self, error: Any) -> None:
        """Decide whether a failed call ends the link.

        Raises:
            LinkError: It does.
        """
        code, details = error.code(), _plain(error.details())
        if code in _FATAL:
            raise LinkError(f"server {self._server.address} refuses: {details}") from None
        gone_s = time.monotonic() - self._alive_at
        if gone_s > self._give_up_s:
            raise LinkError(
                f"server {self._server.address} has been gone for {gone_s:.1f} s "
                f"({code.name.lower()}: {details}); "
                "is it running, and are address, TLS and network right? `--give-up-s` says how long to try"
            ) from None
        if self._connected:
            self._say(
                f"connection to {self._server.address} lost ({details}); "
                f"trying again for {self._give_up_s:g} s"
            )
        with self._changed:
            self._connected = False
            self._outgoing = None
        self._hang_up()

    def _wait(self, pause_s: float) -> None:
        """Wait unless the link is closed.

        Raises:
            _Closing: It is.
        """
        with self._changed:
            if self._changed.wait_for(lambda: self._closing, pause_s):
                raise _Closing

    def _leave(self) -> None:
        """Give the lease back, if the server is there."""
        if self._stub is None or not self._connected:
            return
        setup = services_pb2.PolicySetup(data=Wish("leave").encode())
        try:
            self._stub.SendPolicyInstructions(setup, timeout=1.0, metadata=self._metadata())
        except grpc.RpcError as error:
            logger.debug("the session was not given back: %s", error)

    def _hang_up(self) -> None:
        channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            channel.close()

    def _fail(self, error: LinkError) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def _metadata(self) -> list[tuple[str, str]]:
        made = [(SESSION_KEY, self._session)]
        return [*made, self._server.token.metadata] if self._server.token is not None else made


def _plain(text: object) -> str:
    """What a server says, without what could play tricks on a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text or ""))[:1000]


def _as_iterator(pieces: Any) -> Iterator[Any]:
    return iter(pieces)
