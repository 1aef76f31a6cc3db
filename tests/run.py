"""`make test`: runs every suite in turn and ends with one summary.

With `--parts`, a quick part of most suites. The last suite runs them under the harsh conditions of
support/surroundings.py.
"""

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace

from support.project import RELEASE, ROOT, SANDBOX, clean_env
from support.surroundings import harshly

CARGO = os.environ.get("CARGO", "cargo")
PANIC = ROOT / "target" / "test-panic"


@dataclass
class Suite:
    name: str
    command: list[object]
    # Finds passed, failed and skipped in the output, in any number of matches.
    counts: str
    # Arguments for a quick part: the one that depends most on how it is started; None for no part.
    part: list[str] | None = None


RUST = r"(?P<passed>\d+) passed; (?P<failed>\d+) failed; (?P<skipped>\d+) ignored"
PYTHON = r"Ran (?P<ran>\d+) tests? in .*\n\n(?:OK|FAILED)(?P<detail>.*)"
PYTEST = r"(?m)^(?:(?P<failed>\d+) failed, )?(?P<passed>\d+) passed(?:, (?P<skipped>\d+) skipped)?(?:, .*)? in .*s.*$"
PLAIN = r"(?m)^(?P<passed>\d+) passed, (?P<failed>\d+) failed, (?P<skipped>\d+) skipped$"
LAST = PLAIN.removeprefix("(?m)^").removesuffix("$") + r"\n\Z"

SUITES = [
    Suite(
        "rust",
        [CARGO, "test", "--locked", "--workspace"],
        RUST,
        ["--test", "process", "--test", "listeners", "--test", "cancel", "--test", "retry"],
    ),
    Suite(
        "loom",
        [CARGO, "test", "--locked", "--release", "--manifest-path", "tests/loom/Cargo.toml",
         "--target-dir", ROOT / "target" / "loom"],
        RUST,
    ),
    Suite(
        "build with a panic in it",
        [CARGO, "rustc", "--release", "--locked", "--lib", "--crate-type", "cdylib", "--features", "test-panic",
         "--target-dir", PANIC],
        "",
    ),
    Suite(
        "c and c++",
        [sys.executable, "tests/c/run.py", "--lib-dir", RELEASE, "--panic-lib-dir", PANIC / "release",
         "--sandbox", SANDBOX],
        PLAIN,
        ["cache_fork (shared)", "process (shared)", "environment", "header (gcc"],
    ),
    *(
        Suite(name, [sys.executable, "-m", "unittest", "-v", f"tests/{file}.py"], PYTHON, part)
        for name, file, part in [
            ("setup", "test_setup", None),
            ("languages", "test_languages", []),
            ("tls", "test_tls", []),
            ("proxy", "test_proxy", []),
            ("secrets", "test_secrets", None),
            ("dumps", "test_dumps", ["-k", "no_key"]),
            ("artifact", "test_artifact", []),
            ("install", "test_install", []),
            ("notices", "test_notices", []),
            ("wheel", "test_wheel", None),
            ("readme", "test_readme", []),
            ("migrate", "test_migrate", ["-k", "python", "-k", "php"]),
            ("keys", "test_keys", []),
            ("surroundings", "test_surroundings", []),
        ]
    ),
    # In the environment that has another server and another implementation of the cryptography.
    *(
        Suite(name, [ROOT / ".venv" / "bin" / "python", "-m", "unittest", "-v", f"tests/test_{name}.py"], PYTHON, part)
        for name, part in [("store", ["-k", "OtherCryptography"]), ("sharing", [])]
    ),
    Suite("doctor", [sys.executable, "-m", "unittest", "discover", "-v", "-s", "tests/doctor", "-t", "tests"], PYTHON,
          ["-k", "key", "-k", "Surroundings"]),
    Suite("python", [sys.executable, "tests/python.py"], PYTEST,
          ["--once", "-k", "ctrl_c or signal or multiprocessing or fastapi_makes"]),
    Suite("columns", [sys.executable, "-m", "unittest", "-v", "tests/columns/test_recipes.py"], PYTHON, ["-k", "sign"]),
    Suite("doubles", [sys.executable, "-m", "unittest", "-v", "tests/doubles/test_doubles.py"], PYTHON, ["-k", "starts"]),
    Suite("servers", [sys.executable, "tests/servers/run.py"], PLAIN, ["patched", "nested"]),
    Suite("go", [sys.executable, "tests/go.py"], PLAIN, ["--once", "-run=Program$|TestCancel|TestWaitingCalls"]),
    Suite("demo", [sys.executable, "tests/demo.py"], "", []),
]


def count(suite: Suite, output: str, failed: bool) -> tuple[int, int, int]:
    """Passed, failed, skipped. A suite without counts counts as one test."""
    passed = bad = skipped = 0
    for match in re.finditer(suite.counts, output) if suite.counts else []:
        found = match.groupdict()
        if "ran" in found:
            detail = dict(re.findall(r"(failures|errors|skipped)=(\d+)", found["detail"]))
            skips = int(detail.get("skipped", 0))
            faults = int(detail.get("failures", 0)) + int(detail.get("errors", 0))
            found = {"passed": int(found["ran"]) - skips - faults, "failed": faults, "skipped": skips}
        passed, bad, skipped = (total + int(found[key] or 0) for total, key in
                                ((passed, "passed"), (bad, "failed"), (skipped, "skipped")))
    if passed + bad + skipped == 0:
        return (0, 1, 0) if failed else (1, 0, 0)
    return passed, max(bad, int(failed)), skipped


def rust_threads() -> int:
    """How many tests of a Rust program may run at once. They share its descriptors; the largest test needs 200."""
    return max(1, min(len(os.sched_getaffinity(0)), resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 200))


def run(suite: Suite) -> tuple[int, int, int]:
    print(f"\n=== {suite.name}", flush=True)
    env = clean_env(PYTHONPATH=str(ROOT / "tests"), PYTHONDONTWRITEBYTECODE="1", RUST_TEST_THREADS=str(rust_threads()))
    process = subprocess.Popen([str(part) for part in suite.command], cwd=ROOT, env=env, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = []
    for line in process.stdout:
        lines.append(line)
        print(line, end="", flush=True)
    return count(suite, "".join(lines), process.wait() != 0)


def summary(rows: list[tuple]) -> int:
    print(f"\n{'suite':<28}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for name, passed, failed, skipped, seconds in rows:
        print(f"{name:<28}{passed:>8}{failed:>8}{skipped:>9}{seconds:>9.0f}")
    passed, failed, skipped = (sum(row[column] for row in rows) for column in (1, 2, 3))
    if skipped and os.environ.get("CI"):
        print("In CI a skipped test is a failure: make setup installs what is missing.")
        failed += skipped
        skipped = 0
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def parts() -> list[Suite]:
    return [replace(suite, command=[*suite.command, *suite.part]) for suite in SUITES if suite.part is not None]


def main() -> int:
    # Longer than a socket's path may be.
    with tempfile.TemporaryDirectory(prefix="spike_auth-" + "long-" * 24) as folder:
        harsh = Suite("parts, started harshly", harshly(folder, sys.executable, "tests/run.py", "--parts"), LAST)
        rows = []
        for suite in parts() if "--parts" in sys.argv else [*SUITES, harsh]:
            start = time.monotonic()
            rows.append((suite.name, *run(suite), time.monotonic() - start))
    return summary(rows)


if __name__ == "__main__":
    sys.exit(main())
