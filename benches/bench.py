"""What the benchmarks share: the pace, the contestants and their turns, and columns of several tables."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

import server
from programs import ROOT, Cost, MissingTool, Program, Workshop
from report import OURS, Group, Target, span

# Rows of several tables: those of the bindings, and of the library's queue of started calls.
FROM_GO = f"{OURS} from Go"
FROM_PYTHON = f"{OURS} from Python"
QUEUE = f"{OURS}, queue"

NO_LIBCURL = "libcurl (apt-get install libcurl4-openssl-dev libssl-dev)"

SIGN_STEP = 4096  # counts of signatures are multiples of this, so that bulk calls are whole
FEW_USERS = 20_000


@dataclass
class Pace:
    """How much is measured. Quick only checks that the benchmarks work."""

    quick: bool

    @property
    def sign_rounds(self) -> int:
        return 9 if self.quick else 41

    @property
    def sign_slice_ns(self) -> float:
        return 8e6 if self.quick else 20e6

    @property
    def exchange_rounds(self) -> int:
        return 3 if self.quick else 31

    @property
    def tasks_rounds(self) -> int:
        return 3 if self.quick else 7

    @property
    def users(self) -> int:
        """Users with a cached token."""
        return FEW_USERS if self.quick else 1_000_000

    @property
    def library_rounds(self) -> int:
        return 5 if self.quick else 21

    @property
    def pending_rounds(self) -> int:
        return 1 if self.quick else 7


@dataclass
class Contestant:
    what: str
    program: Program
    name: str
    count: int = SIGN_STEP
    unit: int = SIGN_STEP  # counts are multiples of it


class Bench:
    """What the benchmarks share, and their results for the report."""

    def __init__(self, workshop: Workshop, pace: Pace, stack: ExitStack) -> None:
        self.workshop = workshop
        self.pace = pace
        self.stack = stack
        self.groups: list[Group] = []
        self.targets: list[Target] = []
        self.missing: list[str] = []
        self.versions: list[str] = []
        self._server: server.Server | None = None

    def start(self, *command: object, **env: str) -> Program:
        program = Program(*command, **env)
        self.stack.callback(program.end)
        return program

    def optional(self, make: Callable[[], list[Contestant]]) -> list[Contestant]:
        """The contestants that `make` returns, or none and a note of what is missing."""
        try:
            return make()
        except MissingTool as tool:
            self.missing.append(str(tool))
            print(f"missing: {tool}", file=sys.stderr)
            return []

    def take_header(self, header: str, define: str, library: str, package: str) -> list[str]:
        """The flags for an optional C library."""
        if self.workshop.has_header(header):
            return [f"-D{define}", f"-l{library}"]
        self.missing.append(f"{package} (apt-get install {package})")
        return []

    def server(self) -> server.Server:
        if self._server is None:
            directory = self.workshop.directory / "server"
            directory.mkdir()
            self._server = self.stack.enter_context(server.start(directory, ROOT, self.missing))
            self.versions.append(self._server.name)
        return self._server

    def target(self, what: str, reach: str, measured: tuple[float, float, float], reached: bool) -> None:
        self.targets.append(Target(what, reach, measured, reached))


def take_turns(contestants: list[Contestant], rounds: int) -> dict[str, list[Cost]]:
    """Measures all of them in each round, in an order that changes, so that none always follows the same one."""
    costs: dict[str, list[Cost]] = {one.what: [] for one in contestants}
    order = random.Random(1)
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for one in order.sample(contestants, len(contestants)):
            costs[one.what].append(one.program.measure(one.name, one.count))
    progress("")
    return costs


def calibrate(one: Contestant, slice_ns: float) -> None:
    """Sets the count so that a step takes about `slice_ns`."""
    one.program.measure(one.name, one.unit)
    cost = one.program.measure(one.name, one.unit)
    one.count = max(1, math.ceil(slice_ns / max(cost.wall, 1) / one.unit)) * one.unit


def progress(words: str) -> None:
    """One line that is overwritten, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{words}", end="", file=sys.stderr, flush=True)


# --- what the rows of several tables show ---


def whose(what: str) -> str:
    """The part of a row's name that its target shows."""
    return what.removeprefix(OURS)


def rate_ratio(one: list[Cost], to: list[Cost]) -> tuple[float, float, float]:
    return middle([other.wall / cost.wall for cost, other in zip(one, to, strict=True)])


def exchange_columns(series: list[Cost], ours: list[Cost], what: str = OURS) -> dict[str, str]:
    return {"exchanges per s": span(middle([1e9 / cost.wall for cost in series])),
            f"rate x {what}": span(rate_ratio(series, ours), 2)}


def middle(figures: list[float]) -> tuple[float, float, float]:
    return median(figures), min(figures), max(figures)
