"""A server with all the processes that it starts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Until a server says what is waited for. The slowest needs three seconds.
START_SECONDS = 25
# gunicorn's default grace is 30 s, Celery's and Apache's are longer.
STOP_SECONDS = 8


class Failed(Exception):
    """A check failed."""


class Skipped(Exception):
    """Something is missing on this machine; the text says what, and how to install it."""


def expect(condition: bool, *facts: object) -> None:
    if not condition:
        raise Failed(" ".join(map(str, facts)))


class Running:
    """A server. Its log is a file."""

    def __init__(self, command: list[object], folder: Path, env: dict[str, str]) -> None:
        self.log = folder / f"{Path(str(command[0])).name}.log"
        with self.log.open("wb") as log:
            # A session of its own: its process group is all that it starts.
            self.process = subprocess.Popen([str(part) for part in command], cwd=folder, env=env, stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match in the log."""
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(pattern, self.said)):
            expect(self.process.poll() is None, "it ended with", self.process.returncode)
            expect(time.monotonic() < deadline, "it did not say", pattern)
            time.sleep(0.02)
        return found

    def stop(self, number: int) -> None:
        """Also waits for the processes that it started, which it may not have waited for."""
        self.process.send_signal(number)
        start = time.monotonic()
        while self.process.poll() is None or self.is_alive():
            expect(time.monotonic() < start + STOP_SECONDS, "it still ran", STOP_SECONDS, "s after the signal")
            time.sleep(0.02)

    def is_alive(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def end(self) -> None:
        if self.process.poll() is None or self.is_alive():
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def running(command: list[object], folder: Path, env: dict[str, str]) -> Iterator[Running]:
    server = Running(command, folder, env)
    try:
        yield server
    except Failed as failure:
        raise Failed(f"{failure}\n{server.said}") from None
    finally:
        server.end()
