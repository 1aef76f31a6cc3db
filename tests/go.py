"""Runs the suite of the Go binding with each installed Go, in every build, and with strict checks."""

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from support.project import ROOT, clean_env

BINDING = ROOT / "bindings" / "go"
# A module of its own, because it needs modules of others. They are downloaded when it runs.
INTEGRATION = BINDING / "integration"
# `make gos` puts them there.
FROM_PYPI = ROOT / ".venv" / "go"
ALWAYS = ["test", "-count=1", "-shuffle=on", "-timeout=5m", "-v"]
# A user could have set these. A build sets those that it needs.
OF_USERS = {"CGO_CFLAGS", "CGO_ENABLED", "CGO_LDFLAGS", "GOARCH", "GODEBUG", "GOEXPERIMENT", "GOGC", "GOMAXPROCS",
            "GOMEMLIMIT", "GOOS", "GORACE", "GOROOT"}


@dataclass
class Build:
    title: str
    arguments: list[str]
    env: dict[str, str] = field(default_factory=dict)
    module: Path = BINDING


PLAIN = Build("as users build it", [])
# With the oldest Go and the newest. The library is installed, and linked by a module of a user's, once for each Go.
LATER = "-skip=TestVendoredModule"
AT_THE_ENDS = [
    Build("race detector", ["-race"]),
    Build("no cgo", [], {"CGO_ENABLED": "0"}),
    Build("with the modules of others", ["-race"], {"GOPROXY": os.environ.get("GOPROXY", "")}, INTEGRATION),
]
# With the newest.
MORE = [
    Build("the archive", [LATER, "-tags=spikeauth_static"]),
    Build("cgo's strictest checks, always collecting", [LATER], {"GOEXPERIMENT": "cgocheck2", "GOGC": "1"}),
]


def toolchains() -> dict[str, Path]:
    """The `go` programs by version: the oldest supported one, the newest, and the one that make uses."""
    found = {}
    for go in [*FROM_PYPI.glob("*/go/bin/go"), Path(os.environ["GO"])]:
        done = subprocess.run([go, "env", "GOVERSION"], env=env_of(go, {}), cwd=BINDING, capture_output=True, text=True,
                              check=True)
        version = done.stdout.strip()
        found[version] = go
    return dict(sorted(found.items(), key=lambda item: [int(number) for number in re.findall(r"\d+", item[0])]))


def env_of(go: Path, more: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in clean_env().items() if name not in OF_USERS}
    path = f"{go.parent}{os.pathsep}{kept['PATH']}"
    return kept | {"PATH": path, "PKG_CONFIG_PATH": str(ROOT / "target" / "go"), "GOTOOLCHAIN": "local",
                   "GOFLAGS": "", "GOWORK": "off", "GOPROXY": "off"} | more


def test(go: Path, build: Build, more: list[str]) -> Counter[str]:
    """How many tests and examples passed, failed and were skipped."""
    done = subprocess.run([go, *ALWAYS, *build.arguments, *more, "./..."], cwd=build.module,
                          env=env_of(go, build.env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    found = Counter(re.findall(r"(?m)^--- (PASS|FAIL|SKIP): ", done.stdout))
    if done.returncode != 0:
        print(done.stdout)
        found["FAIL"] = max(found["FAIL"], 1)
    elif found["SKIP"]:
        print("\n".join(re.findall(r"(?m)^--- SKIP: .*\n.*", done.stdout)))
    return found


def runs(once: bool) -> list[tuple[str, Path, Build]]:
    """Which Go makes which build; `once` is the Go that make uses, with the build that users make."""
    if once:
        return [("the Go that make uses", Path(os.environ["GO"]), PLAIN)]
    versions = toolchains()
    oldest, *_, newest = versions
    found = []
    for version, go in versions.items():
        builds = AT_THE_ENDS if version in (oldest, newest) else [PLAIN]
        found += [(version, go, build) for build in builds + (MORE if version == newest else [])]
    return found


def main() -> int:
    total: Counter[str] = Counter()
    chosen = runs(once="--once" in sys.argv)
    for version, go, build in chosen:
        print(f"--- {version}, {build.title}", flush=True)
        total += test(go, build, [argument for argument in sys.argv[1:] if argument != "--once"])
    print("Run with", ", ".join(dict.fromkeys(version for version, _, _ in chosen)))
    print(f"{total['PASS']} passed, {total['FAIL']} failed, {total['SKIP']} skipped")
    if not total["PASS"]:
        print("No test ran: does -run name one?")
    return 1 if total["FAIL"] or not total["PASS"] else 0


if __name__ == "__main__":
    sys.exit(main())
