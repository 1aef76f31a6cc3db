"""What Celery runs. Its parent loads this, and so makes the client; its workers are forked."""

import os

from celery import Celery

from application import client

app = Celery("tasks")


@app.task(name="token")
def token(user):
    return {"token": client.token(user), "process": os.getpid()}
