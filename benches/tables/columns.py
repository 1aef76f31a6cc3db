"""Columns of user ids."""

from __future__ import annotations

import server
from bench import FROM_PYTHON, Bench, Contestant, exchange_columns, middle, rate_ratio, take_turns
from programs import BENCHES, ROOT, MissingTool
from report import OURS, Group, Row

ROWS = 10_000
BULK = f"{OURS}, bulk, per id"
SIGN = {kind: f"{FROM_PYTHON}, arrow.sign of {kind}" for kind in ("large_string", "string", "string_view")}
DOCUMENTED = "Python hmac, as documented"
THREADS = f"{FROM_PYTHON}, token in 8 threads"
PROVISION = {many: f"{FROM_PYTHON}, arrow.provision, {many} at once" for many in (8, 32, 128)}
USERS, SLOW_USERS, SLOW_RATE = 8_000, 10_240, 4_000


def columns(bench: Bench) -> None:
    shop = bench.workshop
    try:
        python = shop.python_with("pyarrow")
    except MissingTool as tool:
        bench.missing.append(str(tool))
        return
    sandbox = ROOT / "target" / "debug" / "spike-auth-sandbox"
    if sandbox.exists():
        slow = bench.stack.enter_context(server.start_sandbox(sandbox, "--delay-ms", "100")).http
    else:
        slow = ""
        bench.missing.append("the sandbox, which is the server with 100 ms (make sandbox)")
    command = [python, BENCHES / "bindings" / "columns.py", bench.server().http, slow]
    program = bench.start(*command, **shop.python_binding)

    signing = {BULK: ("bulk", 10), **{what: (kind, 10) for kind, what in SIGN.items()}, DOCUMENTED: ("documented", 1)}
    costs = take_turns([Contestant(what, program, name, times * ROWS) for what, (name, times) in signing.items()],
                       bench.pace.sign_rounds)
    group = Group(f"Signing a column of {ROWS:,} ids".replace(",", " "), "ns of CPU", BULK, [
        Row(what, [cost.cpu for cost in series], kind="peer" if what == DOCUMENTED else "ours")
        for what, series in costs.items()
    ], "CPU time per id.")
    bench.groups.append(group)
    for kind, what in SIGN.items():
        to_bulk, faster = group.ratio(what), group.ratio(DOCUMENTED, what)
        bench.target(f"arrow.sign of {kind}, against the bulk call", "at most 1.3 x", to_bulk, to_bulk[0] <= 1.3)
        bench.target(f"arrow.sign of {kind}, times faster than as documented", "at least 12 x", faster,
                     faster[0] >= 12)

    asking = {THREADS: "threads", **{what: f"provision.{many}" for many, what in PROVISION.items()}}
    costs = take_turns([Contestant(what, program, name, USERS) for what, name in asking.items()],
                       bench.pace.tasks_rounds)
    bench.groups.append(Group("Token of a new user of a column", "us of CPU", THREADS, [
        Row(what, [cost.cpu / 1000 for cost in series], exchange_columns(series, costs[THREADS], THREADS), "ours")
        for what, series in costs.items()
    ], f"CPU time of the client per user; server: {bench.server().name}."))
    rates = rate_ratio(costs[PROVISION[32]], costs[THREADS])
    bench.target("arrow.provision, 32 at once, rate against 8 threads", "at least 1 x", rates, rates[0] >= 1)
    if slow:
        rounds = [program.measure("slow", SLOW_USERS) for _ in range(bench.pace.tasks_rounds)]
        per_second = middle([1e9 / cost.wall for cost in rounds])
        bench.target("arrow.provision, 512 at once, a server with 100 ms, users per s", f"at least {SLOW_RATE}",
                     per_second, per_second[0] >= SLOW_RATE)
    program.end()
