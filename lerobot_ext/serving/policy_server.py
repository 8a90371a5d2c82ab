# SPDX-License-Identifier: Apache-2.0
"""The server: LeRobot's async-inference service, for one client at a time, without pickle.

Every call passes the token check first (`_TokenCheck`), then the lease, then the parser. What is refused is
answered with a gRPC status and one line that says why; nothing a client sends ends the server.
"""

import functools
import logging
import re
import threading
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import grpc
from lerobot.transport import services_pb2, services_pb2_grpc  # type: ignore[attr-defined]

from lerobot_ext.cli.command import CommandError
from lerobot_ext.serving.access import Token, bearer, join_address
from lerobot_ext.serving.allowlist import AllowList, NotAllowed
from lerobot_ext.serving.chunked import SESSION_KEY, receive_limited, server_options
from lerobot_ext.serving.codec import MAX_MESSAGE
from lerobot_ext.serving.contract import Mismatch
from lerobot_ext.serving.figures import Latencies
from lerobot_ext.serving.lease import Lease, NotYours, Taken
from lerobot_ext.serving.messages import Join, Observation, Welcome, read_instruction
from lerobot_ext.serving.policy_host import PolicyFailed, PolicyHost, PolicySession
from lerobot_ext.serving.strict_json import PayloadError

logger = logging.getLogger(__name__)

WORKERS: Final = 8
AHEAD_KEY: Final = "x-lerobot-ahead"
_SESSION: Final = re.compile(r"[0-9a-f]{32}")
_MAX_DETAILS: Final = 1500
_CODES: Final = {
    PayloadError: grpc.StatusCode.INVALID_ARGUMENT,
    Mismatch: grpc.StatusCode.INVALID_ARGUMENT,
    NotAllowed: grpc.StatusCode.PERMISSION_DENIED,
    PolicyFailed: grpc.StatusCode.ABORTED,
}


@dataclass
class Counts:
    """What a server did."""

    observations: int = 0
    skipped: int = 0
    chunks: int = 0
    sessions: int = 0
    refused: int = 0
    bytes_in: int = 0
    compute: Latencies = field(default_factory=Latencies)


class _Session:
    """What the server keeps of the client that drives: the newest observation waits here."""

    def __init__(self, name: str, join: Join, policy: PolicySession) -> None:
        self.name = name
        self.join = join
        self.policy = policy
        try:
            self._greeting: bytes | None = policy.welcome.encode()
        except ValueError as error:
            raise PayloadError(f"the robot's features do not fit into a welcome: {error}") from None
        self._newest: Observation | None = None
        self._last_call = 0
        self._arrived = threading.Condition()

    def greet(self) -> None:
        """Say welcome (again) with the next answer."""
        with self._arrived:
            self._greeting = self.policy.welcome.encode()
            self._newest = None
            self._arrived.notify_all()

    def put(self, observation: Observation) -> bool:
        """Keep an observation; False when one that nobody asked for gave way."""
        with self._arrived:
            was_free = self._newest is None
            self._newest = observation
            self._arrived.notify_all()
            return was_free

    def forget(self) -> None:
        """Drop what waits."""
        with self._arrived:
            self._newest = None

    def take(self, timeout_s: float) -> bytes | Observation | None:
        """The greeting, or the newest observation; None after `timeout_s` without.

        The newest call gets it: one that waits already may belong to a connection that broke, and what it
        took would be lost.
        """
        with self._arrived:
            self._last_call += 1
            mine = self._last_call
            self._arrived.notify_all()
            self._arrived.wait_for(
                lambda: self._greeting is not None or self._newest is not None or mine != self._last_call,
                timeout_s,
            )
            if mine != self._last_call:
                return None
            if self._greeting is not None:
                greeting, self._greeting = self._greeting, None
                return greeting
            newest, self._newest = self._newest, None
            return newest


def _answers(method: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what a method refuses into a gRPC status."""

    @functools.wraps(method)
    def wrapped(self: "PolicyService", request: Any, context: Any) -> Any:
        try:
            return method(self, request, context)
        except tuple(_CODES) as error:
            self.counts.refused += 1
            logger.warning("refused %s: %s", context.peer(), error)
            context.abort(_CODES[type(error)], str(error)[:_MAX_DETAILS])
        except Taken as error:
            if error.ahead is not None:
                context.set_trailing_metadata(((AHEAD_KEY, str(error.ahead)),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)[:_MAX_DETAILS])
        except NotYours as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error)[:_MAX_DETAILS])

    return wrapped


class PolicyService(services_pb2_grpc.AsyncInferenceServicer):
    """LeRobot's service.

    Args:
        allowed (`AllowList`): Policies clients may name.
        host (`PolicyHost`): Loads and runs them.
        lease (`Lease`): Who drives.
        poll_s (`float`, *optional*): A call for actions returns empty-handed after this long.
        receive_s (`float`, *optional*): An observation that takes longer to arrive is cut off.
        max_message (`int`, *optional*): A session whose observations may take more bytes is refused.
    """

    def __init__(
        self,
        allowed: AllowList,
        host: PolicyHost,
        lease: Lease,
        poll_s: float = 2.0,
        receive_s: float = 10.0,
        max_message: int = MAX_MESSAGE,
    ) -> None:
        self.counts = Counts()
        self._allowed = allowed
        self._host = host
        self._lease = lease
        self._poll_s = poll_s
        self._receive_s = receive_s
        self._max_message = max_message
        self._session: _Session | None = None
        self._joining = threading.Lock()

    @property
    def driver(self) -> _Session | None:
        """The session of the client that drives now."""
        session, holder = self._session, self._lease.holder
        return session if session is not None and session.name == holder else None

    @_answers
    def Ready(self, request: Any, context: Any) -> Any:  # noqa: N802 - LeRobot's name
        """A sign of life."""
        self._lease.renew(_session_name(context))
        return services_pb2.Empty()

    @_answers
    def SendPolicyInstructions(self, request: Any, context: Any) -> Any:  # noqa: N802 - LeRobot's name
        """Join, start a new episode, or leave."""
        instruction = read_instruction(request.data)
        name = _session_name(context)
        if isinstance(instruction, Join):
            self._join(name, instruction, context.peer())
        elif instruction.kind == "leave":
            self._lease.release(name)
        else:
            session = self._driving(context)
            session.forget()
            session.policy.reset()
        return services_pb2.Empty()

    @_answers
    def SendObservations(self, request: Any, context: Any) -> Any:  # noqa: N802 - LeRobot's name
        """Take an observation; the newest one counts."""
        session = self._driving(context)
        cut_off = threading.Timer(self._receive_s, context.cancel)
        cut_off.daemon = True
        cut_off.start()
        try:
            data = receive_limited(request, session.policy.welcome.largest_observation())
        finally:
            cut_off.cancel()
        observation = Observation.decode(data, session.policy.welcome)
        self.counts.observations += 1
        self.counts.bytes_in += len(data)
        if not session.put(observation):
            self.counts.skipped += 1
        return services_pb2.Empty()

    @_answers
    def GetActions(self, request: Any, context: Any) -> Any:  # noqa: N802 - LeRobot's name
        """The welcome after a join, else the chunk for the newest observation, else nothing."""
        session = self._driving(context)
        taken = session.take(self._poll_s)
        if taken is None:
            return services_pb2.Actions()
        if isinstance(taken, bytes):
            return services_pb2.Actions(data=taken)
        with self._lease.at_work(session.name):
            chunk = session.policy.chunk(taken)
        self.counts.chunks += 1
        self.counts.compute.add(chunk.compute_ms)
        return services_pb2.Actions(data=chunk.encode())

    def _join(self, name: str, join: Join, peer: str) -> None:
        """Give the lease to a client, and open its policy unless it is open already."""
        allowed = self._allowed.find(join.policy)
        is_new = self._lease.acquire(name)
        current = self._session
        if not is_new and current is not None and current.name == name and current.join == join:
            current.greet()
            return
        try:
            with self._lease.at_work(name), self._joining:
                policy = self._host.open(allowed, join, self._lease.ttl_s)
                self._check_size(policy.welcome)
                self._session = _Session(name, join, policy)
        except BaseException:
            self._lease.release(name)
            raise
        self.counts.sessions += 1
        logger.info("%s drives a %s with policy %s", peer, join.robot_type, allowed.name)

    def _check_size(self, welcome: Welcome) -> None:
        """Refuse a session whose observations are too large; in one, no byte beyond theirs is taken."""
        n_bytes = welcome.largest_observation()
        if n_bytes > self._max_message:
            raise PayloadError(
                f"an observation for {welcome.policy} may take {n_bytes / 1e6:.1f} MB, and this server takes "
                f"{self._max_message / 1e6:.1f}: send smaller pictures, or start it with `--max-megabytes`"
            )

    def _driving(self, context: Any) -> _Session:
        """The session of the caller, if it drives.

        Raises:
            NotYours: It does not.
        """
        name = _session_name(context)
        self._lease.renew(name)
        session = self._session
        if session is None or session.name != name:
            raise NotYours("this client's session is not open yet; join again")
        return session


class _TokenCheck(grpc.ServerInterceptor):  # type: ignore[misc]
    """Lets no call through that does not carry the token; its payload is not parsed."""

    def __init__(self, token: Token, counts: Counts) -> None:
        self._token = token
        self._counts = counts

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Hook of gRPC, before a call's method is chosen."""
        handler = continuation(details)
        if handler is None or self._token.matches(bearer(dict(details.invocation_metadata))):
            return handler
        make = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make(self._refuse)  # without a deserializer: the payload stays bytes

    def _refuse(self, request: Any, context: Any) -> None:
        self._counts.refused += 1
        logger.warning("refused %s: no or wrong token", context.peer())
        context.abort(
            grpc.StatusCode.UNAUTHENTICATED,
            "no or wrong token: start the client with the server's `--token-file`",
        )


@dataclass(frozen=True)
class Listening:
    """Where and for whom a server listens.

    Args:
        host (`str`), port (`int`): Its address; port 0 takes any free one.
        token (`Token`, *optional*): What every call must carry.
        tls_cert (`Path`, *optional*), tls_key (`Path`, *optional*): Certificate chain and key, PEM.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: Token | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None


class RunningServer:
    """A server that listens while the block runs.

    Args:
        service (`PolicyService`): What it answers with.
        listening (`Listening`): Where.

    Raises:
        CommandError: The address is taken or not this machine's, or certificate and key do not fit.
    """

    def __init__(self, service: PolicyService, listening: Listening) -> None:
        self._workers = futures.ThreadPoolExecutor(WORKERS, thread_name_prefix="policy-server")
        checks = [_TokenCheck(listening.token, service.counts)] if listening.token else []
        self._server = grpc.server(
            self._workers, interceptors=checks, options=server_options(), maximum_concurrent_rpcs=2 * WORKERS
        )
        services_pb2_grpc.add_AsyncInferenceServicer_to_server(service, self._server)
        address = join_address(listening.host, listening.port)
        try:
            if listening.tls_cert is not None and listening.tls_key is not None:
                self.port = self._server.add_secure_port(address, _credentials(listening))
            else:
                self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise CommandError(
                f"cannot listen at {address}: {error}",
                "choose another --port (0 takes any free one), and a --host of this machine; with TLS, "
                "a certificate and the key it was made for",
            ) from None

    def __enter__(self) -> "RunningServer":
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self, grace_s: float = 1.0) -> None:
        """Stop listening; calls under way get `grace_s`."""
        self._server.stop(grace_s).wait()
        self._workers.shutdown(wait=False, cancel_futures=True)


def _credentials(listening: Listening) -> Any:
    assert listening.tls_cert is not None
    assert listening.tls_key is not None
    try:
        pair = (listening.tls_key.read_bytes(), listening.tls_cert.read_bytes())
    except OSError as error:
        raise CommandError(f"certificate or key cannot be read: {error}", "name PEM files") from None
    return grpc.ssl_server_credentials([pair])


def _session_name(context: Any) -> str:
    """The client's own secret name of its session."""
    name = str(dict(context.invocation_metadata()).get(SESSION_KEY, ""))
    if not _SESSION.fullmatch(name):
        raise PayloadError(
            "the call names no session: this server is driven by `lerobot-ext robot-client`, not by "
            "LeRobot's own client, which sends pickles"
        )
    return name
