"""Identifies the process, for state that a forked child must not share with its parent."""

from __future__ import annotations

import os

Process = tuple[int, int]

_forks = 0


def _count_fork() -> None:
    global _forks  # noqa: PLW0603  per process, as each fork copies it
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


def this_process() -> Process:
    """Return a value that differs from that of every ancestor process.

    The pid alone is not enough: in its own PID namespace a child can have its parent's pid. The count of forks alone is
    not enough either: a C host that forks by itself, as some servers do, runs none of Python's hooks.
    """
    return _forks, os.getpid()
