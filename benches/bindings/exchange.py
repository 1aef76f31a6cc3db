"""Exchanges with the Python binding: `exchange.py BASE_URL CA_FILE`. Threads and protocol are those of
../peers/exchange.py.

In the timed loop: Client.exchange(), which signs, sends the request and reads the token, on kept connections. All
threads share one client. In the main thread the binding starts the call and waits in Python, so that Ctrl-C can end it.
"""

from peers import exchange
from spike_auth import Client


def with_spike_auth(base_url, ca_file):
    trust = {"ca_file": ca_file, "tls_roots": "none"} if ca_file else {}
    client = Client(9999, exchange.KEY, base_url=base_url, **trust)
    return lambda _thread, user: client.exchange(user)


exchange.main(with_spike_auth)
