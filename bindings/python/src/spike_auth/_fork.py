"""Which process this is, for what a child of fork must not share with its parent."""

from __future__ import annotations

import os

Process = tuple[int, int]

_forks = 0


def _count() -> None:
    global _forks  # noqa: PLW0603  a fork copies the whole of a process, and so does this
    _forks += 1


os.register_at_fork(after_in_child=_count)


def this_process() -> Process:
    """Tell this process from those that it was forked from.

    The pid alone does not: in a PID namespace of its own a child can have its parent's. Nor does the count alone: a
    host in C that forks by itself, as some servers do, calls none of Python's hooks.
    """
    return _forks, os.getpid()
