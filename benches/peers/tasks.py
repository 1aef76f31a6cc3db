"""Exchanges by asyncio tasks: `tasks.py aiohttp|httpx BASE_URL CA_FILE` (an empty CA_FILE over HTTP).

In the timed loop: hmac as documented, json, one POST on a kept connection; 32 connections at most, as the library has.
The protocol is that of ../step.h. NAME is:

- the number of tasks, which share the exchanges
- cold:N: a task for each exchange, each for another user, all at once; a token of the cache where there is one
- late:N: N tasks make exchanges. The figures are by how many ns a task that sleeps for 1 ms was late: in half of the
  cases, and in 99 of 100. The first 50 ms, in which the tasks begin, do not count
"""

import asyncio
import hashlib
import hmac
import json
import sys
import time
from itertools import count as counter

KEY = b"HMAC_KEY_FROM_ADMIN_CONSOLE"
HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
CONNECTIONS = 32
WARM_UP = 2  # for each connection


def trust(ca_file):
    import ssl

    return ssl.create_default_context(cafile=ca_file) if ca_file else True


async def with_aiohttp(url, ca_file):
    import aiohttp

    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=trust(ca_file)))

    async def post(body):
        async with session.post(url, data=body, headers=HEADERS) as reply:
            return reply.status, await reply.json()

    return post, session.close


async def with_httpx(url, ca_file):
    import httpx

    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=None)
    client = httpx.AsyncClient(limits=limits, verify=trust(ca_file), timeout=60)

    async def post(body):
        reply = await client.post(url, content=body, headers=HEADERS)
        return reply.status_code, reply.json()

    return post, client.aclose


def posting(package):
    """An exchange, as a program would write it with the package alone."""

    async def make(base_url, ca_file):
        post, close = await package(base_url + "/auth/hmac", ca_file)

        async def exchange(user):
            signature = hmac.new(KEY, user.encode(), hashlib.sha256).hexdigest()
            request = {"application_id": 9999, "application_user_id": user, "signature": signature}
            status, reply = await post(json.dumps(request).encode())
            if status != 200 or not reply["access_token"]:
                raise RuntimeError(f"no token in the reply, status {status}")

        return exchange, exchange, close

    return make


async def many(exchange, tasks, count):
    async def work(times):
        for i in range(times):
            await exchange(f"my_application_user_{i % 1000:03}")

    await asyncio.gather(*(work(count // tasks) for _ in range(tasks)))


async def timed(work):
    cpu, wall = time.process_time_ns(), time.monotonic_ns()
    await work
    return time.process_time_ns() - cpu, time.monotonic_ns() - wall


async def lateness(work):
    late, work = [], asyncio.ensure_future(work)
    await asyncio.sleep(0.05)
    while not work.done():
        due = time.monotonic_ns() + 1_000_000
        await asyncio.sleep(0.001)
        late.append(time.monotonic_ns() - due)
    await work
    late.sort()
    return late[len(late) // 2], late[len(late) * 99 // 100]


async def step(name, count, exchange, token, numbers):
    kind, _, number = name.rpartition(":")
    if kind == "cold":
        users = [f"my_application_u{next(numbers):07}" for _ in range(count)]

        async def all_at_once():
            await asyncio.gather(*map(token, users))

        return await timed(all_at_once())
    await many(exchange, CONNECTIONS, WARM_UP * CONNECTIONS)
    return await (lateness if kind else timed)(many(exchange, int(number), count))


def main(make):
    loop = asyncio.new_event_loop()
    exchange, token, close = loop.run_until_complete(make(*sys.argv[-2:]))
    numbers = counter()
    for line in sys.stdin:
        name, count = line.split()
        print(*loop.run_until_complete(step(name, int(count), exchange, token, numbers)), flush=True)
    loop.run_until_complete(close())
    loop.close()


if __name__ == "__main__":
    main(posting({"aiohttp": with_aiohttp, "httpx": with_httpx}[sys.argv[1]]))
