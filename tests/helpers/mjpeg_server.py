# SPDX-License-Identifier: Apache-2.0
"""A network camera on loopback: MJPEG over HTTP, which can fall silent, hang up and go away."""

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image


class MjpegServer:
    """Sends pictures of 64x48 at 30 a second; the red of each is its number, unless `still`.

    Attributes:
        silent: Set it, and no further picture is sent while connections stay.
        sent: How many pictures were sent so far.
    """

    def __init__(self, still: bool = False, port: int = 0) -> None:
        self.silent = threading.Event()
        self.sent = 0
        self.size = (64, 48)
        self._still = still
        self._hung_up = threading.Event()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                camera._serve(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/stream"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def hang_up(self) -> None:
        """Close all connections; new ones are answered."""
        self._hung_up.set()
        time.sleep(0.1)
        self._hung_up.clear()

    def go_away(self) -> None:
        """Close all connections and the port."""
        self._hung_up.set()
        self._server.shutdown()
        self._server.server_close()

    def picture(self, number: int) -> bytes:
        red = 200 if self._still else number % 200 + 20
        pixels = np.zeros((self.size[1], self.size[0], 3), np.uint8)
        pixels[:] = (red, 60, 20)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=95)
        return file.getvalue()

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        request.end_headers()
        try:
            while not self._hung_up.wait(1 / 30):
                if self.silent.is_set():
                    continue
                data = self.picture(self.sent)
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                request.wfile.write(head.encode() + data + b"\r\n")
                self.sent += 1
        except OSError:
            pass
        request.close_connection = True


@contextmanager
def serving(still: bool = False, port: int = 0) -> Iterator[MjpegServer]:
    """A server that goes away at the end."""
    server = MjpegServer(still, port)
    try:
        yield server
    finally:
        server.go_away()
