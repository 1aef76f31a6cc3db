"""Servers beside the sandbox: OpenSSL through Python, nginx, tinyproxy, and raw sockets.

Each has a free port on loopback, and stops at the end of its `with`.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from support.project import clean_env

TOKEN = "token-of-a-peer.0123456789"
_BODY = json.dumps({"access_token": TOKEN}).encode()
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)


class Peer:
    """Passes each connection to `serve`, on a thread of its own, and collects the results in `seen`.

    `seen` is complete after the `with`; the clients must have ended by then.
    """

    def __init__(self, serve: Callable[[socket.socket], object]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self.seen: list[object] = []

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was shut down
            while True:
                connection, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._handle, args=(connection,), daemon=True))
                self._threads[-1].start()

    def _handle(self, connection: socket.socket) -> None:
        # A client without trust leaves during the handshake.
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            self.seen.append(self._serve(connection))

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:  # so that `seen` is complete
            thread.join(10)


def read_request(stream: socket.socket) -> bytes:
    """One request, to the end of its body; empty at the end of the stream."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = stream.recv(65536)
        if not part:
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while lengths and len(body) < int(lengths[0]):
        part = stream.recv(65536)
        if not part:
            return b""
        body += part
    return head + b"\r\n\r\n" + body


def _answer_all(stream: socket.socket) -> None:
    while read_request(stream):
        stream.sendall(REPLY)


def _end(stream: socket.socket) -> None:
    """Ends the connection and reads what still comes: a close with unread bytes could destroy what was sent last."""
    stream.shutdown(socket.SHUT_WR)
    with contextlib.suppress(OSError):
        while stream.recv(65536):
            pass


def tls_peer(
    certificate: Path,
    oldest: str = "TLSv1_2",
    newest: str = "TLSv1_3",
    ciphers: str | None = None,
    clients: Path | None = None,
) -> Peer:
    """Python's TLS, which is OpenSSL; `seen` holds the version of each successful handshake.

    With `clients`, an authority, it requires client certificates.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if ciphers:  # first: the ciphers' security level applies to the certificate too
        context.set_ciphers(ciphers)
    context.load_cert_chain(certificate)
    if clients:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions are tested
        context.minimum_version, context.maximum_version = ssl.TLSVersion[oldest], ssl.TLSVersion[newest]

    def serve(connection: socket.socket) -> str | None:
        with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as stream:
            try:
                stream.do_handshake()
                version = stream.version()
                _answer_all(stream)
            except ssl.SSLError:
                _end(stream)  # the client receives the alert
                raise
            return version

    return Peer(serve)


def raw_peer(reply: bytes) -> Peer:
    """Reads the first bytes, sends `reply`, and closes."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(reply)
        _end(connection)

    return Peer(serve)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def _program(folder: Path, command: list[object], config: Callable[[int], str]) -> Iterator[int]:
    """Runs a server with a configured port. If another process takes the port first, it gets another one."""
    pid_file = folder / "pid"
    for _ in range(5):
        port = free_port()
        (folder / "config").write_text(config(port))
        with (folder / "log").open("w") as log:
            process = subprocess.Popen([str(part) for part in command], env=clean_env(), stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 10
            while process.poll() is None and not pid_file.exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            if process.poll() is None and pid_file.exists():  # it is written after the port is bound
                yield port
                return
        finally:
            process.terminate()
            process.wait(10)
            pid_file.unlink(missing_ok=True)
    raise AssertionError(f"{command[0]} does not start:\n{(folder / 'log').read_text()}")


_NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port}{listen};
        {lines}
        location = /v3/auth/hmac {{
            default_type application/json;
            return 200 '{body}';
        }}
    }}
}}
"""


def nginx(folder: Path, certificate: Path | None, *lines: str):
    """nginx that answers every exchange; with a certificate, over TLS."""
    listen, both = "", list(lines)
    if certificate:
        listen = " ssl"
        both += [f"ssl_certificate {certificate};", f"ssl_certificate_key {certificate};"]
    values = {"folder": folder, "listen": listen, "lines": "\n        ".join(both), "body": _BODY.decode()}
    command = ["nginx", "-p", folder, "-e", "stderr", "-c", folder / "config"]
    return _program(folder, command, lambda port: _NGINX.format(port=port, **values))


_TINYPROXY = """
Port {port}
Listen 127.0.0.1
Allow 127.0.0.1
PidFile "{folder}/pid"
LogFile "{folder}/access"
LogLevel Connect
MaxClients 20
ConnectPort {target}
{lines}
"""


def tinyproxy(folder: Path, target: int, *lines: str):
    """tinyproxy that connects to one port of this machine. The file `access` has its requests."""
    values = {"folder": folder, "target": target, "lines": "\n".join(lines)}
    command = ["tinyproxy", "-d", "-c", folder / "config"]
    return _program(folder, command, lambda port: _TINYPROXY.format(port=port, **values))
