"""Signing one user id."""

from __future__ import annotations

import sys
from collections.abc import Callable
from statistics import median

from bench import FROM_GO, FROM_PYTHON, Bench, Contestant, calibrate, take_turns
from programs import BENCHES, Cost, Program, need, run
from report import OURS, Group, Row, span

LIMIT = "limit: two compressions"
LIMIT_OF_EIGHT = "limit, eight side by side"
BULK = f"{OURS}, bulk, per id"
ONCE = f"{OURS}, key in every call"
FROM_GO_STRING = f"{FROM_GO}, SignUser"
FROM_GO_BUFFER = f"{FROM_GO}, AppendSignature"
FROM_PYTHON_ONE = f"{FROM_PYTHON}, sign"
FROM_PYTHON_BULK = {ids: f"{FROM_PYTHON}, sign_many of {ids}, per id" for ids in (1000, 100, 100_000)}
GO_DOCUMENTED = "Go crypto/hmac, as documented"
PYTHON_DOCUMENTED = "Python hmac, as documented"


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
