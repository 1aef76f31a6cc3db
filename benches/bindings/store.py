"""Tokens from the store with the Python binding: `store.py`, with the settings in the environment. Loop and protocol
are those of ../peers/store.py.

In the timed loop: Client.token() for users whose tokens stand in the store, and not in the client's cache.
"""

from peers import store
from spike_auth import Client


def with_spike_auth():
    client = Client.from_env()
    for user in store.users():
        client.token(user)
    return client.clear, client.token


store.main(with_spike_auth)
