"""The same exchanges from Python: `exchange.py requests|httpx|urllib3 BASE_URL CA_FILE` (an empty CA_FILE over HTTP).

In the timed loop: hmac as documented, json, one POST on a kept connection. Threads share what the package allows to be
shared: httpx its client, urllib3 its pool; requests has a session per thread. The protocol is that of ../step.h;
NAME is the number of threads, or 0 for the main thread.
"""

import hashlib
import hmac
import json
import os
import sys
import threading
import time

KEY = b"HMAC_KEY_FROM_ADMIN_CONSOLE"
HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
THREADS_MAX = 8
WARM_UP = 20  # as in ../exchange.h


def with_requests(url, ca_file):
    import requests

    sessions = [requests.Session() for _ in range(THREADS_MAX)]

    def post(thread, body):
        reply = sessions[thread].post(url, data=body, headers=HEADERS, timeout=10, verify=ca_file or True)
        return reply.status_code, reply.json()

    return post


def with_httpx(url, ca_file):
    import ssl

    import httpx

    limits = httpx.Limits(max_connections=THREADS_MAX, max_keepalive_connections=THREADS_MAX, keepalive_expiry=None)
    verify = ssl.create_default_context(cafile=ca_file) if ca_file else True
    client = httpx.Client(limits=limits, verify=verify, timeout=10)

    def post(_thread, body):
        reply = client.post(url, content=body, headers=HEADERS)
        return reply.status_code, reply.json()

    return post


def with_urllib3(url, ca_file):
    import urllib3

    pool = urllib3.PoolManager(maxsize=THREADS_MAX, ca_certs=ca_file or None, timeout=10, retries=False)

    def post(_thread, body):
        reply = pool.request("POST", url, body=body, headers=HEADERS)
        return reply.status, json.loads(reply.data)

    return post


def posting(post):
    """An exchange, as a program would write it with the package alone."""

    def exchange(thread, user):
        signature = hmac.new(KEY, user.encode(), hashlib.sha256).hexdigest()
        request = {"application_id": 9999, "application_user_id": user, "signature": signature}
        status, reply = post(thread, json.dumps(request).encode())
        if status != 200 or not reply["access_token"]:
            raise RuntimeError(f"no token in the reply, status {status}")

    return exchange


def exchange_many(exchange, thread, count):
    for i in range(count):
        exchange(thread, f"my_application_user_{i % 1000:03}")


def member(exchange, thread, count, barrier):
    try:
        exchange_many(exchange, thread, WARM_UP)
        barrier.wait()  # all are warm
        barrier.wait()  # the clocks are read
        exchange_many(exchange, thread, count)
        barrier.wait()  # all are done
    except Exception as error:  # noqa: BLE001 - the others would wait forever
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def run_alone(exchange, count):
    exchange_many(exchange, 0, WARM_UP)
    cpu, wall = time.process_time_ns(), time.monotonic_ns()
    exchange_many(exchange, 0, count)
    return time.process_time_ns() - cpu, time.monotonic_ns() - wall


def run(exchange, threads, count):
    if threads == 0:
        return run_alone(exchange, count)
    barrier = threading.Barrier(threads + 1)
    members = [
        threading.Thread(target=member, args=(exchange, i, count // threads, barrier)) for i in range(threads)
    ]
    for thread in members:
        thread.start()
    barrier.wait()
    cpu, wall = time.process_time_ns(), time.monotonic_ns()
    barrier.wait()
    barrier.wait()
    result = time.process_time_ns() - cpu, time.monotonic_ns() - wall
    for thread in members:
        thread.join()
    return result


def main(make):
    exchange = make(*sys.argv[-2:])
    for line in sys.stdin:
        threads, count = map(int, line.split())
        print(*run(exchange, threads, count), flush=True)


if __name__ == "__main__":
    package = {"requests": with_requests, "httpx": with_httpx, "urllib3": with_urllib3}[sys.argv[1]]
    main(lambda base_url, ca_file: posting(package(base_url + "/auth/hmac", ca_file)))
