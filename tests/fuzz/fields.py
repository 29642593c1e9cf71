"""Header fields with a structure, whatever stands in them: no exception, and no other meaning than theirs.

An input is a route, by its first byte, and lines of a head. Where a line is well-formed by its RFC, the
answer has to follow it, and where it is not, nothing may follow from it.
"""

from __future__ import annotations

import re

from headway.protocol.access.clients import Clients

from tests.fuzz import reading
from tests.fuzz.service import LOGGED, World

BODY = b'{"task":"nothing"}'
# Request lines, by the first byte.
ROUTES = (
    b"GET /jobs/$S/log",
    b"GET /jobs/$S",
    b"GET /docs",
    b"GET /",
    b"POST /jobs",
    b"POST /tasks/content/jobs",
    b"OPTIONS /jobs",
    b"GET /jobs?limit=1",
)
WORLD: list[World] = []
CLIENTS = [Clients(("127.0.0.0/8", "10.0.0.0/8"), header) for header in ("forwarded", "x-forwarded-for")]
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[^"\\]|\\.)*"'
# RFC 7240, 2: a token, or a parameter, with a value or without, and parameters of its own.
_PARAMETER = rb"%b(?:[ \t]*=[ \t]*(?:%b|%b))?" % (_TOKEN, _TOKEN, _QUOTED)
_PREFERENCE = re.compile(
    rb"[ \t]*(%b)(?:[ \t]*=[ \t]*(%b|%b))?(?:[ \t]*;[ \t]*(?:%b)?)*[ \t]*(?:,|\Z)"
    % (_TOKEN, _TOKEN, _QUOTED, _PARAMETER)
)
# RFC 9110, 8.8.3 and 13.1.2.
_TAG = rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rb"\*|%b(?:[ \t]*,[ \t]*%b)*" % (_TAG, _TAG))
# RFC 9110, 14.1.2, one range of bytes. Longer numbers are passed over, as 14.2 allows.
_RANGE = re.compile(rb"bytes=(\d{1,18})?-(\d{1,18})?", re.IGNORECASE)
_KEY = re.compile(rb'[A-Za-z0-9._~-]{1,200}|"[A-Za-z0-9._~-]{1,200}"')
# A head of more lines, or with the end of a head in it, is another test's.
_LINES = re.compile(rb"(?:%b:[^\r\n\0]*\r\n){1,8}" % _TOKEN)
FRAMING = {b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"connection", b"host"}


def fuzz_one(data: bytes) -> None:
    """Ask with the lines, and check what follows from them."""
    if len(data) < 2:
        return
    if not WORLD:
        WORLD.append(World())
    world = WORLD[0]
    start, lines = ROUTES[data[0] % len(ROUTES)], data[1:]
    method = start.partition(b" ")[0]
    body = BODY if method == b"POST" else b""
    usual = b"Content-Type: application/json\r\n" if b"content-type" not in lines.lower() and body else b""
    head = b"%b HTTP/1.1\r\nHost: test\r\n%bContent-Length: %d\r\n" % (world.named(start), usual, len(body))
    raw = world.ask(b"%b%b\r\n%b" % (head, lines, body))
    fields = read_lines(lines)
    if fields is None or fields.keys() & FRAMING:
        return
    for clients in CLIENTS:
        assert len(clients.key("127.0.0.1", fields)) <= 8
    if not raw:
        # It waits: nobody but the time ends that.
        assert b"wait" in fields.get(b"prefer", b"")
        return
    (answer,) = reading.answers(raw, [method], may_be_head=False)
    assert answer.status < 500, raw
    if answer.status == 400:
        return
    check_preferences(fields, answer)
    check_range(start, fields, answer)
    check_tags(fields, answer)
    if b"idempotency-key" in fields and body and answer.status < 400:
        assert _KEY.fullmatch(fields[b"idempotency-key"]), answer


def read_lines(lines: bytes) -> dict[bytes, bytes] | None:
    """Return fields by their names in lower case, None unless the lines are well-formed."""
    if not _LINES.fullmatch(lines):
        return None
    fields: dict[bytes, bytes] = {}
    for line in lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        fields[name] = fields[name] + b", " + value if name in fields else value
    return fields


def preferences(value: bytes) -> dict[bytes, bytes] | None:
    """Return the preferences of a field, the first of each, None unless it is well-formed (RFC 7240, 2)."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(value):
        match = _PREFERENCE.match(value, at)
        if match is None:
            return None
        found.setdefault(match[1].lower(), (match[2] or b"").strip(b'"'))
        at = match.end()
    return found


def check_preferences(fields: dict[bytes, bytes], answer: reading.Answer) -> None:
    """See that a preference that was not given is not applied."""
    applied = answer.headers.get(b"preference-applied", b"")
    told = preferences(fields.get(b"prefer", b""))
    if told is None:
        return
    if applied.startswith(b"return="):
        assert told.get(b"return") == b"minimal", (fields, answer)
    elif applied:
        assert told.get(b"wait", b"").isdigit(), (fields, answer)


def check_range(start: bytes, fields: dict[bytes, bytes], answer: reading.Answer) -> None:
    """See that a part is the part that was asked for."""
    asked = _RANGE.fullmatch(fields.get(b"range", b""))
    text = LOGGED.encode()
    if answer.status == 206:
        assert asked is not None, (fields, answer)
        assert answer.body == part_of(text, asked), (fields, answer)
    elif start.endswith(b"/log") and asked is not None and b"if-range" not in fields and answer.status == 200:
        assert not (asked[1] or asked[2]) or (asked[1] and asked[2] and int(asked[1]) > int(asked[2])), (fields, answer)
        assert answer.body == text


def part_of(text: bytes, asked: re.Match[bytes]) -> bytes:
    """Return the bytes that a range asks for."""
    first, last = asked.groups()
    if first is None:
        return text[-int(last) :] if int(last) else b""
    return text[int(first) : None if last is None else int(last) + 1]


def check_tags(fields: dict[bytes, bytes], answer: reading.Answer) -> None:
    """See that 304 is said of a tag that was named."""
    value = fields.get(b"if-none-match")
    if value is None:
        assert answer.status != 304, answer
    elif _TAGS.fullmatch(value) and b"etag" in answer.headers:
        named = value == b"*" or answer.headers[b"etag"] in re.findall(_TAG, value.replace(b"W/", b""))
        assert (answer.status == 304) == named, (fields, answer)
