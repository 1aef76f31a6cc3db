"""Pending calls."""

from __future__ import annotations

import socket

from bench import Bench, middle
from report import OURS, Group, Row

PENDING = 100_000
PENDING_BYTES, PENDING_MS = 700, 250
# What ends them, the row, and their deadline in ms.
ENDS = {
    "cancel_oldest": ("cancel of all, oldest first", 60_000),
    "cancel_newest": ("cancel of all, newest first", 60_000),
    "expire": ("expiry, the latest after its deadline", 1000),
}


def pending(bench: Bench) -> None:
    shop = bench.workshop
    command = shop.compile_c("pending.c", *shop.link_spike())
    bytes_each: list[float] = []
    started: list[float] = []
    told: dict[str, list[float]] = {what: [] for what, _ in ENDS.values()}
    # A server that answers nothing: the kernel accepts its connections.
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for _ in range(bench.pace.pending_rounds):
            for end, (what, timeout_ms) in ENDS.items():
                program = bench.start(command, url, timeout_ms)
                program.step("open", PENDING)
                before = program.private_memory()
                started.append(program.step("start", PENDING)[1] / 1e6)
                bytes_each.append((program.private_memory() - before) / PENDING)
                told[what].append(program.step(end, PENDING)[1] / 1e6)
                program.end()
    name = f"{PENDING:,} pending calls".replace(",", " ")
    bench.groups.append(Group(f"Memory of {name}", "bytes each", OURS, [Row(OURS, bytes_each, kind="ours")]))
    taken = middle(bytes_each)
    bench.target(f"{name}, bytes each", f"at most {PENDING_BYTES}", taken, taken[0] <= PENDING_BYTES)
    for what, series in {"start of all": started, **told}.items():
        bench.groups.append(Group(f"{name}: {what}", "ms", OURS, [Row(OURS, series, kind="ours")]))
    for what, series in told.items():
        taken = middle(series)
        bench.target(f"{name}, {what}, ms until told", f"at most {PENDING_MS}", taken, taken[0] <= PENDING_MS)
