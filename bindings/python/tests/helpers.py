"""What several tests need."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from spike_auth import AsyncClient, Client
from support import project

SOURCE = Path(__file__).resolve().parents[1] / "src"
# How often a busy machine may be late by itself; a library that is late is so every time.
TRIES = 8


def settings_of(addresses: dict, scheme: str = "http", **more: Any) -> dict[str, Any]:
    return {
        "application_id": addresses["application_id"],
        "hmac_key": addresses["hmac_key"],
        "base_url": addresses[scheme],
        "ca_file": addresses["ca_file"],
        "tls_roots": "none",
        **more,
    }


def client_of(addresses: dict, scheme: str = "http", **more: Any) -> Client:
    return Client(**settings_of(addresses, scheme, **more))


def async_client_of(addresses: dict, **more: Any) -> AsyncClient:
    return AsyncClient(**settings_of(addresses, **more))


def user_of(token: str) -> str:
    """Whose token it is: the sandbox's name their user."""
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"]


def wait_until(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.002)


def in_flight(addresses: dict) -> int:
    return project.counters(addresses)["in_flight"]


async def until_in_flight(addresses: dict, count: int) -> None:
    end = time.monotonic() + 20
    while in_flight(addresses) != count:
        assert time.monotonic() < end, f"not {count} requests in flight"
        await asyncio.sleep(0.01)


def in_time(most: float, measure) -> None:
    """`measure` takes at most `most` seconds, in one of a few tries at least."""
    took = []
    while len(took) < TRIES:
        took.append(measure())
        if took[-1] <= most:
            return
    raise AssertionError(f"{took}, and not within {most}")


def environment(addresses: dict | None = None, **more: str) -> dict[str, str]:
    variables = project.settings(addresses) if addresses else {}
    library = os.environ["SPIKE_AUTH_LIBRARY"]
    return project.clean_env(PYTHONPATH=str(SOURCE), SPIKE_AUTH_LIBRARY=library, **variables) | more


def python(*arguments: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Another Python, strict about warnings."""
    command = [sys.executable, "-X", "dev", "-W", "error", *map(str, arguments)]
    return subprocess.run(command, env=env, text=True, capture_output=True, timeout=60, check=False)


def script(text: str, env: dict[str, str], *arguments: object) -> str:
    """What a program prints. It must succeed and have nothing to complain of."""
    done = python("-c", text, *arguments, env=env)
    assert (done.returncode, done.stderr) == (0, ""), f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


class Service(ThreadingHTTPServer):
    """A service that takes tokens: 401 for none and for those in `refused`, and redirects from /to/... to `target`."""

    daemon_threads = True

    def __init__(
        self, *, refuses_first: bool = False, refuses_all: bool = False, judges_redirects: bool = False
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refuses_first, self.refuses_all = refuses_first, refuses_all
        self.judges_redirects = judges_redirects
        self.connections = 0
        self.refused: set[str] = set()
        self.target = ""
        self.seen: list[tuple[str, str | None, bytes]] = []  # path, Authorization, body
        self.url = f"http://127.0.0.1:{self.server_port}"

    def finish_request(self, *connection: Any) -> None:
        self.connections += 1
        super().finish_request(*connection)

    def judge(self, authorization: str | None) -> bool:
        if self.refuses_first and authorization and not self.refused:
            self.refused.add(authorization)
        return authorization is not None and not self.refuses_all and authorization not in self.refused


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def _answer(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        authorization = self.headers.get("Authorization")
        self.server.seen.append((self.path, authorization, body))
        redirects = self.path.startswith("/to/")
        if redirects and (not self.server.judges_redirects or self.server.judge(authorization)):
            self.send_response(307)
            self.send_header("Location", self.server.target)
        else:
            self.send_response(200 if self.server.judge(authorization) else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def service(**options: bool):
    server = Service(**options)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
