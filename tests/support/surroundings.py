"""Signals, descriptors and limits, which a program inherits. `import support` sets them for all tests."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager

# nohup and a shell's & ignore these, so that a terminal does not end a background job. A test that sends SIGINT to a
# program starts it `with default_sigint()`.
_FOR_TERMINALS = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
# No test needs more descriptors, and programs that scan all of them are slow with millions.
_DESCRIPTORS = 4096
# Python ignores these, and restores them for its children.
_OF_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}


def settle() -> None:
    """Makes this process and its children independent of how it was started.

    With SIGCHLD ignored, Python reports success for every child. With SIGALRM blocked, no alarm ends a hanging
    child. With stdin closed, the first socket gets descriptor 0.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - _FOR_TERMINALS - _OF_PYTHON:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest free number
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _DESCRIPTORS:
        raised = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))


# As cron, nohup, a shell's &, a small container or a service may start `make test`.
_HARSH = """
trap '' HUP INT QUIT TERM ALRM CHLD USR1
umask 077
ulimit -n 256
ulimit -s 1024
unset HOME LANG PYTHONUTF8
export LC_ALL=C TMPDIR="$1"
shift
exec "$@" <&-
"""


def harshly(folder: str, *command: object) -> list[str]:
    """The command with signals ignored, stdin closed, variables unset and low limits; `folder` is its TMPDIR."""
    return ["sh", "-c", _HARSH, "sh", folder, *map(str, command)]


@contextmanager
def default_sigint() -> Iterator[None]:
    """Programs started inside react to Ctrl-C, also if the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
