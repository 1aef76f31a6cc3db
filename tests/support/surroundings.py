"""What a program inherits beside variables: signals, descriptors, limits. `import support` settles them for all tests."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager

# What nohup and a shell's & ignore on purpose, so that a terminal does not end what runs in the background. A test
# that sends one of them to a program starts it `with default_sigint()`, or likewise.
_FOR_TERMINALS = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
# More descriptors than this no test needs, and programs that look at each are slow where there may be millions.
_DESCRIPTORS = 4096
# Those that Python ignores, and gives back to what it starts.
_OF_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}


def settle() -> None:
    """Makes this process, and so those that it starts, independent of where it was started.

    With SIGCHLD ignored, Python takes every child for one that succeeded. With SIGALRM blocked, none that hangs is
    ended. With stdin closed, the first socket gets its number.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - _FOR_TERMINALS - _OF_PYTHON:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _DESCRIPTORS:
        raised = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))


# Where `make test` may be started too: from cron, by nohup or a shell's &, in a small container, by a service.
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
    """The command, started where much is ignored, closed, left out or small; `folder` is for its temporary files."""
    return ["sh", "-c", _HARSH, "sh", folder, *map(str, command)]


@contextmanager
def default_sigint() -> Iterator[None]:
    """What is started inside can be ended by Ctrl-C, even where all of this was started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
