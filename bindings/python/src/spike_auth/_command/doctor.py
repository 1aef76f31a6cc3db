"""``python -m spike_auth doctor USER``: the library's report as a table. The program ``spike-auth`` prints the same."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

from .._client import Client
from .._errors import InternalError, InvalidInput, SpikeAuthError
from .._library import library_info

# Status: mark, mark in ASCII, colour.
_KINDS = {
    "ok": ("✓", "+", "32"),
    "warning": ("!", "!", "33"),
    "failed": ("✗", "x", "31"),
    "skipped": ("\N{EN DASH}", "-", "2"),
}
_UNKNOWN = ("?", "?", "2")  # of a newer library
_INDENT = 25  # the column in which the messages begin
_MOST_MS = 1e7
# Those change the direction or the line.
_OBEYED = {0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)}


def run(user_id: str | None, *, as_json: bool) -> tuple[str, bool]:
    """Return what to print, and whether all is well."""
    if user_id == "":  # the variable of a script that is not set
        raise InvalidInput("USER_ID is empty. Leave it out to try no exchange.")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # that would wait for the call
    report = _report_of(user_id)
    if not _is_complete(report):
        raise InternalError("the library's report cannot be read: this program and the library do not fit together")
    path = os.path.realpath(library_info().path)
    if as_json:
        return json.dumps({"library": path, **report}, separators=(",", ":")), report["ok"]
    return "\n".join(_Table(*_look()).lines(report, path)), report["ok"]


def _report_of(user_id: str | None) -> dict[str, Any]:
    start = monotonic()
    try:
        client = Client.from_env()
    except SpikeAuthError as error:
        return _report_of_no_client(str(error), 1000 * (monotonic() - start))
    with client:
        return client.diagnose(user_id)


def _report_of_no_client(cure: str, ms: float) -> dict[str, Any]:
    message = "No client can be made from the settings."
    check = {"name": "settings", "status": "failed", "ms": round(ms, 3), "message": message, "cure": cure}
    return {"version": library_info().version, "ok": False, "cure": cure, "checks": [check]}


def _is_complete(report: dict[str, Any]) -> bool:
    """Return whether all is there that a table needs, as in a library that fits."""
    checks = _dicts(report.get("checks"))
    has_head = isinstance(report.get("ok"), bool) and isinstance(report.get("version"), str)
    return has_head and bool(checks) and all(map(_has_texts, checks))


def _has_texts(check: dict[str, Any]) -> bool:
    settings = check.get("settings", [])
    texts = [check.get(name) for name in ("name", "status", "message")]
    return all(isinstance(text, str) for text in texts) and (settings == [] or bool(_dicts(settings)))


def _dicts(value: Any) -> list[dict[str, Any]]:
    """Return a list of objects; an empty one for anything else."""
    items: list[Any] = value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]
    return items if all(isinstance(item, dict) for item in items) else []


def _look() -> tuple[bool, bool]:
    """Return whether characters are UTF-8, and whether they have colours."""
    locale = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_CTYPE", "LANG"))), "")
    charset = locale.partition(".")[2].lower()
    is_utf8 = charset.startswith(("utf-8", "utf8"))
    if sys.stdout is None:
        return is_utf8, False
    is_terminal = sys.stdout.isatty() and os.environ.get("TERM", "") not in {"", "dumb"}
    return is_utf8 and sys.stdout.encoding.lower() == "utf-8", is_terminal and not os.environ.get("NO_COLOR")


@dataclass
class _Table:
    is_utf8: bool
    is_coloured: bool

    def lines(self, report: dict[str, Any], path: str) -> Iterator[str]:
        yield f"spike_auth {self._clean(report['version'])} (ABI {library_info().abi}), {self._clean(path)}"
        yield ""
        for check in report["checks"]:
            yield from self._check(check)
            for setting in check.get("settings", []):
                name, value, source = (self._clean(setting.get(key)) for key in ("name", "value", "from"))
                yield f"    {name:20}{value:34}  {source}"
        yield ""
        if not report["ok"]:
            yield self._cure(report)
        elif any(check["status"] == "warning" for check in report["checks"]):
            yield "It works. Look at the warnings."
        else:
            yield "It works."

    def _check(self, check: dict[str, Any]) -> Iterator[str]:
        mark, ascii_mark, colour = _KINDS.get(check["status"], _UNKNOWN)
        ms = check.get("ms")
        was_tried = check["status"] != "skipped" and isinstance(ms, (int, float)) and 0 <= ms < _MOST_MS
        time = f"{ms:8.1f} ms  " if was_tried else " " * 13
        name, message, cure = (self._clean(check.get(key)) for key in ("name", "message", "cure"))
        yield f"{self._coloured(mark if self.is_utf8 else ascii_mark, colour)} {name:10}{time}{message}"
        if cure and cure != message:  # a message that does not part what failed from its cure is both
            yield f"{'':{_INDENT}}{self._coloured('→ ' if self.is_utf8 else '> ', colour)}{cure}"

    def _cure(self, report: dict[str, Any]) -> str:
        """Return the one thing to do first, and the check that it belongs to: a cure may begin with "It"."""
        cure = report.get("cure") if isinstance(report.get("cure"), str) else None
        names = [check["name"] for check in report["checks"] if cure is not None and check.get("cure") == cure]
        place = f" ({self._clean(names[0])})" if names else ""
        return f"{self._coloured('Do this first', '1')}{place}: {self._clean(cure or 'Look at what failed.')}"

    def _coloured(self, text: str, colour: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self.is_coloured else text

    def _clean(self, text: object) -> str:
        """Replace what a terminal would obey or could not show. What is no text is left out."""
        return "".join(map(self._shown, text)) if isinstance(text, str) else ""

    def _shown(self, character: str) -> str:
        code = ord(character)
        is_plain = 0x20 <= code < 0x7F
        is_other = code >= 0xA0 and code not in _OBEYED and not 0xD800 <= code < 0xE000
        return character if is_plain or (self.is_utf8 and is_other) else "?"
