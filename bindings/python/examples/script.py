"""Gets a user's token twice: the second one comes from the client's cache.

    SPIKE_APPLICATION_ID=... SPIKE_HMAC_KEY=... python script.py USER_ID
"""

import sys

import spike_auth


def main(user_id: str) -> int:
    with spike_auth.Client.from_env() as client:
        try:
            token = client.token(user_id)
            again = client.token(user_id, timeout=2.5)
        except spike_auth.SpikeAuthError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 1
        same = "the same" if token == again else "another"
        print(f"got a token of {len(token)} characters, and {same} again; requests sent: {client.stats().requests}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "my_application_user_123"))
