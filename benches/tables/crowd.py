"""A crowd of goroutines."""

from __future__ import annotations

import sys

from bench import FROM_GO, Bench, Contestant, rate_ratio, take_turns
from programs import MissingTool
from report import Group, Row, span

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
