"""Hands a user's token to the user's own device, with asyncio.

    uvicorn fastapi_app:app

A cached token costs the event loop a few microseconds. Fetching a new one does not block the loop.
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
    """Keep one client while the application runs."""
    async with spike_auth.AsyncClient.from_env() as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/users/{user_id}/token")
async def token(user_id: str, request: Request, response: Response) -> dict[str, str]:
    """Hand out a token. Authenticate the user first, as your service does it."""
    response.headers["Cache-Control"] = "no-store"
    return {"access_token": await request.app.state.client.token(user_id, timeout=5)}


@app.exception_handler(spike_auth.SpikeAuthError)
async def failed(_request: Request, error: spike_auth.SpikeAuthError) -> JSONResponse:
    """Answer with an error, and when to try again."""
    logger.warning("no token: %s", error)  # messages contain no secret and no user id
    status = 400 if isinstance(error, spike_auth.InvalidInput) else 503 if error.retryable else 502
    wait = {"Retry-After": str(math.ceil(error.retry_after))} if error.retry_after else {}
    return JSONResponse({"error": type(error).__name__}, status, wait)
