"""Helpers of several tests."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from spike_auth import AsyncClient, Client
from support import project
from support.peers import Peer

SOURCE = Path(__file__).resolve().parents[1] / "src"
# On a busy machine a single measurement can be late.
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
    """The user that a token of the sandbox names."""
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"]


def wait_until(condition, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.002)


def in_flight(addresses: dict) -> int:
    return project.counters(addresses)["in_flight"]


async def until_in_flight(addresses: dict, count: int) -> None:
    deadline = time.monotonic() + 20
    while in_flight(addresses) != count:
        assert time.monotonic() < deadline, f"not {count} requests in flight"
        await asyncio.sleep(0.01)


def in_time(most: float, measure) -> None:
    """At least one of several calls of `measure` returns at most `most` seconds."""
    took = []
    while len(took) < TRIES:
        took.append(measure())
        if took[-1] <= most:
            return
    raise AssertionError(f"{took}, and none within {most}")


def environment(addresses: dict | None = None, **more: str) -> dict[str, str]:
    variables = project.settings(addresses) if addresses else {}
    library = os.environ["SPIKE_AUTH_LIBRARY"]
    return project.clean_env(PYTHONPATH=str(SOURCE), SPIKE_AUTH_LIBRARY=library, **variables) | more


def without_library(package: Path, **more: str) -> dict[str, str]:
    """The environment of a package that must find the library by itself."""
    env = environment(PYTHONPATH=str(package), **more)
    del env["SPIKE_AUTH_LIBRARY"]
    return env


def python(*arguments: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run another Python, with warnings as errors."""
    command = [sys.executable, "-X", "dev", "-W", "error", *map(str, arguments)]
    return subprocess.run(command, env=env, text=True, capture_output=True, timeout=60, check=False)


def script(text: str, env: dict[str, str], *arguments: object) -> str:
    """Run a program, which must succeed and print nothing to stderr. Returns its stdout."""
    done = python("-c", text, *arguments, env=env)
    assert (done.returncode, done.stderr) == (0, ""), f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


class Service(Peer):
    """A service that accepts tokens. It answers 401 to none and to those in `refused`, and redirects /to/... ."""

    def __init__(
        self, *, refuses_first: bool = False, refuses_all: bool = False, checks_redirects: bool = False
    ) -> None:
        super().__init__(self._serve_connection)
        self.refuses_first, self.refuses_all, self.checks_redirects = refuses_first, refuses_all, checks_redirects
        self.url = f"http://127.0.0.1:{self.port}"
        self.target = ""  # of redirects
        self.refused: set[str] = set()
        self.requests: list[tuple[str, str | None, bytes]] = []  # path, Authorization, body
        self.connections: list[socket.socket] = []

    @property
    def authorizations(self) -> list[str | None]:
        return [authorization for _, authorization, _ in self.requests]

    def _accepts(self, authorization: str | None) -> bool:
        if self.refuses_first and authorization and not self.refused:
            self.refused.add(authorization)
        return authorization is not None and not self.refuses_all and authorization not in self.refused

    def _serve_connection(self, connection: socket.socket) -> None:
        self.connections.append(connection)
        with connection.makefile("rb") as stream:
            while line := stream.readline():
                path, headers = line.split()[1].decode(), http.client.parse_headers(stream)
                body = stream.read(int(headers.get("Content-Length", 0)))
                while headers.get("Transfer-Encoding") == "chunked" and (size := int(stream.readline(), 16)):
                    body += stream.read(size + 2)[:size]
                if headers.get("Transfer-Encoding") == "chunked":
                    stream.readline()
                connection.sendall(self._response(path, headers["Authorization"], body))

    def _response(self, path: str, authorization: str | None, body: bytes) -> bytes:
        self.requests.append((path, authorization, body))
        is_redirect = path.startswith("/to/")
        if (self.checks_redirects or not is_redirect) and not self._accepts(authorization):
            status, more, reply = "401 Unauthorized", "", "refused"
        elif is_redirect:
            status, more, reply = "307 Temporary Redirect", f"Location: {self.target}\r\n", ""
        else:
            status, more, reply = "200 OK", "", ""
        return f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(reply)}\r\n\r\n{reply}".encode()

    def __exit__(self, *reason: object) -> None:
        for connection in self.connections:  # of clients that keep theirs
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        super().__exit__(*reason)
