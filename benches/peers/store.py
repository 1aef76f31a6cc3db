"""A plain GET of a token with redis-py: `store.py STORE_URL`. The protocol is that of ../step.h; NAME is "hit".

In the timed loop: Redis.get() on a kept connection, for one key after the other. The tokens are stored as they are, and
the client keeps none. One thread; CPU time is that of the process.
"""

import sys
import threading
import time

KEYS = 2000  # as HIT_USERS in ../store.c
WARM_UP = 20
TOKEN = "t" * 143


def users():
    return [f"my_application_u{i:07}" for i in range(KEYS)]


def with_redis(url):
    import redis

    client = redis.Redis.from_url(url)
    for user in users():
        client.set(f"token:{user}", TOKEN, ex=3600)

    def get(user):
        if len(client.get(f"token:{user}")) != len(TOKEN):
            raise LookupError("not the token")

    return (lambda: None), get


def step(clear, get, count):
    some = users()[:count]
    for user in some[:WARM_UP]:
        get(user)
    clear()
    cpu, wall = time.process_time_ns(), time.monotonic_ns()
    for user in some:
        get(user)
    print(time.process_time_ns() - cpu, time.monotonic_ns() - wall, flush=True)


def main(make):
    """`make` gets the arguments. It returns what empties the client's own cache, and what gets a token."""
    clear, get = make(*sys.argv[1:])
    for line in sys.stdin:
        thread = threading.Thread(target=step, args=(clear, get, int(line.split()[1])))
        thread.start()
        thread.join()


if __name__ == "__main__":
    main(with_redis)
