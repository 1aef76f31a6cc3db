"""Hands a user's token to the user's own device, with asyncio.

    uvicorn fastapi_app:app

A token that is kept costs the event loop a few microseconds, and one that must be got does not hold it up.
"""

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

import spike_auth

logger = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep one client for as long as the application runs."""
    async with spike_auth.AsyncClient.from_env() as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/users/{user_id}/token")
async def token(user_id: str, request: Request, response: Response) -> dict[str, str]:
    """Hand out a token. Here your own service makes sure first that it is this user who asks."""
    response.headers["Cache-Control"] = "no-store"
    return {"access_token": await request.app.state.client.token(user_id, timeout=5)}


@app.exception_handler(spike_auth.SpikeAuthError)
async def failed(_request: Request, error: spike_auth.SpikeAuthError) -> JSONResponse:
    """Answer for what `token` raises, and say when it is worth asking again."""
    logger.warning("no token: %s", error)  # a message holds no secret and no user id
    status = 400 if isinstance(error, spike_auth.InvalidInput) else 503 if error.retryable else 502
    wait = {"Retry-After": str(math.ceil(error.retry_after))} if error.retry_after else {}
    return JSONResponse({"error": type(error).__name__}, status, wait)
