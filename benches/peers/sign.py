"""Signing in Python with the standard library, as documented.

In the timed loop: one call of the documented form per id, 256 ids in turn. The protocol is that of ../step.h.
"""

import hashlib
import hmac
import sys
import time

KEY = b"HMAC_KEY_FROM_ADMIN_CONSOLE"
IDS = [f"my_application_user_{(i + 123) % 1000:03}" for i in range(256)]
ANSWER = "e070ea58e2b1d7d01a9570b89fc99e76c73cf3dc8aab4f31ae0136821f8f0199"


def documented(count):
    signature = None
    for i in range(count):
        signature = hmac.new(KEY, IDS[i % 256].encode(), hashlib.sha256).hexdigest()
    return signature


KINDS = {"documented": documented}


def main():
    for name, run in KINDS.items():
        if run(1) != ANSWER:
            sys.exit(f"{name}: not the known answer")
    for line in sys.stdin:
        name, count = line.split()
        cpu, wall = time.process_time_ns(), time.monotonic_ns()
        KINDS[name](int(count))
        print(time.process_time_ns() - cpu, time.monotonic_ns() - wall, flush=True)


if __name__ == "__main__":
    main()
