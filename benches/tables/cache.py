"""Cached tokens."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from pathlib import Path

import server
from bench import FEW_USERS, FROM_GO, FROM_PYTHON, QUEUE, Bench, Contestant, calibrate, middle, take_turns, whose
from programs import BENCHES, Cost, MissingTool, Program
from report import OURS, Group, Row, span

# The functions of cache.c.
CACHED = {OURS: "get_token", f"{OURS}, get_authorization": "get_authorization", f"{OURS}, peek_token": "peek_token",
          QUEUE: "queue_token"}
# Targets: ns of CPU per call, by user.
CACHE_REACH = {OURS: {"hot": 150, "random": 2000}, QUEUE: {"hot": 2000}, FROM_GO: {"hot": 300},
               FROM_PYTHON: {"hot": 4000}}
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
