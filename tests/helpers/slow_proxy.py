# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that delays what passes, and drops connections on demand: a bad network in this process."""

import asyncio
import threading
from contextlib import suppress
from types import TracebackType


class SlowProxy:
    """Listens on loopback and passes on to `target`, each way `delay_s` later.

    Args:
        target (`int`): Port on loopback; it may be changed while the proxy runs.
        delay_s (`float`, *optional*): Delay of every byte, in each direction. Nothing is reordered.
    """

    def __init__(self, target: int, delay_s: float = 0.0) -> None:
        self.target = target
        self.delay_s = delay_s
        self.refuses = False
        self.n_connections = 0
        self.n_bytes = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def drop(self) -> None:
        """Cut every connection, as a pulled cable or a dead router does."""
        self._do(self._drop())

    def __enter__(self) -> "SlowProxy":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if self.refuses:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self.n_connections += 1
        self._writers.add(back)
        for source, sink in ((reader, back), (there, writer)):
            queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
            for work in (self._read(source, queue), self._write(queue, sink)):
                task = asyncio.ensure_future(work)
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _read(self, source: asyncio.StreamReader, queue: "asyncio.Queue[tuple[float, bytes]]") -> None:
        data = b"-"
        while data:
            try:
                data = await source.read(65536)
            except OSError:
                data = b""
            self.n_bytes += len(data)
            queue.put_nowait((self._loop.time() + self.delay_s, data))

    async def _write(self, queue: "asyncio.Queue[tuple[float, bytes]]", sink: asyncio.StreamWriter) -> None:
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(due - self._loop.time(), 0))
            if not data:
                sink.close()
                return
            with suppress(OSError):
                sink.write(data)
                await sink.drain()

    async def _drop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _close(self) -> None:
        self._server.close()
        await self._drop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
