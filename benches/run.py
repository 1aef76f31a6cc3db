#!/usr/bin/env python3
"""Measures the library against its peers and against the limit: `python3 benches/run.py --help`.

Builds what it needs in a temporary directory, measures all rows of a table in turns, and writes a table and a picture.
No figure makes it fail. benches/README.md says how to read the result.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import machine
from bench import Bench, Pace
from programs import CARGO, CC, ROOT, Workshop
from report import Report, svg
from tables import cache, columns, crowd, exchange, library, pending, sign, store, tasks

BENCHES_BY_NAME = {
    "sign": sign.sign,
    "exchange": exchange.exchange,
    "tasks": tasks.tasks,
    "crowd": crowd.crowd,
    "cache": cache.cache,
    "pending": pending.pending,
    "store": store.store,
    "columns": columns.columns,
    "library": library.library,
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
