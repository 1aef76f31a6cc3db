"""Hands a user's token to the user's own device.

    gunicorn --preload --workers 4 flask_app:app

One client, made before the workers are forked, serves them all; each keeps the tokens that it gets.
"""

import math

import flask

import spike_auth

app = flask.Flask(__name__)
client = spike_auth.Client.from_env()


@app.get("/users/<user_id>/token")
def token(user_id: str) -> tuple[dict[str, str], dict[str, str]]:
    """Hand out a token. Here your own service makes sure first that it is this user who asks."""
    return {"access_token": client.token(user_id, timeout=5)}, {"Cache-Control": "no-store"}


@app.errorhandler(spike_auth.SpikeAuthError)
def failed(error: spike_auth.SpikeAuthError) -> tuple[dict[str, str], int, dict[str, str]]:
    """Answer for what `token` raises, and say when it is worth asking again."""
    app.logger.warning("no token: %s", error)  # a message holds no secret and no user id
    status = 400 if isinstance(error, spike_auth.InvalidInput) else 503 if error.retryable else 502
    wait = {"Retry-After": str(math.ceil(error.retry_after))} if error.retry_after else {}
    return {"error": type(error).__name__}, status, wait
