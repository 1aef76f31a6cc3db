"""Processes in C, Python and Go that share nothing but a store."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.project import CC, HEADER, RELEASE, ROOT, SHARED, clean_env, run

SOURCES = Path(__file__).parent / "workers"
# Until a fleet is ended: a worker that hangs fails its test.
PATIENCE = 90


def build(folder: Path) -> list[list[object]]:
    """The three workers' commands."""
    program, go = folder / "worker-c", folder / "worker-go"
    run(CC, "-std=c11", SOURCES / "worker.c", f"-I{HEADER.parent}", f"-L{RELEASE}", "-lspike_auth",
        f"-Wl,-rpath,{RELEASE}", "-o", program)
    env = clean_env(PKG_CONFIG_PATH=str(ROOT / "target" / "go"), GOFLAGS="", GOWORK="off", GOTOOLCHAIN="local")
    run(os.environ.get("GO", "go"), "build", "-o", go, SOURCES / "worker.go", cwd=ROOT / "bindings" / "go", env=env)
    return [[program], [sys.executable, "-B", SOURCES / "worker.py"], [go]]


@dataclass
class Answer:
    status: int
    ms: float
    token: str


class Worker:
    def __init__(self, command: list[object], env: dict[str, str]) -> None:
        self.process = subprocess.Popen([str(part) for part in command], env=env, text=True, bufsize=1,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def tell(self, lines: list[str]) -> None:
        self.process.stdin.write("".join(f"{line}\n" for line in lines))
        self.process.stdin.flush()

    def line(self) -> str:
        line = self.process.stdout.readline()
        assert line, f"a worker ended with {self.process.wait(10)}"
        return line

    def answer(self) -> Answer:
        status, ms, token = self.line().split()
        return Answer(int(status), float(ms), token)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Fleet:
    def __init__(self, workers: list[Worker]) -> None:
        self.workers = workers

    def ask(self, *lines: list[str]) -> list[list[Answer]]:
        """Each worker's answers to its lines, or to the same ones; all begin at once."""
        orders = list(lines) * (len(self.workers) if len(lines) == 1 else 1)
        for worker, order in zip(self.workers, orders, strict=True):
            worker.tell(order)
        with ThreadPoolExecutor(len(self.workers)) as pool:
            return list(pool.map(lambda worker, order: [worker.answer() for _ in order], self.workers, orders))


@contextmanager
def fleet(commands: list[list[object]], size: int, env: dict[str, str]) -> Iterator[Fleet]:
    env = clean_env(PYTHONPATH=str(ROOT / "bindings" / "python" / "src"), SPIKE_AUTH_LIBRARY=str(SHARED), **env)
    workers: list[Worker] = []
    watchdog = threading.Timer(PATIENCE, lambda: [worker.process.kill() for worker in workers])
    watchdog.daemon = True
    try:
        workers += [Worker(commands[number % len(commands)], env) for number in range(size)]
        watchdog.start()
        for worker in workers:
            assert worker.line() == "ready\n"
        yield Fleet(workers)
    finally:
        watchdog.cancel()
        for worker in workers:
            worker.end()
