"""``python -m spike_auth sign|token USER_ID``: prints a signature or a token. The key comes from the environment."""

from __future__ import annotations

import argparse
import os
import sys

from ._errors import SpikeAuthError

_EPILOG = """
It reads SPIKE_APPLICATION_ID, SPIKE_HMAC_KEY or SPIKE_HMAC_KEY_FILE, and the other variables of the library.
A user id that begins with - goes after --.
The exit code is 0, 1 if it failed, 2 for bad arguments, and 130 after Ctrl-C.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m spike_auth",
        description="Sign a user id, or get that user's access token.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", choices=["sign", "token"], help="what to print")
    parser.add_argument("user_id", metavar="USER_ID", help="1 to 128 of A-Z a-z 0-9 . _ -")
    chosen = parser.parse_args(arguments)
    try:
        from . import Client  # noqa: PLC0415  it loads the library, which can fail

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
        # So that what is left in it is not tried again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
