"""asyncio tasks."""

from __future__ import annotations

import sys

from bench import FROM_PYTHON, Bench, Contestant, exchange_columns, middle, rate_ratio, take_turns
from programs import BENCHES, Cost, MissingTool, Program
from report import Group, Row, span

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
