"""What each ASGI server runs, as application.py."""

import asyncio
import json
import os
import threading

from spike_auth import AsyncClient

client = AsyncClient.from_env()
# In a thread: uvicorn imports this module while its own loop runs.
loading = threading.Thread(target=lambda: asyncio.run(client.token("loader")))
loading.start()
loading.join()


async def application(scope, receive, send):
    assert scope["type"] == "http"
    reply = {"token": await client.token(scope["query_string"].decode()), "process": os.getpid()}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(reply).encode()})
