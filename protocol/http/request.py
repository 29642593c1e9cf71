"""One HTTP request, filled by the parser's callbacks.

httptools (llhttp, strict) reads the bytes. It lets some messages through that RFC 9112 does not
allow. A callback refuses them here, by raising Refusal: no or two Hosts, a method of another
protocol, content in HEAD, a Transfer-Encoding other than ``chunked``, a POST without a length. It
refuses everything over the limits of config.yaml, too. These are the limits of nginx and Apache.
tests/protocol/conformance has the messages that are refused and those that are taken.

One object reads for a connection as long as it lives. An answer is made of a ``copy``, since it may wait
while the next request is read.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import NamedTuple

from headway.core.config import LimitsSection
from headway.protocol.http.caller import NOBODY, Caller
from headway.protocol.http.grammar import ABSOLUTE, is_host, normalized, preference
from headway.protocol.http.malformed import KNOWN, VERSIONS, head_too_large, unknown_method
from headway.protocol.http.problems import METHODS, Refusal
from httptools import HttpRequestParser

# The header fields that any route looks at. All others are counted and dropped.
KEPT = frozenset(
    {
        b"accept",
        b"authorization",
        b"accept-encoding",
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"content-type",
        b"content-encoding",
        b"connection",
        b"upgrade",
        b"expect",
        b"prefer",
        b"if-match",
        b"if-none-match",
        b"if-range",
        b"range",
        b"idempotency-key",
        b"last-event-id",
        b"traceparent",
        b"origin",
        b"sec-fetch-site",
        b"forwarded",
        b"x-forwarded-for",
    }
)
SINGLE = frozenset(
    {b"authorization", b"host", b"content-length", b"content-type", b"transfer-encoding", b"idempotency-key"}
)
# Methods whose content has limits by its route, and a length that has to be given.
SENDING = frozenset({b"POST", b"PUT"})
FRAMING = frozenset({b"connection", b"content-length", b"transfer-encoding", b"upgrade"})
# Bytes of each header line besides its name and value: colon, space, CR, LF.
LINE_BYTES = 4
# Those that a route may have, or may refuse.
_ROUTED = KNOWN - {b"CONNECT"}
# The address of a client that has none, because it came by a Unix socket.
UNIX_PEER = "unix"


class ContentLimit(NamedTuple):
    """The most bytes of content, and the setting that says so."""

    most_bytes: int
    setting: str


class Request:
    """A client's request.

    ``limit_of`` is called for a head that content follows, ``expects`` for a head with an Expect,
    ``ready`` at the end of a request.
    """

    __slots__ = (
        "_content",
        "_expects",
        "_head_bytes",
        "_header_count",
        "_limit_of",
        "_ready",
        "_trusted_host",
        "_usual_limit",
        "allowance",
        "begun",
        "body",
        "body_bytes",
        "caller",
        "fields",
        "head_done",
        "headers",
        "keep_alive",
        "limit",
        "limits",
        "method",
        "parser",
        "peer",
        "peer_is_named",
        "target",
        "version",
    )

    def __init__(
        self,
        limits: LimitsSection,
        limit_of: Callable[[Request], ContentLimit],
        expects: Callable[[Request], None],
        ready: Callable[[Request], None],
    ) -> None:
        self.limits = limits
        self._usual_limit = self.limit = ContentLimit(limits.body_bytes, "limits.body_bytes")
        self._limit_of = limit_of
        self._expects = expects
        self._ready = ready
        self._trusted_host = b""
        self.parser = HttpRequestParser(self)
        # The client's address.
        self.peer = ""
        # Whether a proxy for TCP has told the address.
        self.peer_is_named = False
        # Header lines with the client's remaining quota. Empty if nothing is limited.
        self.allowance = b""
        self.caller: Caller = NOBODY
        # Header lines of the answer that depend on the origin of the client's page. Empty if the
        # settings name none.
        self.fields = b""
        # A request has begun and is not complete.
        self.begun = False
        self.head_done = False
        self.method = b""
        # As sent until the head is complete, then in origin form (RFC 9112, 3.2.1).
        self.target = b""
        # Lower-case name to value, for the fields that any route looks at.
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.keep_alive = True
        self.version = "1.1"
        # Bytes for as long as the content came in one piece. BytesIO gives them without a copy.
        self._content: bytes | BytesIO = b""
        # Bytes of the content so far.
        self.body_bytes = 0
        self._head_bytes = 0
        self._header_count = 0

    def restart(self) -> bytes:
        """Begin with a new parser. Return the head as if it had no Upgrade (RFC 9110, 7.8)."""
        lines = [b"%b: %b\r\n" % item for item in self.headers.items() if item[0] not in (b"upgrade", b"connection")]
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        self.parser = HttpRequestParser(self)
        return b"%b %b HTTP/%b\r\n%b\r\n" % (self.method, self.target, self.version.encode(), b"".join(lines))

    def drop(self) -> None:
        """Keep nothing of the request: it is answered, or will not be."""
        self._content = self.body = self.target = b""
        self.headers = {}

    def end(self) -> None:
        """Read no more. The parser and the connection, which refer to this request, can go at once."""
        self.drop()
        del self.parser, self._expects, self._ready

    def copy(self) -> Request:
        """Return a request with all of this one that an answer needs. It is not read into."""
        made = object.__new__(Request)
        # One by one: ``copy.copy`` takes 60 times as long.
        made.allowance, made.body, made.caller = self.allowance, self.body, self.caller
        made.fields, made.headers, made.keep_alive, made.limit = self.fields, self.headers, self.keep_alive, self.limit
        made.method, made.peer, made.peer_is_named = self.method, self.peer, self.peer_is_named
        made.target, made.version = self.target, self.version
        return made

    def poll(self, target: bytes) -> Request:
        """Return a HEAD of ``target`` from the client of this one, of which the parser has read nothing."""
        made = self.copy()
        made.method, made.target, made.version = b"HEAD", target, "1.1"
        return made

    @property
    def has_content(self) -> bool:
        """Whether the head says that content follows (RFC 9112, 6)."""
        return b"transfer-encoding" in self.headers or self.headers.get(b"content-length", b"").strip(b"0") != b""

    def preference(self, name: bytes) -> bytes | None:
        """Return a preference's value (RFC 7240), empty if it has none, None if it is absent."""
        return preference(self.headers.get(b"prefer", b""), name)

    # The parser calls these, in this order.

    def on_message_begin(self) -> None:
        """A request line begins."""
        self.begun = True
        self.head_done = False
        self.limit = self._usual_limit
        self.target = self.body = b""
        self.headers = {}
        self._head_bytes = self._header_count = 0

    def on_url(self, piece: bytes) -> None:
        """Some or all of the request target."""
        self.target += piece
        if len(self.target) > self.limits.request_line_bytes:
            raise Refusal(
                "target-too-long",
                f"a request line has at most {self.limits.request_line_bytes} bytes",
                close=True,
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line, or a trailer after a chunked body, which only counts."""
        self._head_bytes += len(name) + len(value) + LINE_BYTES
        self._header_count += 1
        if self._head_bytes > self.limits.head_bytes or self._header_count > self.limits.headers:
            raise head_too_large(self.limits)
        name = name.lower()
        if self.head_done:
            # The parser would act on these. Others are trailers that nobody here reads.
            if name in FRAMING:
                raise Refusal("bad-request", f"{name.decode()} cannot be a trailer (RFC 9110, 6.5.1)", close=True)
        elif name in KEPT:
            # The parser leaves white space after a value (RFC 9110, 5.5).
            value = value.rstrip(b" \t")
            if name not in self.headers:
                self.headers[name] = value
            elif name in SINGLE:
                raise Refusal("bad-request", f"two header lines {name.decode()}", close=True)
            else:
                self.headers[name] += b", " + value

    def on_headers_complete(self) -> None:
        """The head is complete. Refuse an ambiguous or too large message before reading content."""
        parser = self.parser
        self.head_done = True
        self.method = parser.get_method()
        self.version = parser.get_http_version()
        self.keep_alive = parser.should_keep_alive()
        headers = self.headers
        if self.version != "1.1":
            self._check_version()
        if self.method not in _ROUTED:
            self._check_method()
        host = headers.get(b"host")
        if host != self._trusted_host or host is None:
            self._check_host(host)
        if self.target[:1] != b"/":
            self._check_target()
        if b"%" in self.target or b"#" in self.target:
            self.target = normalized(self.target)
        if b"upgrade" in headers and parser.should_upgrade():
            return
        if len(headers) > 1 or self.method in SENDING or host is None:
            self._check_framing()
            if b"expect" in headers:
                self._expects(self)

    def on_body(self, piece: bytes) -> None:
        """Some or all of the content."""
        self.body_bytes += len(piece)
        if self.body_bytes > self.limit.most_bytes:
            raise self._too_large()
        if not self._content:
            self._content = piece
            return
        if isinstance(self._content, bytes):
            first, self._content = self._content, BytesIO()
            self._content.write(first)
        self._content.write(piece)

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self._content:
            self.body = self._content if isinstance(self._content, bytes) else self._content.getvalue()
            self._content = b""
            self.body_bytes = 0
        if b"upgrade" in self.headers and self.parser.should_upgrade():
            return
        self.begun = False
        self._ready(self)

    # Checks of a head: each raises the Refusal of a fault that it finds.

    def _check_version(self) -> None:
        if self.version != "1.0":
            raise Refusal("version", VERSIONS, close=True)
        # The parser keeps a connection that is to be kept and closed (RFC 9112, 9.3), or that
        # Proxy-Connection is about.
        options = [option.strip() for option in self.headers.get(b"connection", b"").lower().split(b",")]
        self.keep_alive = self.keep_alive and b"keep-alive" in options and b"close" not in options

    def _check_method(self) -> None:
        if self.method != b"CONNECT":
            raise unknown_method()
        # The parser would go on as in a tunnel, whatever the target.
        raise Refusal("method", "this server is no proxy", fields=METHODS, close=True)

    def _check_host(self, host: bytes | None) -> None:
        if host is None:
            if self.version == "1.1":
                raise Refusal("bad-request", "HTTP/1.1 requires a Host header line (RFC 9112, 3.2)", close=True)
        elif not is_host(host):
            raise Refusal("bad-request", "the Host header line is not a host and a port", close=True)
        else:
            self._trusted_host = host

    def _check_target(self) -> None:
        """Accept the absolute form, whose host counts (RFC 9112, 3.2.2), and the asterisk of OPTIONS (3.2.4)."""
        absolute = ABSOLUTE.match(self.target)
        if absolute:
            host = absolute[1]
            if host[:1] in (b"", b":") or not is_host(host):
                raise Refusal("bad-request", "the host of the request target is not a host and a port", close=True)
            self.headers[b"host"] = host
            rest = self.target[absolute.end() :]
            self.target = rest if rest.startswith(b"/") else b"/" + rest
        elif self.target != b"*" or self.method != b"OPTIONS":
            raise Refusal("bad-request", "the request target is neither a path nor an http URL", close=True)

    def _check_framing(self) -> None:
        length = self.headers.get(b"content-length")
        coding = self.headers.get(b"transfer-encoding")
        if coding is not None:
            if self.version == "1.0":
                raise Refusal("bad-request", "HTTP/1.0 has no Transfer-Encoding (RFC 9112, 6.1)", close=True)
            *others, last = (name.strip() for name in coding.lower().split(b","))
            if last != b"chunked" or b"chunked" in others:
                raise Refusal(
                    "bad-request", "Transfer-Encoding does not end with one chunked (RFC 9112, 6.3)", close=True
                )
            if b"" in others:
                raise Refusal("bad-request", "Transfer-Encoding has an empty coding", close=True)
            if others:
                raise Refusal("not-implemented", "the only Transfer-Encoding here is chunked", close=True)
        elif length is None and self.method in SENDING:
            raise Refusal("length-required", "send Content-Length or Transfer-Encoding: chunked", close=True)
        if self.method in SENDING:
            self.limit = self._limit_of(self)
        if length is not None and int(length) > self.limit.most_bytes:
            raise self._too_large()
        if self.method == b"HEAD" and (coding is not None or (length is not None and int(length))):
            raise Refusal("bad-request", "a HEAD request has no content", close=True)

    def _too_large(self) -> Refusal:
        limit = self.limit
        detail = f"the content has at most {limit.most_bytes} bytes here ({limit.setting})"
        return Refusal("too-large", detail, close=True)
