"""Columns with the Python binding and pyarrow: `columns.py BASE_URL SLOW_URL`. The protocol is that of ../step.h.

In the timed loop: spike_auth_client_sign_users() on the buffers of a column of 10 000 ids; spike_auth.arrow.sign() of
that column; the documented form for each id, with a column made of the results. For tokens of users that nobody has
asked for yet: eight threads that call Client.token(), and spike_auth.arrow.provision() with N calls under way.
"""

import ctypes
import hashlib
import hmac
import sys
import threading
import time
from functools import partial
from itertools import count

import pyarrow as pa
from peers.sign import KEY
from spike_auth import Client, arrow
from spike_auth._library import lib

ROWS = 10_000
IDS = [f"my_application_user_{row:05}" for row in range(ROWS)]
COLUMNS = {kind: pa.array(IDS, getattr(pa, kind)()) for kind in ("large_string", "string", "string_view")}

client = Client(9999, KEY, base_url=sys.argv[1])
slow = Client(9999, KEY, base_url=sys.argv[2], max_concurrency=512) if sys.argv[2] else None
numbers = count()


def bulk(rows):
    _, offsets, text = COLUMNS["large_string"].buffers()
    ids, starts = ctypes.c_char_p(text.address), ctypes.byref(ctypes.c_int64.from_address(offsets.address))
    out, statuses = ctypes.create_string_buffer(64 * ROWS), (ctypes.c_int32 * ROWS)()
    for _ in range(rows // ROWS):
        if lib.client_sign_users(client._handle, ids, text.size, starts, ROWS, out, len(out), statuses, None):
            sys.exit("an id was not signed")


def sign(kind, rows):
    for _ in range(rows // ROWS):
        arrow.sign(client, COLUMNS[kind])


def documented(rows):
    for _ in range(rows // ROWS):
        pa.array([hmac.new(KEY, user.encode(), hashlib.sha256).hexdigest() for user in IDS])


def new_users(many):
    run = next(numbers)
    return [f"user.{run}.{number}" for number in range(many)]


def threads(many, users):
    def ask(part):
        for user in part:
            client.token(user)

    each = new_users(users)
    members = [threading.Thread(target=ask, args=(each[first::many],)) for first in range(many)]
    for thread in members:
        thread.start()
    for thread in members:
        thread.join()


def provision(of, many, users):
    if arrow.provision(of, pa.array(new_users(users)), concurrency=many).to_pylist() != [0] * users:
        sys.exit("a user has no token")


STEPS = {
    "bulk": bulk,
    "documented": documented,
    **{kind: partial(sign, kind) for kind in COLUMNS},
    "threads": partial(threads, 8),
    **{f"provision.{many}": partial(provision, client, many) for many in (8, 32, 128)},
    "slow": partial(provision, slow, 512),
}

for line in sys.stdin:
    name, amount = line.split()
    cpu, wall = time.process_time_ns(), time.monotonic_ns()
    STEPS[name](int(amount))
    print(time.process_time_ns() - cpu, time.monotonic_ns() - wall, flush=True)
