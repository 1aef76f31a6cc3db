"""Tokens that processes share, in a Redis or Valkey: beside an exchange, and beside plain clients of the store."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import cast

import server
from bench import Bench, Contestant, middle, take_turns
from programs import BENCHES, Cost, MissingTool, Program, clean_env, pin, run
from report import OURS, Group, Row, span

Measure = Callable[[dict[str, tuple[Program, str]], int], dict[str, list[Cost]]]

WHERE = {"unix": "Unix socket", "tcp": "TCP"}
EXCHANGE = f"{OURS}, exchange"
ALONE = f"{OURS}, without a store"
COUNT, CACHED_COUNT, FILL = 600, 40_000, 20_000
# Targets: of a hit, against an exchange; of a cold call, us of CPU more than without a
# store, the servers' included; of a cached token, against one without a store.
HIT_REACH = {"unix": 0.8, "tcp": 1.1}
COLD_REACH = {"unix": 45, "tcp": 60}
CACHED_REACH = 1.05
ENTRY_REACH = 360  # bytes


@dataclass
class Store:
    """A running redis-server or valkey-server that keeps nothing on a disk."""

    process: subprocess.Popen[str]
    unix: str
    tcp: str

    def used_memory(self) -> int:
        return int(self.ask("INFO memory").partition("used_memory:")[2].split()[0])

    def tokens(self) -> int:
        return int(self.ask("DBSIZE").strip(":\r\n"))

    def ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(self.unix.removeprefix("unix://"))
            connection.sendall(f"{command}\r\n".encode())
            return connection.recv(65536).decode()


@dataclass
class Whole:
    """Measures like a program. Its wall time is the CPU time of client and servers: on one core that is what a caller
    waits on an idle machine, and other processes of a busy one do not count."""

    program: Program
    servers: list[int]

    def measure(self, name: str, count: int) -> Cost:
        before = self.served_ns()
        cost = self.program.measure(name, count)
        return Cost(cost.cpu, cost.cpu + (self.served_ns() - before) / count)

    def served_ns(self) -> int:
        """CPU time of the servers' first threads, which do all the work."""
        return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in self.servers)


def server_program() -> str:
    for name in ("redis-server", "valkey-server"):
        if found := which(name):
            return found
    raise MissingTool("redis-server or valkey-server (apt-get install redis-server)")


@contextmanager
def start(directory: Path, program: str) -> Iterator[Store]:
    path = directory / "store.sock"
    port, _ = server.free_ports()
    listens = ["--bind", "127.0.0.1", "--port", str(port), "--unixsocket", str(path)]
    process = subprocess.Popen([program, *listens, "--save", "", "--appendonly", "no"], cwd=directory, env=clean_env(),
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, text=True)
    try:
        deadline = time.monotonic() + 10
        while not path.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{program} does not start")
            time.sleep(0.02)
        yield Store(process, f"unix://{path}", f"redis://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(10)


def store(bench: Bench) -> None:
    try:
        program = server_program()
    except MissingTool as tool:
        bench.missing.append(str(tool))
        return
    shop = bench.workshop
    version = run(program, "--version").split(" sha=")[0].replace(" server v=", " ")
    bench.versions.append(version)
    directory = shop.directory / "store_server"
    directory.mkdir()
    with start(directory, program) as running:
        command = [shop.compile_c("store.c", *shop.link_spike()), bench.server().http, running.unix, running.tcp]
        ours = bench.start(*command)
        peers = start_peers(bench, running)
        one_core(bench, running, [ours, *peers.values()])

        def turns(steps: dict[str, tuple[Program, str]], count: int) -> dict[str, list[Cost]]:
            servers = [running.process.pid, bench.server().process.pid]
            contestants = [Contestant(what, cast(Program, Whole(program, servers)), name, count)
                           for what, (program, name) in steps.items()]
            return take_turns(contestants, bench.pace.exchange_rounds)

        hits(bench, turns, ours, peers, version)
        cold(bench, turns, ours, version)
        cached(bench, command)
        memory(bench, ours, running, version)
        for started in [ours, *peers.values()]:
            started.end()


def one_core(bench: Bench, store: Store, programs: list[Program]) -> None:
    """They never work at the same time, as with an exchange by one thread."""
    for process in [store.process, bench.server().process, *(program.process for program in programs)]:
        pin(process, {min(os.sched_getaffinity(0))})


def start_peers(bench: Bench, store: Store) -> dict[str, Program]:
    """Bindings and clients of the store, for each way to it."""
    shop = bench.workshop
    settings = {"SPIKE_APPLICATION_ID": "9999", "SPIKE_HMAC_KEY": "HMAC_KEY_FROM_ADMIN_CONSOLE",
                "SPIKE_API_BASE_URL": bench.server().http}
    commands: dict[str, tuple[list[object], dict[str, str]]] = {
        f"{OURS} from Python": ([sys.executable, BENCHES / "bindings" / "store.py"], settings | shop.python_binding)}
    try:
        commands[f"{OURS} from Go"] = [shop.build_go_binding("store.go")], settings
    except MissingTool as tool:
        bench.missing.append(str(tool))
    try:
        python = shop.python_with("redis[hiredis]")
        listed = run(python, "-m", "pip", "freeze", "--disable-pip-version-check").splitlines()
        bench.versions += [line.replace("==", " ") for line in listed if line.startswith(("redis==", "hiredis=="))]
        commands["redis-py GET"] = [python, BENCHES / "peers" / "store.py"], {}
    except MissingTool as tool:
        bench.missing.append(str(tool))
    try:
        commands["go-redis GET"] = [shop.build_go_module("store.go", "goredis.go")], {}
    except MissingTool as tool:
        bench.missing.append(str(tool))
    programs = {}
    for what, (command, env) in commands.items():
        for where, named in WHERE.items():
            url = getattr(store, where)
            more = {"SPIKE_STORE_URL": url} if env else {}
            programs[f"{what}, {named}"] = bench.start(*command, *([] if env else [url]), **env, **more)
    return programs


def rows(costs: dict[str, list[Cost]]) -> list[Row]:
    return [Row(what, [cost.cpu / 1000 for cost in series],
                {"with the servers'": span(middle([cost.wall / 1000 for cost in series]))},
                "ours" if what.startswith(OURS) else "peer")
            for what, series in costs.items()]


def hit_of(where: str) -> str:
    return f"{OURS}, from the store, {WHERE[where]}"


def hits(bench: Bench, turns: Measure, ours: Program, peers: dict[str, Program], version: str) -> None:
    print("store: hits", file=sys.stderr)
    steps = {EXCHANGE: (ours, "exchange:alone")} | {hit_of(where): (ours, f"hit:{where}") for where in WHERE}
    costs = turns(steps | {what: (program, "hit") for what, program in peers.items()}, COUNT)
    group = Group("A token from the store", "us of CPU", EXCHANGE, rows(costs),
                  f"CPU time of the client per token, with an empty cache of its own; all on one core; {version}; "
                  f"exchange with {bench.server().name}.")
    bench.groups.append(group)
    for where, named in WHERE.items():
        part = group.ratio(hit_of(where), EXCHANGE)
        bench.target(f"CPU of a token from the store, {named}, against an exchange", f"at most {HIT_REACH[where]} x",
                     part, part[0] <= HIT_REACH[where])
        for what, peer in [(hit_of(where), f"redis-py GET, {named}"), (hit_of(where), f"go-redis GET, {named}"),
                           (f"{OURS} from Python, {named}", f"redis-py GET, {named}"),
                           (f"{OURS} from Go, {named}", f"go-redis GET, {named}")]:
            if what in costs and peer in costs:
                less = group.ratio(what, peer)
                bench.target(f"CPU of {what}, against {peer}", "less than 1 x", less, less[0] < 1)


def cold(bench: Bench, turns: Measure, ours: Program, version: str) -> None:
    print("store: cold", file=sys.stderr)
    names = {ALONE: "cold:alone"} | {f"{OURS}, {named}": f"cold:{where}" for where, named in WHERE.items()}
    costs = turns({what: (ours, name) for what, name in names.items()}, COUNT)
    bench.groups.append(Group(
        "A token that nobody has asked for yet", "us of CPU", ALONE, rows(costs),
        f"CPU time of a look into the store, an exchange and a put; all on one core; {version}; exchange with "
        f"{bench.server().name}."))
    for where, named in WHERE.items():
        more = middle([(one.wall - alone.wall) / 1000
                       for one, alone in zip(costs[f"{OURS}, {named}"], costs[ALONE], strict=True)])
        bench.target(f"a token that nobody has asked for yet, {named}: us of CPU more than without a store",
                     f"at most {COLD_REACH[where]}", more, more[0] <= COLD_REACH[where])


def cached(bench: Bench, command: list[object]) -> None:
    """A new program for each round: where a client lies in memory moves the figure by more than the store does."""
    print("store: cached", file=sys.stderr)
    with_store = f"{OURS}, with a store"
    costs: dict[str, list[Cost]] = {ALONE: [], with_store: []}
    for number in range(bench.pace.exchange_rounds):
        program = bench.start(*command)
        for what in list(costs)[::(-1) ** number]:
            name = "cached:alone" if what == ALONE else "cached:unix"
            costs[what].append(program.measure(name, CACHED_COUNT))
        program.end()
    group = Group("A token in the client's own cache", "ns of CPU", ALONE,
                  [Row(what, [cost.cpu for cost in series], kind="ours") for what, series in costs.items()],
                  "CPU time per call.")
    bench.groups.append(group)
    same = group.ratio(with_store)
    bench.target("cached token, with a store, against without", f"at most {CACHED_REACH} x", same,
                 same[0] <= CACHED_REACH)


def memory(bench: Bench, ours: Program, store: Store, version: str) -> None:
    print("store: memory", file=sys.stderr)
    used, tokens = store.used_memory(), store.tokens()
    ours.step("cold:unix", FILL)
    taken = (store.used_memory() - used) / (store.tokens() - tokens)
    bench.groups.append(Group("Memory of a token in the store", "bytes", OURS, [Row(OURS, [taken], kind="ours")],
                              f"What {FILL} tokens of {len(server.TOKEN)} characters add to the store's `used_memory`; "
                              f"{version}."))
    bench.target("memory of a token in the store, bytes", f"at most {ENTRY_REACH}", (taken, taken, taken),
                 taken <= ENTRY_REACH)
