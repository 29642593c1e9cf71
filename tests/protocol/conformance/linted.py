"""httplint, which knows what RFC 9110, RFC 9111 and the RFCs of single fields say of an answer."""

from __future__ import annotations

from httplint import HttpRequestLinter, HttpResponseLinter
from httplint.note import levels

from tests.protocol.wire import Answer

FAULTS = {levels.BAD, levels.WARN}
# Notes by their class, the codes at which they are accepted, and the reason.
ACCEPTED = {
    # RFC 9110, 10.2.2 says what Location means at 201 and at 3xx, and leaves the rest to others. Here it is the URL of
    # the job, also where a key is repeated and the job has an answer already (docs/protocol.md).
    "LOCATION_UNDEFINED": {200, 202, 410, 424},
    # Accept in an answer names the media types that are taken (RFC 9110, 12.5.1 and 15.5.16). httplint does not know.
    "REQUEST_HDR_IN_RESPONSE": {415},
    # RFC 9110, 6.6.1 leaves it to the server.
    "DATE_CLOCKLESS": {100},
    # They say that the request is refused, and that is meant.
    "STATUS_BAD_REQUEST": {400},
    "STATUS_URI_TOO_LONG": {414},
    "STATUS_VERSION_NOT_SUPPORTED": {505},
}


def notes(sent: bytes, answer: Answer, *, whole: bool = True) -> set[tuple[str, int, str]]:
    """Return the notes on an answer: their class, the code and the text. ``whole``: its content has been read."""
    head, _, _ = answer.raw.partition(b"\r\n\r\n")
    status_line, *lines = head.split(b"\r\n")
    version, code, phrase = status_line.removeprefix(b"HTTP/").split(b" ", 2)
    linter = HttpResponseLinter(no_content=not whole)
    linter.request = request_of(sent)
    linter.is_head_response = sent.startswith(b"HEAD ")
    linter.process_response_topline(version, code, phrase)
    linter.process_headers([fields(line) for line in lines])
    linter.feed_content(answer.body)
    linter.finish_content(whole)
    return {(type(note).__name__, answer.status, note.summary) for note in linter.notes if note.level in FAULTS}


def request_of(sent: bytes) -> HttpRequestLinter | None:
    """Return a well-formed request as httplint has it, None for any other."""
    head, _, _ = sent.partition(b"\r\n\r\n")
    request_line, *lines = head.split(b"\r\n")
    words = request_line.split(b" ")
    if len(words) != 3 or not all(b": " in line for line in lines):
        return None
    method, target, version = words
    linter = HttpRequestLinter()
    linter.process_request_topline(method, b"http://test" + target, version.removeprefix(b"HTTP/"))
    linter.process_headers([fields(line) for line in lines])
    linter.finish_content(complete=True)
    return linter


def fields(line: bytes) -> tuple[bytes, bytes]:
    """Return name and value of a header line."""
    name, _, value = line.partition(b": ")
    return name, value
