"""Hands a user's token to the user's own device.

    gunicorn --preload --workers 4 flask_app:app

The client is made before the workers are forked and works in all of them. Each worker has its own cache.
"""

import math

import flask

import spike_auth

app = flask.Flask(__name__)
client = spike_auth.Client.from_env()


@app.get("/users/<user_id>/token")
def token(user_id: str) -> tuple[dict[str, str], dict[str, str]]:
    """Hand out a token. Authenticate the user first, as your service does it."""
    return {"access_token": client.token(user_id, timeout=5)}, {"Cache-Control": "no-store"}


@app.errorhandler(spike_auth.SpikeAuthError)
def failed(error: spike_auth.SpikeAuthError) -> tuple[dict[str, str], int, dict[str, str]]:
    """Answer with an error, and when to try again."""
    app.logger.warning("no token: %s", error)  # messages contain no secret and no user id
    status = 400 if isinstance(error, spike_auth.InvalidInput) else 503 if error.retryable else 502
    wait = {"Retry-After": str(math.ceil(error.retry_after))} if error.retry_after else {}
    return {"error": type(error).__name__}, status, wait
