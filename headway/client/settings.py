"""The address and the token of a server, and the client of httpx2 that is made of them."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import httpx2

from headway.client.errors import NotHeadway, Unavailable
from headway.client.exchange import Lost, Response, Send

DEFAULT_URL = "http://127.0.0.1:8080"
CONNECT_TIMEOUT_S = 10.0
# The server closes a connection that is idle for 75 s (timeouts.idle). The client does so before.
KEEPALIVE_S = 60.0
# Errors of h11 about an end, which a restart causes. Others say that the bytes are not HTTP.
ENDS = ("server disconnected", "peer closed")
# The URL of a server at a Unix socket: the path of the file, with %2F for each slash, for a host.
_SOCKET = re.compile(r"(https?)\+unix://([^/?#@:]+)(/[^?#]*)?")
ALLOWED = "expected http://host:port, https://host or http+unix://%2Frun%2Fheadway.sock"
# The characters that a token may have in a field of HTTP.
_TOKEN = re.compile(r"[!-~]+( +[!-~]+)*")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a client."""

    # Without a slash at the end: as a person knows it, and as requests have it.
    url: str
    sent_url: str
    # The path of a Unix socket, None for TCP.
    socket: str | None
    token: str | None
    # Seconds in which a request may get no useful answer.
    patience_s: float
    # The most connections at once.
    connections: int

    def __repr__(self) -> str:
        return f"Settings({self.url!r})"

    @property
    def headers(self) -> dict[str, str]:
        """Return the fields of every request."""
        fields = {"User-Agent": "headway-client"}
        return fields if self.token is None else fields | {"Authorization": f"Bearer {self.token}"}

    @property
    def limits(self) -> httpx2.Limits:
        """Return the limits of the pool."""
        return httpx2.Limits(
            max_connections=self.connections,
            max_keepalive_connections=self.connections,
            keepalive_expiry=KEEPALIVE_S,
        )

    @property
    def verify(self) -> ssl.SSLContext | bool:
        """Return how the server's certificate is checked. False for plain HTTP: to load CAs takes 20 to 40 ms.

        The CAs are those of the system, or of SSL_CERT_FILE. The client's own certificate, if the
        server asks for one, is in the file that HEADWAY_CERTIFICATE names. Raises ValueError.
        """
        if self.sent_url.startswith("http://"):
            return False
        try:
            context = httpx2.create_ssl_context()
        except OSError as error:
            raise ValueError(f"SSL_CERT_FILE is not allowed: expected a file of CAs in PEM ({error})") from None
        file = os.environ.get("HEADWAY_CERTIFICATE")
        if file:
            try:
                context.load_cert_chain(file)
            except OSError as error:
                text = f"HEADWAY_CERTIFICATE={file!r} is not allowed: expected a certificate and its key in PEM"
                raise ValueError(f"{text} ({error})") from None
        return context

    def client(self) -> httpx2.Client:
        """Return the client of httpx2. Raises ValueError."""
        if self.socket is None:
            return httpx2.Client(limits=self.limits, verify=self.verify)
        transport = httpx2.HTTPTransport(uds=self.socket, limits=self.limits, verify=self.verify)
        return httpx2.Client(transport=transport)

    def async_client(self) -> httpx2.AsyncClient:
        """Return the client of httpx2 for asyncio. Raises ValueError."""
        if self.socket is None:
            return httpx2.AsyncClient(limits=self.limits, verify=self.verify)
        transport = httpx2.AsyncHTTPTransport(uds=self.socket, limits=self.limits, verify=self.verify)
        return httpx2.AsyncClient(transport=transport)


def settings(url: str | None, token: str | None, patience: float, connections: int) -> Settings:
    """Return the settings, from HEADWAY_URL and HEADWAY_TOKEN if they are left out."""
    url = url or os.environ.get("HEADWAY_URL") or DEFAULT_URL
    sent_url, socket = _places(url)
    if connections < 2:
        raise ValueError(f"connections={connections} is not allowed: expected 2 or more")
    if not patience >= 0:
        raise ValueError(f"patience={patience} is not allowed: expected 0 or more seconds")
    name, token = ("token=", token) if token else ("HEADWAY_TOKEN", os.environ.get("HEADWAY_TOKEN") or None)
    if token is not None and not _TOKEN.fullmatch(token):
        # Without the token, which is a secret.
        raise ValueError(f"{name} is not allowed: expected ASCII characters in one line, without spaces around them")
    return Settings(url.rstrip("/"), sent_url, socket, token=token, patience_s=patience, connections=connections)


def _places(url: str) -> tuple[str, str | None]:
    """Return the URL that requests have, and the path of a Unix socket or None. Raises ValueError."""
    found = _SOCKET.fullmatch(url)
    if found:
        # The name of the host is only told.
        return f"{found[1]}://localhost{found[3] or ''}".rstrip("/"), unquote(found[2])
    try:
        parts = urlsplit(url)
        # Above 65,535 it raises ValueError.
        parts.port  # noqa: B018
        httpx2.URL(url)
    except (ValueError, httpx2.InvalidURL) as error:
        raise ValueError(f"url={url!r} is not allowed: {ALLOWED} ({error})") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"url={url!r} is not allowed: {ALLOWED}")
    return url.rstrip("/"), None


def timeout(send: Send) -> httpx2.Timeout:
    """Return the times that a request may take. Its turn in the pool may take any, unless it says so."""
    connect_s = CONNECT_TIMEOUT_S if send.most_s is None else min(CONNECT_TIMEOUT_S, send.most_s)
    return httpx2.Timeout(connect_s, read=send.read_timeout_s, write=send.read_timeout_s, pool=send.most_s)


def response(answer: httpx2.Response) -> Response:
    """Return an answer without what is httpx2's."""
    return Response(answer.status_code, headers_of(answer), answer.content)


def headers_of(answer: httpx2.Response) -> dict[str, str]:
    """Return the headers of an answer."""
    return {name.lower(): value for name, value in answer.headers.items()}


def lost(error: httpx2.RequestError, url: str) -> Lost:
    """Return the error for a request that got no answer."""
    text = " ".join(str(error).split()).removesuffix(".") or type(error).__name__
    if isinstance(error, httpx2.RemoteProtocolError) and not text.lower().startswith(ENDS):
        return Lost(f"{url} does not speak HTTP ({text}): is this a Headway?", NotHeadway)
    if isinstance(error, httpx2.LocalProtocolError):
        return Lost(f"the request cannot be sent ({text}): check the http= of the client", ValueError)
    if isinstance(error, httpx2.ReadTimeout):
        return Lost(f"{url} did not answer in time", late=True)
    if isinstance(error, httpx2.PoolTimeout):
        return Lost("all connections of this client are in use: see connections=")
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return Lost(f"cannot reach {url}: {text}: is its CA in the file that SSL_CERT_FILE names?", Unavailable)
    if isinstance(error, httpx2.RemoteProtocolError):
        # A server of TLS ends connections so, too.
        or_else = "ask for the certificate in HEADWAY_CERTIFICATE" if url.startswith("https") else "speak https"
        return Lost(f"cannot reach {url}: {text}: does it restart, or {or_else}?")
    tls = "[SSL" in text or "certificate" in text.lower()
    return Lost(f"cannot reach {url}: {text}", Unavailable if tls else None)
