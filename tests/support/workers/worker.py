"""As worker.c."""

import sys
import time

import spike_auth

with spike_auth.Client.from_env() as client:
    print("ready", flush=True)
    for line in sys.stdin:
        start, (command, user, *rejected) = time.monotonic(), line.split()
        assert command in ("get", "replace"), command
        for token in rejected:
            client.invalidate(user, token)
        status, token = 0, "-"
        try:
            token = client.token(user)
        except spike_auth.SpikeAuthError as error:
            status = int(error.status)
        print(status, (time.monotonic() - start) * 1000, token, flush=True)
