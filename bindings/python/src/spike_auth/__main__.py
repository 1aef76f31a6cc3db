"""``python -m spike_auth COMMAND``: the library from the shell. The environment provides the key."""

from __future__ import annotations

import argparse
import sys

from ._command.display import say, silence_stdout
from ._errors import SpikeAuthError

_EPILOG = """
Reads SPIKE_APPLICATION_ID, SPIKE_HMAC_KEY or SPIKE_HMAC_KEY_FILE, and the other variables of the library.
Write -- before a user id that begins with -.
The exit code is 0, or 1 for a failure, 2 for bad arguments, 130 after Ctrl-C, 143 after SIGTERM.
"""

_PROVISION = """
Gets the tokens of all users of a file, into the store that SPIKE_STORE_URL names. Prints no token and no id. Rows count
from 1, without a header. Ctrl-C ends it; with --resume the same command goes on where it ended, also after it was
killed. A 429, or a 503 with Retry-After, is a pause for all.
"""


_DOCTOR = """
Looks at everything that a token needs, one thing after the other, and names a cure for what is broken. The output holds
no secret and no user id. The exit code is 1 if something is broken; the last line then says what to do first.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        if chosen.command == "provision":
            return _provision(chosen, sys.argv[1:] if arguments is None else arguments)
        if chosen.command == "doctor":
            return _doctor(chosen)
        from . import Client  # noqa: PLC0415  loading the library can fail

        with Client.from_env() as client:
            result = client.sign(chosen.user_id) if chosen.command == "sign" else client.token(chosen.user_id)
    except SpikeAuthError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return _print(result)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m spike_auth",
        description="Print a user's signature or access token; find out why there is none; get the tokens of many.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, result in [("sign", "the signature of a user id"), ("token", "the access token of a user")]:
        one = commands.add_parser(name, help=f"print {result}", description=f"Print {result}.", allow_abbrev=False)
        one.add_argument("user_id", metavar="USER_ID", help="1 to 128 of A-Z a-z 0-9 . _ -")
    doctor = commands.add_parser(
        "doctor", help="find out why there is no token", description=_DOCTOR, allow_abbrev=False
    )
    doctor.add_argument(
        "user_id", nargs="?", metavar="USER_ID", help="a user to request a token for, which is not printed"
    )
    doctor.add_argument("--json", action="store_true", help="print the report as JSON, not as a table")
    many = commands.add_parser(
        "provision", help="get the tokens of all users of a file", description=_PROVISION, allow_abbrev=False
    )
    many.add_argument("file", metavar="FILE", help=".csv with a header, .parquet, or else one id a line; - for stdin")
    many.add_argument("--format", choices=["csv", "parquet", "lines"], help="by default as the name of FILE says")
    many.add_argument("--column", metavar="NAME", help="the column of a csv or parquet; by default the first")
    many.add_argument("--rate", type=int, metavar="N", help="requests per second; by default SPIKE_MAX_RATE")
    many.add_argument("--concurrency", type=int, default=32, metavar="N", help="requests in flight, 1 to 1024; 32")
    many.add_argument("--timeout", type=float, metavar="SECONDS", help="for each user; by default SPIKE_TIMEOUT_MS")
    many.add_argument("--resume", metavar="STATE", help="a file that remembers which rows are done")
    return parser


def _provision(chosen: argparse.Namespace, arguments: list[str]) -> int:
    from ._command.provision import Options, run  # noqa: PLC0415  loading the library can fail

    options = {name: value for name, value in vars(chosen).items() if name != "command"}
    return run(Options(**options), arguments)


def _doctor(chosen: argparse.Namespace) -> int:
    from ._command.doctor import run  # noqa: PLC0415  loading the library can fail

    text, is_well = run(chosen.user_id, as_json=chosen.json)
    return _print(text) or int(not is_well)


def _print(result: str) -> int:
    if sys.stdout is None:
        say("cannot write to stdout: it is closed")
        return 1
    try:
        print(result, flush=True)  # noqa: T201
    except OSError as error:
        say(f"cannot write to stdout: {error.strerror}")
        silence_stdout()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
