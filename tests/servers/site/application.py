"""What each WSGI server runs: a request for /?alice is answered with alice's token."""

import json
import os

from spike_auth import Client

client = Client.from_env()
client.token("loader")  # a server that forks after loading has this call in its master


def application(environ, start_response):
    reply = {"token": client.token(environ["QUERY_STRING"]), "process": os.getpid()}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(reply).encode()]
