"""``python -m spike_auth provision FILE``: the tokens of all users of a file."""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from time import monotonic

from .._client import Client
from .._errors import InvalidInput, SpikeAuthError
from .._provision import Outcome, Window
from .display import Display, display, say, silence_stdout
from .inputs import Input, InputError, open_input
from .signals import Signals, Stopped
from .state import BLOCK, OtherInput, State, StateError, is_same_file
from .tally import Tally

# Calls under way get so long when the command stops.
_GRACE_SECONDS = 2.0
_STORE_VARIABLES = ("SPIKE_STORE_URL", "SPIKE_STORE_URL_FILE")


@dataclass(frozen=True)
class Options:
    """The arguments of the command."""

    file: str
    format: str | None
    column: str | None
    rate: int | None
    concurrency: int
    timeout: float | None
    resume: str | None


def run(options: Options, arguments: list[str]) -> int:
    """Run the command and return its exit code. `arguments` are those that would run it again."""
    if options.resume and is_same_file(options.resume, options.file):
        say("--resume names the input itself. Name another file, which the command may write")
        return 2
    try:
        client = Client.from_env(max_rate=options.rate, max_concurrency=options.concurrency, timeout=options.timeout)
    except InvalidInput as error:  # of an argument; that of a variable is a ConfigurationError
        say(str(error))
        return 2
    signals = Signals()
    try:
        with client, signals.handled(), ExitStack() as stack:
            with signals.end_reads():
                source = stack.enter_context(open_input(options.file, options.format, options.column))
            state = stack.enter_context(closing(State(options.resume))) if options.resume else None
            _check_store(client)
            job = _Job(client, source, state, signals)
            job.run(options.concurrency)
            return job.end(_how_to_go_on(options, arguments))
    except Stopped:
        return 128 + (signals.received or 0)
    except (InputError, StateError) as error:  # nothing was begun
        say(str(error))
        return 1


def _check_store(client: Client) -> None:
    if any(map(os.environ.get, _STORE_VARIABLES)):
        client.check_store()
    else:
        say(f"no store is set ({_STORE_VARIABLES[0]}): the tokens end with this command")


def _how_to_go_on(options: Options, arguments: list[str]) -> str:
    if not options.resume:
        return "The next run begins at the first row. With --resume STATE it would go on here."
    return f"Go on with: {shlex.join([Path(sys.executable).name, '-m', 'spike_auth', *arguments])}"


class _Job:
    """One run through the input."""

    def __init__(self, client: Client, source: Input, state: State | None, signals: Signals) -> None:
        self._client, self._source, self._state, self._signals = client, source, state, signals
        self._tally = Tally()
        self._rows = 0
        self._display: Display | None = display()
        self._failure, self._can_go_on = "", True
        self._window: Window | None = None

    def run(self, concurrency: int) -> None:
        """Get the tokens until the input ends, or something stops it."""
        window = self._window = Window(self._client, self._users(), concurrency=concurrency)
        try:
            with closing(window.outcomes()) as batches:
                self._follow(window, batches)
        except KeyboardInterrupt:  # a second Ctrl-C
            pass
        except SpikeAuthError as error:  # nobody's own, such as that of a client without a key
            self._failure = str(error)

    def _follow(self, window: Window, batches: Iterator[list[Outcome]]) -> None:
        ends_at = math.inf
        for batch in batches:
            self._note(batch)
            self._show()
            if ends_at == math.inf and (self._failure or self._signals.received):
                window.stop()
                ends_at = monotonic() + _GRACE_SECONDS
            if monotonic() > ends_at:
                break

    def end(self, how_to_go_on: str) -> int:
        """Show the result and return the exit code."""
        signal = self._signals.received
        how = "interrupted" if signal else "stopped" if self._failure else "complete"
        self._write(lambda screen: screen.end(self._tally, how))
        if self._failure:
            say(self._failure)
        if (signal or self._failure) and self._can_go_on:
            say(how_to_go_on)
        return 128 + signal if signal else int(bool(self._failure or self._tally.failed))

    def _users(self) -> Iterator[tuple[int, bytes]]:
        try:
            for block in count():
                with self._signals.end_reads():
                    ids = [*islice(self._source.rows, BLOCK)]
                for row in self._admit(block, ids):
                    yield block * BLOCK + row, ids[row]
                if len(ids) < BLOCK:
                    return
                self._show()  # while all rows are done, nothing else does
        except Stopped:
            pass
        except (InputError, StateError) as error:  # those under way go on
            self._failure, self._can_go_on = str(error), not isinstance(error, OtherInput)

    def _admit(self, block: int, ids: list[bytes]) -> list[int]:
        users = [row for row, user in enumerate(ids) if user]
        rows = self._state.admit(block, ids) if self._state else users
        self._rows += len(ids)
        self._tally.blank += len(ids) - len(users)
        self._tally.done_before += len(users) - len(rows)
        if self._state and len(ids) < BLOCK:
            self._state.end_at(block * BLOCK + len(ids))
        return rows

    def _note(self, batch: list[Outcome]) -> None:
        for position, error, _ in batch:
            self._tally.add(position + 1, error)
            if self._state:
                self._state.note(position, is_done=error is None)
        if reason := self._tally.reason_to_stop():
            self._failure = self._failure or f"stopped: {reason}"
        if self._state:
            try:
                self._state.flush()
            except StateError as error:
                self._failure = self._failure or str(error)

    def _show(self) -> None:
        read, pause = self._source.portion(), self._window.paused_for if self._window else 0.0
        portion = None if read is None or not self._rows else read * self._tally.rows / self._rows
        self._write(lambda screen: screen.show(self._tally, portion, pause))

    def _write(self, show: Callable[[Display], None]) -> None:
        if self._display is None:
            return
        try:
            show(self._display)
        except OSError as error:
            self._failure = f"cannot write to stdout: {error.strerror}"
            self._display = None
            silence_stdout()
