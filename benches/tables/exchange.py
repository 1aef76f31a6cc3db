"""Exchanges: by threads that wait, and in flight by one thread."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import server
from bench import (
    FROM_GO,
    FROM_PYTHON,
    NO_LIBCURL,
    QUEUE,
    Bench,
    Contestant,
    exchange_columns,
    rate_ratio,
    take_turns,
    whose,
)
from programs import BENCHES, Cost, MissingTool, Program, pin, run
from report import OURS, Group, Row

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
CURL_MULTI = "libcurl multi"


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
