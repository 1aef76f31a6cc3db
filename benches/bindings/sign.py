"""Signing with the Python binding. Ids and protocol are those of ../peers/sign.py.

In the timed loop: one call of Client.sign() per id; or calls of Client.sign_many() with a list of separate `str` ids.
run.py asks for multiples of the list's length.
"""

from functools import partial

from peers import sign
from spike_auth import Client

MANY = (100, 1000, 100_000)

client = Client(9999, sign.KEY, base_url="http://127.0.0.1:9/v3")


def one_by_one(count):
    signature = None
    for i in range(count):
        signature = client.sign(sign.IDS[i % 256])
    return signature


def many(ids, count):
    signatures = None
    for _ in range(0, count, len(ids)):
        signatures = client.sign_many(ids)
    return signatures[0]


def ids_of(count):
    return [f"my_application_user_{(i + 123) % 1000:03}" for i in range(count)]


sign.KINDS = {"sign": one_by_one, **{f"sign_many_{count}": partial(many, ids_of(count)) for count in MANY}}
sign.main()
