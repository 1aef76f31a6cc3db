"""The same with asyncio: a token that is in the cache costs the event loop a few microseconds.

    uvicorn fastapi_app:app
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import fastapi
import spike_auth


@asynccontextmanager
async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
    async with spike_auth.AsyncClient.from_env() as client:
        app.state.client = client
        yield


app = fastapi.FastAPI(lifespan=lifespan)


@app.get("/users/{user_id}/token")
async def token(user_id: str, request: fastapi.Request) -> dict[str, str]:
    # Here your own service makes sure that it is this user who asks.
    return {"access_token": await request.app.state.client.token(user_id, timeout=5)}


@app.exception_handler(spike_auth.SpikeAuthError)
async def failed(_request: fastapi.Request, error: spike_auth.SpikeAuthError) -> fastapi.responses.JSONResponse:
    status = 400 if isinstance(error, spike_auth.InvalidInput) else 503 if error.retryable else 502
    return fastapi.responses.JSONResponse({"error": type(error).__name__}, status)
