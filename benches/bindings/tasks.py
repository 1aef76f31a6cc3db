"""Exchanges by asyncio tasks with the Python binding: `tasks.py BASE_URL CA_FILE`. Tasks and protocol are those of
../peers/tasks.py.

In the timed loop: AsyncClient.exchange(), and for cold users AsyncClient.token(). All tasks share one client.
"""

from peers import tasks
from spike_auth import AsyncClient


async def with_spike_auth(base_url, ca_file):
    trust = {"ca_file": ca_file, "tls_roots": "none"} if ca_file else {}
    client = AsyncClient(9999, tasks.KEY, base_url=base_url, timeout=60, **trust)
    return client.exchange, client.token, client.aclose


tasks.main(with_spike_auth)
