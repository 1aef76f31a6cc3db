"""HTTP/1.1 on loopback: a thread for each connection, and an end that waits for all of them."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

from ._requests import BODY_MAX, Answer

# Read before a refusal: closing with unread bytes would reset the connection.
_READ_MAX = 4 * 1024 * 1024
_BODILESS = (204, 205, 304)
# Of each step of the end. None takes long.
_STOP_SECONDS = 5.0


class Server(ThreadingTCPServer):
    """Answers requests with what a function returns for method, path, content type and body.

    Not an HTTPServer, which looks up its own name in the DNS.
    """

    daemon_threads = True
    request_queue_size = 1024  # with the default of 5, a crowd of connections waits for TCP's retries

    def __init__(self, answer: Callable[[str, str, str, bytes], Answer]) -> None:
        self.answer = answer
        self.closing = threading.Event()
        self._process = os.getpid()
        self._connections: set[Any] = set()
        self._changed = threading.Condition()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.port: int = self.server_address[1]
        self._thread = threading.Thread(target=self._run, name="spike_auth.testing", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self.closing.is_set():
            self.handle_request()

    def stop(self) -> None:
        """Close the port and all connections, and wait for the threads that serve them."""
        if self.closing.is_set() or os.getpid() != self._process:
            return  # a forked child has copies of its parent's connections
        self.closing.set()
        with contextlib.suppress(OSError):  # wakes the thread that accepts
            socket.create_connection(("127.0.0.1", self.port), _STOP_SECONDS).close()
        self._thread.join(_STOP_SECONDS)
        self.server_close()
        with self._changed:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._connections, _STOP_SECONDS)

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection. Without a free descriptor each try fails at once, so the next one waits."""
        try:
            return super().get_request()
        except OSError:
            self.closing.wait(0.05)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection on a thread."""
        with self._changed:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        super().shutdown_request(request)
        with self._changed:
            self._connections.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell errors, but not that a client has gone."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "spike_auth.testing", ""
    wbufsize = -1  # head and body leave in one packet

    def _serve(self) -> None:
        server, body = self.server, self._body()
        assert isinstance(server, Server)  # noqa: S101
        answer = Answer(drop=True)
        if body is not None:
            answer = server.answer(self.command, self.path.partition("?")[0], self.headers.get_content_type(), body)
        if server.closing.wait(answer.delay) or answer.drop:
            self.close_connection = True
        else:
            self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815

    def _body(self) -> bytes | None:
        """Return the body, or more than is allowed of it; None if it is cut, or has no plain length."""
        text = self.headers.get("Content-Length", "0")
        if not re.fullmatch("[0-9]{1,18}", text) or "Transfer-Encoding" in self.headers:
            return None
        length = min(int(text), _READ_MAX)
        if int(text) > BODY_MAX:
            self.close_connection = True
        body = self.rfile.read(length)
        return body if len(body) == length else None

    def _send(self, answer: Answer) -> None:
        body = answer.body or b""
        self.send_response(answer.status)
        if answer.retry_after is not None:
            self.send_header("Retry-After", answer.retry_after)
        if answer.status == 405:
            self.send_header("Allow", "POST")
        if answer.status not in _BODILESS:
            self.send_header("Content-Type", "application/json" if answer.status == 200 else "application/problem+json")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if answer.status not in _BODILESS and self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing."""
