"""The answer to bytes that are no request: what the parser, or a callback of ours, did not take."""

from __future__ import annotations

import re
from itertools import chain

from headway.core.config import LimitsSection
from headway.core.errors import HeadwayError
from headway.protocol.http.problems import METHODS, Refusal
from httptools import HttpParserError, HttpParserInvalidMethodError

# llhttp's words for a version that it does not know.
INVALID_VERSION = "Invalid HTTP version"
# Its words for the first bytes of HTTP/2 (RFC 9113, 3.4).
PREFACE = "Pause on PRI/Upgrade"
# Its words for a method of RTSP, which it knows too.
OTHER_METHOD = "Invalid method for HTTP/x.x request"
# The line that begins a request (RFC 9112, 3), or as much of it as has come: method, target and
# version. It stands at the beginning, or after a request without content.
_REQUEST_LINE = re.compile(
    rb"""(?: \A (?: \r\n )* | \r\n\r\n )
    ( [!#$%&'*+.^_`|~0-9A-Za-z-]+ )
    (?: \Z | [ ] (?: \Z | [!-~]+ (?: \Z | [ ] (?: H?T?T?P?/?\d?\.? \Z | HTTP/\d\.\d (?: \Z | \r ) ) ) ) )""",
    re.VERBOSE,
)
# The same line whole. It may stand anywhere after a request with content.
_LATER_LINE = re.compile(
    rb"(?<![!#$%&'*+.^_`|~0-9A-Za-z-])([!#$%&'*+.^_`|~0-9A-Za-z-]+) [!-~]+ HTTP/\d\.\d\r",
)
# The methods of RFC 9110 and RFC 5789, all taken by the parser. It takes some forty others, too.
KNOWN = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"})
VERSIONS = "this server speaks HTTP/1.1 and HTTP/1.0"


def head_too_large(limits: LimitsSection) -> Refusal:
    """Return the refusal of a head over one of its limits."""
    detail = f"a head has at most {limits.headers} lines and {limits.head_bytes} bytes"
    return Refusal("head-too-large", detail, close=True)


def unknown_method() -> Refusal:
    """Return the refusal of a method that no server of HTTP has to know (RFC 9110, 9.1)."""
    return Refusal("not-implemented", "no route here has this method", fields=METHODS, close=True)


def refused(error: HttpParserError, data: bytes) -> Refusal | HeadwayError:
    """Return the answer to bytes that the parser, or a callback of ours, did not take.

    ``data`` has the bytes that the parser was fed since a request was complete, or their end. A
    method that no server has is 501 (RFC 9110, 9.1). Bytes that are no method are 400.
    """
    if isinstance(error, HttpParserInvalidMethodError) or str(error) == OTHER_METHOD:
        lines = chain(_REQUEST_LINE.finditer(data), _LATER_LINE.finditer(data.partition(b"\r\n\r\n")[2]))
        if any(line[1] not in KNOWN for line in lines):
            return unknown_method()
        return Refusal("bad-request", "the request line does not begin with a method")
    if isinstance(error.__context__, Refusal | HeadwayError):
        return error.__context__
    if str(error) == INVALID_VERSION or (str(error) == PREFACE and b"PRI * HTTP/2.0\r\n" in data):
        return Refusal("version", VERSIONS)
    return Refusal("bad-request", str(error))
