"""A Redis or Valkey of its own, where one is installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.project import clean_env

SERVERS = ("redis-server", "valkey-server")


def installed() -> list[str]:
    return [found for found in map(shutil.which, SERVERS) if found]


@contextmanager
def running(folder: Path, program: str, *arguments: object) -> Iterator[Path]:
    """Yields the path of its Unix socket. A file of settings is the first argument; later ones go before its lines."""
    path, log = folder / "store.sock", folder / "store.log"
    command = [program, *map(str, arguments), "--unixsocket", str(path)]
    with log.open("w") as out:
        files = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out}
        process = subprocess.Popen(command, cwd=folder, env=clean_env(), **files)
    try:
        deadline = time.monotonic() + 20
        while not _answers(path):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{program} does not start:\n{log.read_text()}")
            time.sleep(0.02)
        yield path
    finally:
        process.terminate()
        process.wait(10)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        return connection.connect_ex(str(path)) == 0
