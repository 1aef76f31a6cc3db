"""Cached tokens of the Python binding: `cache.py IDS_FILE BASE_URL`. Threads and protocol are those of
../peers/cache.py.

In the timed loop: the user id cut out of a long text, and Client.token(). Each step checks that no call made an
exchange. "fill COUNT" caches the tokens of the first COUNT users of IDS_FILE.
"""

import sys
import time
from pathlib import Path

from peers import cache
from spike_auth import Client

client = Client(9999, "HMAC_KEY_FROM_ADMIN_CONSOLE", base_url=sys.argv[2])


def fill(count):
    ids = Path(sys.argv[1]).read_text()
    cpu, wall = time.process_time_ns(), time.monotonic_ns()
    for place in range(0, count * cache.ID_LEN, cache.ID_LEN):
        client.token(ids[place:place + cache.ID_LEN])
    return time.process_time_ns() - cpu, time.monotonic_ns() - wall


def ask(*step):
    exchanges = client.stats().exchanges
    costs = cache.ask(*step)
    if client.stats().exchanges != exchanges:
        sys.exit("a token was not in the cache")
    return costs


cache.get_token = client.token
cache.main(fill, ask)
