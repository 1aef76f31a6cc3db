"""The library itself: sizes, loading and memory."""

from __future__ import annotations

from pathlib import Path

from bench import NO_LIBCURL, Bench
from programs import need, run
from report import OURS, Group, Row

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
