"""Tokens in a Python dict: `cache.py IDS_FILE TOKEN`. The protocol is that of ../cache.c, with one FUNCTION, get_token.

In the timed loop: the user id is cut out of a long text, so that it is a new string without a known hash, like one from
a request; then one call looks up the token and checks its expiry time against the clock. No lock: a dict's get needs
none. The stored string is returned, not a copy.
"""

import gc
import os
import sys
import threading
import time
from pathlib import Path

ID_LEN = 23
PIECE = 256  # as in ../cache.c
LIFETIME = 3600

CORES = sorted(os.sched_getaffinity(0))  # one for each thread

tokens = {}


def get_token(user):
    token, expires_at = tokens[user]
    if time.monotonic() >= expires_at:
        raise LookupError("the token has expired")
    return token


def fill(count):
    """Every entry has its own copies of user id and token."""
    token = sys.argv[2].encode()
    cpu, wall = time.process_time_ns(), time.monotonic_ns()
    for i in range(count):
        tokens[f"my_application_u{i:07}"] = (token.decode(), time.monotonic() + LIFETIME)
    gc.collect()
    return time.process_time_ns() - cpu, time.monotonic_ns() - wall


def ask_piece(ids, place, step):
    for _ in range(PIECE):
        get_token(ids[place:place + ID_LEN])
        place += step
        if place == len(ids):
            place = 0


def waited_ns():
    """The time spent waiting for a core, as in ../cache.c."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1])
    except OSError:
        return 0


def member(ids, places, step, shares, thread, barrier):
    try:
        os.sched_setaffinity(0, CORES[thread % len(CORES):][:1])
        ask_piece(ids, 0, step)
        barrier.wait()  # all are warm
        begin = time.monotonic_ns()
        waited, cpu, pieces = waited_ns(), time.thread_time_ns(), 0
        for place in places:
            ask_piece(ids, place, step)
            pieces += 1
        cpu, waited = time.thread_time_ns() - cpu, waited_ns() - waited
        shares[thread] = pieces, cpu, time.monotonic_ns() - begin - waited
    except Exception as error:  # noqa: BLE001 - the others would wait forever
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def ask(ids, begin, step, threads, count):
    """The threads take pieces until none is left, and read their own clocks, as in ../cache.c."""
    barrier = threading.Barrier(threads)
    places = iter([(begin + at) * step % len(ids) for at in range(0, count, PIECE)])
    shares = [(0, 0, 0)] * threads
    members = [threading.Thread(target=member, args=(ids, places, step, shares, i, barrier)) for i in range(threads)]
    for thread in members:
        thread.start()
    for thread in members:
        thread.join()
    rate = sum(pieces / wall for pieces, _, wall in shares)
    return sum(cpu for _, cpu, _ in shares), round(count / PIECE / rate)


def main(fill, ask):
    ids = Path(sys.argv[1]).read_text()
    walked = 0
    for line in sys.stdin:
        name, count = line.split()
        if name == "fill":
            print(*fill(int(count)), flush=True)
            continue
        _, which, threads = name.split(":")
        is_random = which == "random"
        print(*ask(ids, walked, ID_LEN if is_random else 0, int(threads), int(count)), flush=True)
        if is_random:
            walked = (walked + int(count)) % (len(ids) // ID_LEN)


if __name__ == "__main__":
    main(fill, ask)
