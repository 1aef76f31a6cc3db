"""``python -m spike_auth sign|token USER_ID`` prints a signature or a token. The environment provides the key."""

from __future__ import annotations

import argparse
import os
import sys

from ._errors import SpikeAuthError

_EPILOG = """
Reads SPIKE_APPLICATION_ID, SPIKE_HMAC_KEY or SPIKE_HMAC_KEY_FILE, and the other variables of the library.
Write -- before a user id that begins with -.
The exit code is 0, or 1 for a failure, 2 for bad arguments, 130 after Ctrl-C.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m spike_auth",
        description="Print the signature of a user id, or the user's access token.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", choices=["sign", "token"], help="what to print")
    parser.add_argument("user_id", metavar="USER_ID", help="1 to 128 of A-Z a-z 0-9 . _ -")
    chosen = parser.parse_args(arguments)
    try:
        from . import Client  # noqa: PLC0415  loading the library can fail

        with Client.from_env() as client:
            result = client.sign(chosen.user_id) if chosen.command == "sign" else client.token(chosen.user_id)
    except SpikeAuthError as error:
        print(f"spike_auth: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130
    return _print(result)


def _print(result: str) -> int:
    if sys.stdout is None:
        print("spike_auth: cannot write to stdout: it is closed", file=sys.stderr)  # noqa: T201
        return 1
    try:
        print(result, flush=True)  # noqa: T201
    except OSError as error:
        print(f"spike_auth: cannot write to stdout: {error.strerror}", file=sys.stderr)  # noqa: T201
        # So that the interpreter does not try to write the rest again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
