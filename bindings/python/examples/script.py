"""Gets a user's token twice. The second one comes from the client's cache.

    SPIKE_APPLICATION_ID=... SPIKE_HMAC_KEY=... python script.py USER_ID

On failure it prints the reason to stderr and exits with 1.
"""

import sys

import spike_auth


def main(user_id: str) -> None:
    """Get the tokens, and describe them without showing them."""
    try:
        with spike_auth.Client.from_env() as client:
            token = client.token(user_id)
            again = client.token(user_id, timeout=2.5)  # seconds, for the whole call
            requests = client.stats().requests
    except spike_auth.SpikeAuthError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    same = "the same" if token == again else "another"
    print(f"got a token of {len(token)} characters, and {same} again; requests sent: {requests}")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "my_application_user_123")
