"""What a request must look like, checked as the service's framework does it: types first, and all flaws at once."""

from __future__ import annotations

import json
import re
from http.client import responses
from typing import Any, NamedTuple, cast

BODY_MAX = 64 * 1024
_MEMBERS = ("application_id", "application_user_id", "signature")
_PATTERNS = {"application_user_id": re.compile("[A-Za-z0-9._-]{1,128}"), "signature": re.compile("[0-9a-f]{64}")}


class Answer(NamedTuple):
    """An answer, as scripted or as sent."""

    status: int = 200
    body: bytes | None = None  # None: a token, or a problem document
    retry_after: str | None = None
    delay: float = 0.0
    drop: bool = False


class Exchange(NamedTuple):
    """The members of a well-formed request."""

    application_id: int | str
    user_id: str
    signature: str


class _Repeated(dict[str, Any]):
    """An object that has a member twice."""


def problem(status: int, detail: str, errors: list[dict[str, str]] | None = None) -> Answer:
    """Return a problem document. The service may echo values in it; this one never does."""
    document = {"title": responses.get(status, "Unknown"), "status": status, "detail": detail}
    return Answer(status, compact({**document, "errors": errors} if errors else document))


def compact(value: object) -> bytes:
    """Return a value as JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def id_in_json(application_id: str) -> int | str:
    """Return a number for plain digits that fit into 63 bits, else a string."""
    is_number = re.fullmatch(r"0|[1-9][0-9]{0,18}", application_id) and int(application_id) < 2**63
    return int(application_id) if is_number else application_id


def parse(method: str, content_type: str, body: bytes, expected_id: int | str) -> Exchange | Answer:
    """Return the exchange that is asked for, or the refusal."""
    if method != "POST":
        return problem(405, "only POST is allowed here")
    if content_type != "application/json":
        return problem(415, "unknown content type")
    if len(body) > BODY_MAX:
        return problem(413, "the body is too large")
    try:
        document: Any = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return problem(400, "the body is not JSON")
    if flaws := _flaws(document, expected_id):
        return problem(422, "validation failed", flaws)
    return Exchange(*(document[name] for name in _MEMBERS))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    return members if len(members) == len(pairs) else _Repeated(members)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _flaws(document: Any, expected_id: int | str) -> list[dict[str, str]]:
    if not isinstance(document, dict):
        return [_flaw("body", "expected object")]
    members = cast("dict[str, Any]", document)
    found = [_flaw("body", f"expected required property {name}") for name in _MEMBERS if name not in members]
    if members.keys() - {*_MEMBERS}:
        found.append(_flaw("body", "unexpected property"))
    if isinstance(document, _Repeated):
        found.append(_flaw("body", "duplicate property"))
    application_id = members.get("application_id", expected_id)
    if type(application_id) is not type(expected_id) or (isinstance(application_id, int) and application_id >= 2**63):
        found.append(_flaw("body.application_id", f"expected {type(expected_id).__name__}"))
    for name, pattern in _PATTERNS.items():
        value = members.get(name)
        if name in members and not (isinstance(value, str) and pattern.fullmatch(value)):
            found.append(_flaw(f"body.{name}", f"expected string to match pattern ^{pattern.pattern}$"))
    return found


def _flaw(location: str, message: str) -> dict[str, str]:
    return {"message": message, "location": location}
