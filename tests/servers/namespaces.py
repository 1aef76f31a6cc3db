"""Forks into a PID namespace, and its child does so too: all three are process 1.

Run by `unshare --pid --fork`.
"""

import asyncio
import ctypes
import os
import sys
import warnings

from spike_auth import AsyncClient, Client

warnings.simplefilter("ignore")
NEW_PID_NAMESPACE = 0x20000000
libc = ctypes.PyDLL(None, use_errno=True)
client, asynchronous = Client.from_env(), AsyncClient.from_env()


def use(user: str) -> str:
    client.token(user)
    client.exchange(user)
    asyncio.run(asynchronous.token(user))
    return f"process {os.getpid()}: {client.stats().misses} and {asynchronous.stats().misses} misses"


print(use("parent"), flush=True)
# Then as a server in C forks, without Python's hooks.
for user, fork in (("child", os.fork), ("grandchild", libc.fork)):
    if libc.unshare(NEW_PID_NAMESPACE) != 0:
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    child = fork()
    if child != 0:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(use(user), flush=True)
