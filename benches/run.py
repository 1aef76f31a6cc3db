#!/usr/bin/env python3
"""Measures the library against its peers and against the limit: `python3 benches/run.py --help`.

Builds what it needs in a temporary directory, measures all rows of a table in turns, and writes a table and a picture.
No figure makes it fail. benches/README.md says how to read the result.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import machine
import server
import store
from programs import BENCHES, CARGO, CC, ROOT, Cost, MissingTool, Program, Workshop, need, pin, run
from report import OURS, Group, Report, Row, Target, span, svg

LIMIT = "limit: two compressions"
LIMIT_OF_EIGHT = "limit, eight side by side"
BULK = f"{OURS}, bulk, per id"
ONCE = f"{OURS}, key in every call"

# The bindings, and their rows where they have several.
FROM_GO = f"{OURS} from Go"
FROM_GO_STRING = f"{FROM_GO}, SignUser"
FROM_GO_BUFFER = f"{FROM_GO}, AppendSignature"
FROM_PYTHON = f"{OURS} from Python"
FROM_PYTHON_ONE = f"{FROM_PYTHON}, sign"
FROM_PYTHON_BULK = {ids: f"{FROM_PYTHON}, sign_many of {ids}, per id" for ids in (1000, 100, 100_000)}
GO_DOCUMENTED = "Go crypto/hmac, as documented"
PYTHON_DOCUMENTED = "Python hmac, as documented"

SIGN_STEP = 4096  # counts of signatures are multiples of this, so that bulk calls are whole
FEW_USERS = 20_000


@dataclass
class Pace:
    """How much is measured. Quick only checks that the benchmarks work."""

    quick: bool

    @property
    def sign_rounds(self) -> int:
        return 9 if self.quick else 41

    @property
    def sign_slice_ns(self) -> float:
        return 8e6 if self.quick else 20e6

    @property
    def exchange_rounds(self) -> int:
        return 3 if self.quick else 31

    @property
    def tasks_rounds(self) -> int:
        return 3 if self.quick else 7

    @property
    def users(self) -> int:
        """Users with a cached token."""
        return FEW_USERS if self.quick else 1_000_000

    @property
    def library_rounds(self) -> int:
        return 5 if self.quick else 21

    @property
    def pending_rounds(self) -> int:
        return 1 if self.quick else 7


@dataclass
class Contestant:
    what: str
    program: Program
    name: str
    count: int = SIGN_STEP
    unit: int = SIGN_STEP  # counts are multiples of it


class Bench:
    """What the benchmarks share, and their results for the report."""

    def __init__(self, workshop: Workshop, pace: Pace, stack: ExitStack) -> None:
        self.workshop = workshop
        self.pace = pace
        self.stack = stack
        self.groups: list[Group] = []
        self.targets: list[Target] = []
        self.missing: list[str] = []
        self.versions: list[str] = []
        self._server: server.Server | None = None

    def start(self, *command: object, **env: str) -> Program:
        program = Program(*command, **env)
        self.stack.callback(program.end)
        return program

    def optional(self, make: Callable[[], list[Contestant]]) -> list[Contestant]:
        """The contestants that `make` returns, or none and a note of what is missing."""
        try:
            return make()
        except MissingTool as tool:
            self.missing.append(str(tool))
            print(f"missing: {tool}", file=sys.stderr)
            return []

    def take_header(self, header: str, define: str, library: str, package: str) -> list[str]:
        """The flags for an optional C library."""
        if self.workshop.has_header(header):
            return [f"-D{define}", f"-l{library}"]
        self.missing.append(f"{package} (apt-get install {package})")
        return []

    def server(self) -> server.Server:
        if self._server is None:
            directory = self.workshop.directory / "server"
            directory.mkdir()
            self._server = self.stack.enter_context(server.start(directory, ROOT, self.missing))
            self.versions.append(self._server.name)
        return self._server

    def target(self, what: str, reach: str, measured: tuple[float, float, float], reached: bool) -> None:
        self.targets.append(Target(what, reach, measured, reached))


def take_turns(contestants: list[Contestant], rounds: int) -> dict[str, list[Cost]]:
    """Measures all of them in each round, in an order that changes, so that none always follows the same one."""
    costs: dict[str, list[Cost]] = {one.what: [] for one in contestants}
    order = random.Random(1)
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for one in order.sample(contestants, len(contestants)):
            costs[one.what].append(one.program.measure(one.name, one.count))
    progress("")
    return costs


def progress(words: str) -> None:
    """One line that is overwritten, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{words}", end="", file=sys.stderr, flush=True)


# --- signing ---


def sign(bench: Bench) -> None:
    contestants = sign_contestants(bench)
    for one in contestants:
        calibrate(one, bench.pace.sign_slice_ns)
    costs = take_turns(contestants, bench.pace.sign_rounds)
    kinds = {LIMIT: "limit", LIMIT_OF_EIGHT: "limit", FROM_PYTHON_BULK[100]: "note", FROM_PYTHON_BULK[100_000]: "note"}
    rows = [
        Row(what, [cost.cpu for cost in series], kind=kinds.get(what, "ours" if what.startswith(OURS) else "peer"))
        for what, series in costs.items()
    ]
    group = Group("Signing one user id of 23 bytes", "ns of CPU", LIMIT, rows,
                  "CPU time per signature, including the 64 hex characters except for the limits.")
    against_ours = {row.what: group.ratio(row.what, OURS) for row in rows}
    for row in rows:
        row.more[f"x {OURS}"] = span(against_ours[row.what], 2)
    bench.groups.append(group)

    to_limit, bulk_to_limit = group.ratio(OURS), group.ratio(BULK)
    bench.target("sign, against the limit", "at most 1.6 x", to_limit, to_limit[0] <= 1.6)
    bench.target("bulk sign per id, against the limit", "at most 1.2 x", bulk_to_limit, bulk_to_limit[0] <= 1.2)
    for name in ("OpenSSL", "libsodium"):
        ours = [row for row in rows if row.what.startswith(name) and "key in every call" not in row.what]
        if ours:
            best = min(ours, key=lambda row: median(row.values))
            faster = against_ours[best.what]
            bench.target(f"sign, times faster than {best.what}", "more than 1 x", faster, faster[0] > 1)
    peers = [row for row in rows if row.kind == "peer"]
    if peers:
        best = min(peers, key=lambda row: median(row.values))
        faster = against_ours[best.what]
        bench.target(f"sign, times faster than the best peer ({best.what})", "at least 1.8 x", faster,
                     faster[0] >= 1.8)
    bindings_sign_targets(bench, group, costs)


def bindings_sign_targets(bench: Bench, group: Group, costs: dict[str, list[Cost]]) -> None:
    if FROM_GO_STRING in costs and GO_DOCUMENTED in costs:
        faster = group.ratio(GO_DOCUMENTED, FROM_GO_STRING)
        bench.target("sign from Go, times faster than as documented", "at least 3 x", faster, faster[0] >= 3)
    against = group.ratio(FROM_PYTHON_ONE, PYTHON_DOCUMENTED)
    bench.target("sign from Python, against as documented", "at most 1 x", against, against[0] <= 1)
    faster = group.ratio(PYTHON_DOCUMENTED, FROM_PYTHON_BULK[1000])
    bench.target("sign_many from Python, 1000 ids, per id, times faster than as documented", "at least 8 x", faster,
                 faster[0] >= 8)


def calibrate(one: Contestant, slice_ns: float) -> None:
    """Sets the count so that a step takes about `slice_ns`."""
    one.program.measure(one.name, one.unit)
    cost = one.program.measure(one.name, one.unit)
    one.count = max(1, math.ceil(slice_ns / max(cost.wall, 1) / one.unit)) * one.unit


def sign_contestants(bench: Bench) -> list[Contestant]:
    shop = bench.workshop
    openssl = bench.take_header("openssl/evp.h", "HAVE_OPENSSL", "crypto", "libssl-dev")
    sodium = bench.take_header("sodium.h", "HAVE_SODIUM", "sodium", "libsodium-dev")
    c = shop.compile_c("sign.c", *shop.link_spike(), *shop.build_limit(), *openssl, *sodium)
    bench.versions += run(c, "--versions").splitlines()
    here = bench.start(c)
    kinds = {
        LIMIT: "limit",
        LIMIT_OF_EIGHT: "limit_of_eight",
        OURS: "spike",
        f"{OURS}, err NULL": "spike_without_err",
        BULK: "spike_bulk",
    }
    if openssl:
        kinds |= {"OpenSSL EVP_MAC, key kept": "openssl_init",
                  "OpenSSL EVP_MAC, keyed context copied": "openssl_dup"}
    if sodium:
        kinds |= {"libsodium, keyed state copied": "sodium_copied"}
    once = {ONCE: "spike_once"}
    if openssl:
        once |= {"OpenSSL HMAC(), key in every call": "openssl_once"}
    if sodium:
        once |= {"libsodium, key in every call": "sodium_once"}

    def of(what: str, program: Callable[[], Program], name: str = "documented") -> list[Contestant]:
        return [Contestant(what, program(), name)]

    def go() -> list[Contestant]:
        program = bench.start(shop.build_go("sign.go"))
        return [Contestant("Go crypto/hmac, Reset", program, "reset"),
                Contestant(GO_DOCUMENTED, program, "documented")]

    def go_binding() -> list[Contestant]:
        program = bench.start(shop.build_go_binding("sign.go"))
        return [Contestant(FROM_GO_STRING, program, "sign_user"),
                Contestant(FROM_GO_BUFFER, program, "append_signature")]

    def python_binding() -> list[Contestant]:
        program = bench.start(sys.executable, BENCHES / "bindings" / "sign.py", **shop.python_binding)
        return [Contestant(FROM_PYTHON_ONE, program, "sign"),
                *(Contestant(what, program, f"sign_many_{ids}", unit=max(ids, 4000))
                  for ids, what in FROM_PYTHON_BULK.items())]

    def script(what: str, tool: str, package: str, source: str) -> Callable[[], list[Contestant]]:
        return lambda: of(what, lambda: bench.start(need(tool, f"apt-get install {package}"),
                                                    BENCHES / "peers" / source))

    return [
        *(Contestant(what, here, name) for what, name in kinds.items()),
        *bench.optional(go_binding),
        *python_binding(),
        *bench.optional(go),
        *bench.optional(script("PHP hash_hmac, as documented", "php", "php-cli", "sign.php")),
        *of(PYTHON_DOCUMENTED, lambda: bench.start(sys.executable, BENCHES / "peers" / "sign.py")),
        *bench.optional(script("Node createHmac, as documented", "node", "nodejs", "sign.js")),
        *(Contestant(what, here, name) for what, name in once.items()),
    ]


# --- exchanging ---

# Exchanges per step, by number of threads.
COUNTS = {1: 600, 8: 1600}
COUNTS_PYTHON = {1: 100, 8: 240}
PACKAGES = ("urllib3", "httpx", "requests")
FROM_PYTHON_MAIN = f"{FROM_PYTHON}, main thread"
# Targets: less CPU time than the peer, and a multiple of the peer's rate.
CPU_REACH = [(OURS, "libcurl"), (OURS, "Go net/http"), (FROM_GO, "Go net/http")]
RATE_REACH = [(what, peer, reach) for what in (FROM_PYTHON, FROM_PYTHON_MAIN)
              for peer, reach in (("Python urllib3", 3), ("Python requests", 5))]
# Exchanges per step of one thread, by how many are in flight, and targets against libcurl's multi interface.
IN_FLIGHT = {1: 600, 8: 1600, 32: 1600, 256: 2560, 1000: 4000}
IN_FLIGHT_REACH = {1: 1.0, 8: 1.0, 32: 1.5}
QUEUE = f"{OURS}, queue"
CURL_MULTI = "libcurl multi"
NO_LIBCURL = "libcurl (apt-get install libcurl4-openssl-dev libssl-dev)"


def exchange(bench: Bench) -> None:
    place = bench.server()
    clients = exchange_clients(bench)
    for protocol, url, ca_file in [("HTTP", place.http, ""), ("HTTPS", place.https, place.ca_file)]:
        programs = {what: bench.start(*client.command, url, ca_file, **client.env) for what, client in clients.items()}
        opened = {what: connections_opened(place, program) for what, program in programs.items()}
        for threads in (1, 8):
            print(f"exchange: {protocol}, {threads}", file=sys.stderr)
            # One thread and the server never work at the same time. On two cores most of the figure would be the
            # cost of waking an idle core, which depends on the scheduler.
            cores = {min(os.sched_getaffinity(0))} if threads == 1 else os.sched_getaffinity(0)
            for process in [place.process, *(program.process for program in programs.values())]:
                pin(process, cores)
            contestants = []
            for what, client in clients.items():
                contestants.append(Contestant(what, programs[what], str(threads), client.counts[threads]))
                if what == FROM_PYTHON and threads == 1:
                    contestants.append(Contestant(FROM_PYTHON_MAIN, programs[what], "0", client.counts[threads]))
            costs = take_turns(contestants, bench.pace.exchange_rounds)
            exchange_group(bench, protocol, threads, costs, opened)
        exchange_in_flight(bench, protocol, programs)
        for program in programs.values():
            program.end()


def exchange_group(bench: Bench, protocol: str, threads: int, costs: dict[str, list[Cost]],
                   opened: dict[str, str]) -> None:
    crowd = "1 thread" if threads == 1 else f"{threads} threads"
    rows = [
        Row(what, [cost.cpu / 1000 for cost in series],
            more=exchange_columns(series, costs[OURS]) | {"connections": opened.get(what, "")},
            kind="ours" if what.startswith(OURS) else "peer")
        for what, series in costs.items()
    ]
    group = Group(f"Exchange over {protocol}, {crowd}", "us of CPU", OURS, rows,
                  f"CPU time of the client per exchange on kept connections; server: {bench.server().name}"
                  + (", on the same core." if threads == 1 else "."))
    bench.groups.append(group)
    for what, peer in CPU_REACH:
        if what in costs and peer in costs:
            less = group.ratio(what, peer)
            bench.target(f"CPU per exchange{whose(what)}, {protocol}, {crowd}, against {peer}", "less than 1 x", less,
                         less[0] < 1)
    for what, peer, reach in RATE_REACH:
        if what in costs and peer in costs:
            times = rate_ratio(costs[what], costs[peer])
            bench.target(f"exchanges per s{whose(what)}, {protocol}, {crowd}, against {peer}", f"at least {reach} x",
                         times, times[0] >= reach)


def exchange_in_flight(bench: Bench, protocol: str, programs: dict[str, Program]) -> None:
    """One thread of the caller, with several exchanges under way."""
    place = bench.server()
    rows = {QUEUE: programs[OURS]} | ({CURL_MULTI: programs["libcurl"]} if "libcurl" in programs else {})
    for many, count in IN_FLIGHT.items():
        print(f"exchange: {protocol}, {many} in flight", file=sys.stderr)
        cores = {min(os.sched_getaffinity(0))} if many == 1 else os.sched_getaffinity(0)
        for process in [place.process, *(program.process for program in rows.values())]:
            pin(process, cores)
        contestants = [Contestant(what, program, f"in_flight:{many}", count) for what, program in rows.items()]
        costs = take_turns(contestants, bench.pace.exchange_rounds)
        group = Group(f"Exchange over {protocol}, {many} in flight by one thread", "us of CPU", QUEUE, [
            Row(what, [cost.cpu / 1000 for cost in series], exchange_columns(series, costs[QUEUE], QUEUE),
                "ours" if what == QUEUE else "peer")
            for what, series in costs.items()
        ], f"CPU time of the client per exchange on kept connections; server: {place.name}"
           + (", on the same core." if many == 1 else "."))
        bench.groups.append(group)
        if CURL_MULTI in costs and many in IN_FLIGHT_REACH:
            reach = IN_FLIGHT_REACH[many]
            measured = group.ratio(QUEUE, CURL_MULTI)
            bench.target(f"CPU per exchange, {protocol}, {many} in flight, against {CURL_MULTI}",
                         "less than 1 x" if reach == 1 else f"at most {reach} x", measured,
                         measured[0] < 1 if reach == 1 else measured[0] <= reach)


def whose(what: str) -> str:
    """The part of a row's name that its target shows."""
    return what.removeprefix(OURS)


def rate_ratio(one: list[Cost], to: list[Cost]) -> tuple[float, float, float]:
    return middle([other.wall / cost.wall for cost, other in zip(one, to, strict=True)])


def exchange_columns(series: list[Cost], ours: list[Cost], what: str = OURS) -> dict[str, str]:
    return {"exchanges per s": span(middle([1e9 / cost.wall for cost in series])),
            f"rate x {what}": span(rate_ratio(series, ours), 2)}


def connections_opened(place: server.Server, program: Program) -> str:
    """A first step, and how many connections it opened."""
    if not place.status:
        program.measure("8", 160)
        return "not counted"
    before = place.connections()
    program.measure("8", 160)
    return str(place.connections() - before - 1)


@dataclass
class Client:
    """The command that starts it, and its exchanges per step, by number of threads."""

    command: list[object]
    counts: dict[int, int]
    env: dict[str, str] = field(default_factory=dict)


def exchange_clients(bench: Bench) -> dict[str, Client]:
    shop = bench.workshop
    clients = {OURS: Client([shop.compile_c("exchange.c", *shop.link_spike())], COUNTS)}

    def add_go(what: str, build: Callable[[str], Path]) -> None:
        try:
            clients[what] = Client([build("exchange.go")], COUNTS)
        except MissingTool as tool:
            bench.missing.append(str(tool))

    add_go(FROM_GO, shop.build_go_binding)
    clients[FROM_PYTHON] = Client([sys.executable, BENCHES / "bindings" / "exchange.py"], COUNTS, shop.python_binding)
    if shop.has_header("curl/curl.h") and shop.has_header("openssl/evp.h"):
        curl = shop.compile_c("exchange_curl.c", "-lcurl", "-lcrypto")
        bench.versions.append(run(curl, "--versions").split(" zlib")[0])
        clients["libcurl"] = Client([curl], COUNTS)
    else:
        bench.missing.append(NO_LIBCURL)
    add_go("Go net/http", shop.build_go)
    try:
        python = shop.python_with(*PACKAGES)
        listed = run(python, "-m", "pip", "freeze", "--disable-pip-version-check").splitlines()
        bench.versions += [line.replace("==", " ") for line in listed if line.split("==")[0] in PACKAGES]
        for package in PACKAGES:
            clients[f"Python {package}"] = Client([python, BENCHES / "peers" / "exchange.py", package], COUNTS_PYTHON)
    except MissingTool as tool:
        bench.missing.append(str(tool))
    return clients


# --- a crowd of goroutines ---

CROWD, CROWD_USERS = 20_000, 100
SINGLEFLIGHT = "Go singleflight, net/http"


def crowd(bench: Bench) -> None:
    shop, place = bench.workshop, bench.server()
    try:
        commands = {FROM_GO: shop.build_go_binding("exchange.go"),
                    SINGLEFLIGHT: shop.build_go_module("exchange.go", "singleflight.go")}
    except MissingTool as tool:
        bench.missing.append(str(tool))
        return
    for protocol, url, ca_file in [("HTTP", place.http, ""), ("HTTPS", place.https, place.ca_file)]:
        print(f"crowd: {protocol}", file=sys.stderr)
        contestants = [Contestant(what, bench.start(command, url, ca_file), f"crowd:{CROWD_USERS}", CROWD)
                       for what, command in commands.items()]
        for one in contestants:
            one.program.measure(one.name, CROWD)  # opens the connections
        costs = take_turns(contestants, bench.pace.exchange_rounds)
        for one in contestants:
            one.program.end()
        title = f"{CROWD:,} goroutines, tokens of {CROWD_USERS} new users, {protocol}".replace(",", " ", 1)
        group = Group(title, "us of CPU", FROM_GO, [
            Row(what, [cost.cpu / 1000 for cost in series],
                {f"time x {FROM_GO}": span(rate_ratio(costs[FROM_GO], series), 2)},
                "ours" if what == FROM_GO else "peer")
            for what, series in costs.items()
        ], f"CPU time of the client per goroutine, with one exchange per user; server: {place.name}.")
        bench.groups.append(group)
        less = group.ratio(FROM_GO, SINGLEFLIGHT)
        bench.target(f"CPU of {title}, against {SINGLEFLIGHT}", "less than 1 x", less, less[0] < 1)


# --- asyncio tasks ---

# Exchanges per step, by how many tasks make them, and for the peers a part of these: httpx makes a few hundred per s.
TASKS = {1: 300, 32: 3200, 1000: 6000}
PEER_PART = {FROM_PYTHON: 1, "Python aiohttp": 4, "Python httpx": 16}
COLD = 20_000
LATE = 32
LATE_MS = 5
ASYNC = ("aiohttp", "httpx")
# Targets: a multiple of the peer's rate.
TASKS_REACH = {"Python aiohttp": 2, "Python httpx": 10}


def tasks(bench: Bench) -> None:
    shop, place = bench.workshop, bench.server()
    commands: dict[str, list[object]] = {FROM_PYTHON: [sys.executable, BENCHES / "bindings" / "tasks.py"]}
    try:
        python = shop.python_with(*ASYNC)
        commands |= {f"Python {package}": [python, BENCHES / "peers" / "tasks.py", package] for package in ASYNC}
    except MissingTool as tool:
        bench.missing.append(str(tool))
    for protocol, url, ca_file in [("HTTP", place.http, ""), ("HTTPS", place.https, place.ca_file)]:
        programs = {what: bench.start(*command, url, ca_file, **(shop.python_binding if what == FROM_PYTHON else {}))
                    for what, command in commands.items()}
        for many, count in TASKS.items():
            print(f"tasks: {protocol}, {many}", file=sys.stderr)
            contestants = [Contestant(what, program, str(many), max(count // PEER_PART[what], many))
                           for what, program in programs.items()]
            tasks_group(bench, protocol, f"{many} asyncio tasks" if many > 1 else "1 asyncio task",
                        take_turns(contestants, bench.pace.tasks_rounds))
        print(f"tasks: {protocol}, cold users and lateness", file=sys.stderr)
        cold_and_late(bench, protocol, programs)
        for program in programs.values():
            program.end()


def tasks_group(bench: Bench, protocol: str, crowd: str, costs: dict[str, list[Cost]]) -> None:
    bench.groups.append(Group(f"Exchange over {protocol}, {crowd}", "us of CPU", FROM_PYTHON, [
        Row(what, [cost.cpu / 1000 for cost in series], exchange_columns(series, costs[FROM_PYTHON], FROM_PYTHON),
            "ours" if what == FROM_PYTHON else "peer")
        for what, series in costs.items()
    ], f"CPU time of the client per exchange on kept connections; server: {bench.server().name}."))
    for peer, reach in TASKS_REACH.items():
        if peer in costs and "1 asyncio" not in crowd:
            times = rate_ratio(costs[FROM_PYTHON], costs[peer])
            bench.target(f"exchanges per s from Python, {protocol}, {crowd}, against {peer}", f"at least {reach} x",
                         times, times[0] >= reach)


def cold_and_late(bench: Bench, protocol: str, programs: dict[str, Program]) -> None:
    """Only aiohttp beside the binding: httpx would take minutes."""
    rows = {what: program for what, program in programs.items() if what != "Python httpx"}
    costs = take_turns([Contestant(what, program, "cold:1", COLD // PEER_PART[what]) for what, program in rows.items()],
                       bench.pace.tasks_rounds)
    tasks_group(bench, protocol, f"{COLD:,} asyncio tasks at once, each for a new user".replace(",", " ", 1), costs)
    late: dict[str, list[tuple[float, float]]] = {what: [] for what in rows}
    for _ in range(bench.pace.tasks_rounds):
        for what, program in rows.items():
            late[what].append(program.step(f"late:{LATE}", 4 * TASKS[LATE] // PEER_PART[what]))
    bench.groups.append(Group(f"Lateness of the loop over {protocol}, {LATE} asyncio tasks", "ms", FROM_PYTHON, [
        Row(what, [worst / 1e6 for _, worst in series],
            {"median ms": span(middle([half / 1e6 for half, _ in series]), 2)},
            "ours" if what == FROM_PYTHON else "peer")
        for what, series in late.items()
    ], "How late a task that sleeps for 1 ms was, in 99 of 100 cases."))
    taken = middle([worst / 1e6 for _, worst in late[FROM_PYTHON]])
    bench.target(f"lateness of the loop, {protocol}, {LATE} asyncio tasks, ms", f"at most {LATE_MS}", taken,
                 taken[0] <= LATE_MS)


# --- cached tokens ---

# The functions of cache.c.
CACHED = {OURS: "get_token", f"{OURS}, get_authorization": "get_authorization", f"{OURS}, peek_token": "peek_token",
          QUEUE: "queue_token"}
# Targets: ns of CPU per call, by user.
CACHE_REACH = {OURS: {"hot": 150, "random": 2000}, QUEUE: {"hot": 2000}, FROM_GO: {"hot": 300}, FROM_PYTHON: {"hot": 4000}}
ENTRY_REACH = 400  # bytes


@dataclass
class Caches:
    """The programs with cached tokens, each for `users`. The bindings, limited to the library's 64 MiB, cache
    FEW_USERS and are asked only for the hot user."""

    programs: dict[str, Program]
    bindings: dict[str, Program]
    users: int

    @property
    def crowd(self) -> str:
        return f"{self.users:,} users".replace(",", " ")

    def rows(self, which: str) -> dict[str, tuple[Program, str]]:
        """The program of each row, and its function."""
        rows = {what: (self.programs[OURS], function) for what, function in CACHED.items()}
        others = self.bindings | self.programs if which == "hot" else self.programs
        return rows | {what: (program, "get_token") for what, program in others.items() if what != OURS}

    def note(self, *words: str) -> str:
        few = "Fewer users than the million that the targets are for." if self.users == FEW_USERS else ""
        return " ".join(word for word in (*words, few) if word)


def cache(bench: Bench) -> None:
    caches = start_caches(bench)
    fill_caches(bench, caches)
    for which, title in [("hot", "one hot user"), ("random", f"a random one of {caches.crowd}")]:
        print(f"cache: {title}", file=sys.stderr)
        rows = caches.rows(which)
        contestants = [Contestant(f"{what}, {threads}", program, f"{function}:{which}:{threads}")
                       for what, (program, function) in rows.items() for threads in (1, 2)]
        for one in contestants:
            calibrate(one, bench.pace.sign_slice_ns)
        costs = take_turns(contestants, bench.pace.sign_rounds)
        cache_group(bench, caches, list(rows), title, costs)
        for what, reach in CACHE_REACH.items():
            if what in rows and which in reach:
                cache_targets(bench, what, title, reach[which], costs)
    for program in [*caches.programs.values(), *caches.bindings.values()]:
        program.end()


def start_caches(bench: Bench) -> Caches:
    shop, place = bench.workshop, bench.server()
    users = bench.pace.users if place.status else FEW_USERS  # the sandbox would take too long
    ids = cache_ids(shop.directory, users)
    programs = {OURS: bench.start(shop.compile_c("cache.c", *shop.link_spike()), place.http, ids)}
    try:
        programs["Go map, RWMutex"] = bench.start(shop.build_go("cache.go"), ids, server.TOKEN)
    except MissingTool as tool:
        bench.missing.append(str(tool))
    programs["Python dict"] = bench.start(sys.executable, BENCHES / "peers" / "cache.py", ids, server.TOKEN)
    bindings: dict[str, Program] = {}
    try:
        bindings[FROM_GO] = bench.start(shop.build_go_binding("cache.go"), ids, place.http)
    except MissingTool as tool:
        bench.missing.append(str(tool))
    bindings[FROM_PYTHON] = bench.start(sys.executable, BENCHES / "bindings" / "cache.py", ids, place.http,
                                        **shop.python_binding)
    return Caches(programs, bindings, users)


def cache_ids(directory: Path, users: int) -> Path:
    """All user ids, 23 bytes each, in an order unrelated to the one in which they are stored."""
    order = list(range(users))
    random.Random(1).shuffle(order)
    path = directory / "ids"
    path.write_text("".join(f"my_application_u{number:07}" for number in order))
    return path


def fill_caches(bench: Bench, caches: Caches) -> None:
    rows = []
    for what, program in caches.programs.items():
        print(f"cache: filling {what}", file=sys.stderr)
        program.step("fill", 0)
        before = program.private_memory()
        _, took = program.step("fill", caches.users)
        added = program.private_memory() - before
        rows.append(Row(what, [added / caches.users], kind="ours" if what.startswith(OURS) else "peer"))
        if what == OURS:
            seconds = took / 1e9
            stated, entries = program.step("stats", 0)
            rows.append(Row(f"{OURS}, by its statistics", [stated / entries], kind="note"))
    for program in caches.bindings.values():
        program.step("fill", FEW_USERS)
    bench.groups.append(Group(
        "Memory of a cached token", "bytes per entry", OURS, rows,
        caches.note(f"Private memory for the tokens of {caches.crowd}. The library fetched them by as many "
                     f"exchanges in {seconds:.0f} s; server: {bench.server().name}.")))
    taken = rows[0].values[0]
    bench.target(f"cached token, bytes per entry, {caches.crowd}", f"at most {ENTRY_REACH}", (taken, taken, taken),
                 taken <= ENTRY_REACH)


def cache_group(bench: Bench, caches: Caches, names: list[str], title: str, costs: dict[str, list[Cost]]) -> None:
    rows = []
    for what in names:
        one, two = costs[f"{what}, 1"], costs[f"{what}, 2"]
        more = {"ns of CPU, 2 threads": span(middle([cost.cpu for cost in two])),
                "rate, 2 threads / 1": span(rate_of_two(one, two), 2)}
        rows.append(Row(what, [cost.cpu for cost in one], more, "ours" if what.startswith(OURS) else "peer"))
    bench.groups.append(Group(f"Cached token of {title}", "ns of CPU", OURS, rows,
                              caches.note("CPU time per call.")))


def cache_targets(bench: Bench, what: str, title: str, reach: int, costs: dict[str, list[Cost]]) -> None:
    one, two = costs[f"{what}, 1"], costs[f"{what}, 2"]
    name = f"cached token of {title}{whose(what)}"
    taken, rate = middle([cost.cpu for cost in one]), rate_of_two(one, two)
    bench.target(f"{name}, ns of CPU", f"at most {reach}", taken, taken[0] <= reach)
    if what == OURS:
        bench.target(f"{name}, rate of 2 threads, against 1", "nearly 2 x (1.8)", rate, rate[0] >= 1.8)


def rate_of_two(one: list[Cost], two: list[Cost]) -> tuple[float, float, float]:
    return middle([alone.wall / both.wall for alone, both in zip(one, two, strict=True)])


def middle(figures: list[float]) -> tuple[float, float, float]:
    return median(figures), min(figures), max(figures)


# --- the library itself ---

LIBCURL = "libcurl and its TLS"
FACTS = [  # the figure of load.c, its title, its unit, and the factor to that unit
    ("dlopen_ns", "Time of dlopen", "us", 1e-3),
    ("resident_after_load", "Resident memory after loading", "KiB", 1.0),
    ("written_after_load", "Private memory after loading", "KiB", 1.0),
    ("first_exchange_ns", "First exchange over HTTPS, local server", "us", 1e-3),
    ("resident_after_exchange", "Resident memory after one exchange over HTTPS", "KiB", 1.0),
    ("written_after_exchange", "Private memory after one exchange over HTTPS", "KiB", 1.0),
]


def library(bench: Bench) -> None:
    shop, place = bench.workshop, bench.server()
    has_curl = shop.has_header("curl/curl.h")
    loader = shop.compile_c("load.c", *(["-DHAVE_CURL"] if has_curl else []))
    kinds = {OURS: ["spike", shop.library]}
    if has_curl:
        kinds[LIBCURL] = ["curl", "libcurl.so.4"]
    else:
        bench.missing.append(NO_LIBCURL)
    figures: dict[str, list[dict[str, float]]] = {what: [] for what in kinds}
    objects: dict[str, list[Path]] = {}
    for _ in range(bench.pace.library_rounds):
        for what, command in kinds.items():
            lines = [line.split(maxsplit=1) for line in run(loader, *command, place.https, place.ca_file).splitlines()]
            objects[what] = [Path(value) for name, value in lines if name == "object"]
            figures[what].append({name: float(value) for name, value in lines if name != "object"})

    sizes(bench, shop.library, objects.get(LIBCURL, []))
    for name, title, unit, factor in FACTS:
        rows = [Row(what, [one[name] * factor for one in series], kind="ours" if what == OURS else "peer")
                for what, series in figures.items()]
        bench.groups.append(Group(title, unit, OURS, rows))


def sizes(bench: Bench, ours: Path, curl_libraries: list[Path]) -> None:
    """The stripped sizes of the files."""
    strip = need("strip", "apt-get install binutils")

    def stripped(path: Path) -> float:
        copy = bench.workshop.directory / "stripped"
        run(strip, "-o", copy, path.resolve())
        return copy.stat().st_size / 1e6

    rows = [Row(OURS, [stripped(ours)], kind="ours")]
    three = [path for path in curl_libraries if path.name.startswith(("libcurl.", "libssl.", "libcrypto."))]
    if three:
        named = " + ".join(path.name.split(".so")[0] for path in three)
        rows += [Row(named, [sum(map(stripped, three))]),
                 Row(f"all {len(curl_libraries)} libraries that libcurl loads", [sum(map(stripped, curl_libraries))],
                     kind="note")]
    group = Group("Stripped size", "MB", OURS, rows)
    bench.groups.append(group)
    if three:
        part = group.ratio(OURS, named)
        bench.target(f"stripped size, against {named}", "less than 1 x", part, part[0] < 1)


# --- pending calls ---

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


BENCHES_BY_NAME = {
    "sign": sign,
    "exchange": exchange,
    "tasks": tasks,
    "crowd": crowd,
    "cache": cache,
    "pending": pending,
    "store": lambda bench: store.measure(bench, take_turns, Contestant),
    "library": library,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", nargs="?", choices=[*BENCHES_BY_NAME, "all"], default="all")
    parser.add_argument("--lib-dir", type=Path, default=ROOT / "target" / "release", help="where libspike_auth.so is")
    parser.add_argument("--out", type=Path, default=ROOT / "target" / "bench" / "results.md",
                        help="the table; the picture is written beside it as .svg")
    parser.add_argument("--quick", action="store_true", help="few rounds: checks that it works, measures badly")
    args = parser.parse_args()
    if not shutil.which(CC):
        raise SystemExit(f"There is no C compiler {CC}. Install it with: apt-get install gcc")
    if not shutil.which(CARGO):
        raise SystemExit(f"There is no {CARGO}, which builds the limit. Install Rust from https://rustup.rs")

    # For a thousand connections; the programs inherit it.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="spike-auth-bench-") as directory, ExitStack() as stack:
        bench = Bench(Workshop(Path(directory), args.lib_dir.resolve()), Pace(args.quick), stack)
        for name, measure in BENCHES_BY_NAME.items():
            if args.what in (name, "all"):
                print(f"{name}: building", file=sys.stderr)
                measure(bench)
    missing = list(dict.fromkeys(bench.missing))
    report = Report(machine.describe(list(dict.fromkeys(bench.versions))), bench.groups, bench.targets, missing)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(report.markdown())
    picture = args.out.with_suffix(".svg")
    picture.write_text(svg(report))
    print(report.markdown())
    print(f"Written to {args.out} and {picture}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
