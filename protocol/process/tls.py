"""TLS: the context of new connections, made of the files that the settings name.

The files are looked at once a second. A change counts once it has held for a second, so that a
certificate and its key may be replaced one after the other. If the new files cannot be used, the
context stays as it was. Open connections keep the certificate with which they began.

TLS 1.2 and 1.3, with forward secrecy and authenticated ciphers only: the clients of the last ten
years. A look takes some 10 µs, and a change some 3 ms of the loop (make bench-tls).
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NoReturn

from headway.core.config import TlsSection
from headway.core.errors import ConfigError
from headway.core.files import content

log = logging.getLogger(__name__)

# Of TLS 1.2. Those of TLS 1.3 are all good.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
PROTOCOLS = ["http/1.1"]
# The beginnings of a certificate and of a private key in PEM.
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_KEY = b"PRIVATE KEY-----"
_FIRST = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
# Tags of ASN.1: the version of a certificate, and its times by their form.
_VERSION = 0xA0
_TIMES = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}
# OpenSSL's words.
_MISMATCH = "KEY_VALUES_MISMATCH"

# Of each file: device, inode, size and time of its last change, None if there is no file.
Stamp = tuple[int, int, int, int] | None


class Tls:
    """The present context, ``context``. Raises ConfigError if the files cannot be used."""

    def __init__(self, section: TlsSection) -> None:
        self._section = section
        # Of the files as they were read, and as they were seen last.
        self._read = self._seen = self._stamps()
        self.context = context(section)

    def tick(self) -> None:
        """A second has passed: read the files again if they have changed."""
        stamps = self._stamps()
        if stamps != self._seen:
            self._seen = stamps
        elif stamps != self._read:
            self._read = stamps
            try:
                self.context = context(self._section)
            except ConfigError as error:
                log.error("the certificate of before stays in use: %s", error)
            else:
                log.info("new connections get the certificate that is in %s now", self._section.certificate)
                for line in remarks(self._section):
                    log.warning(line)

    def _stamps(self) -> list[Stamp]:
        return [_stamp(path) for path in (self._section.certificate, self._section.key, self._section.client_ca)]


def tls_of(section: TlsSection) -> Tls | None:
    """Return what the settings ask for, None for plain HTTP. Raises ConfigError."""
    return None if section == TlsSection() else Tls(section)


def context(section: TlsSection) -> ssl.SSLContext:
    """Return the context of a server with these files. Raises ConfigError."""
    certificate, key = section.certificate, section.key
    if certificate is None:
        alone = "key" if key else "client_ca"
        raise ConfigError(f"server.tls.{alone}: has no use without server.tls.certificate: name that too")
    if _CERTIFICATE not in _content("certificate", certificate):
        raise ConfigError(f"server.tls.certificate: {certificate} has no certificate in PEM")
    if _KEY not in _content("key", key or certificate):
        hint = "" if key else ": name the file of the key"
        raise ConfigError(f"server.tls.key: {key or certificate} has no private key in PEM{hint}")
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    made.set_ciphers(CIPHERS)
    made.set_alpn_protocols(PROTOCOLS)
    try:
        made.load_cert_chain(certificate, key, lambda: _refuse_passphrase(key or certificate))
    except ssl.SSLError as error:
        if error.reason == _MISMATCH:
            raise ConfigError(f"server.tls.key: {key} is not the key of {certificate}") from None
        raise ConfigError(
            f"server.tls.certificate: {_named(section)} cannot be used: {error.reason or error}"
        ) from None
    except OSError as error:
        # It was there a moment ago.
        raise ConfigError(f"server.tls.certificate: {_named(section)} cannot be read: {error.strerror}") from None
    if section.client_ca is not None:
        _content("client_ca", section.client_ca)
        try:
            made.load_verify_locations(section.client_ca)
        except ssl.SSLError:
            raise ConfigError(f"server.tls.client_ca: {section.client_ca} has no certificate in PEM") from None
        made.verify_mode = ssl.CERT_REQUIRED
    return made


def open_to_all(section: TlsSection) -> str | None:
    """Return the file of the private key if any user of this machine can read it, else None."""
    path = section.key or section.certificate
    try:
        return path if path is not None and os.stat(path).st_mode & stat.S_IROTH else None
    except OSError:
        return None


def invalid_now(section: TlsSection, now: datetime | None = None) -> str | None:
    """Return a line if the certificate of the server is not valid ``now``, None if it is, or cannot be read."""
    try:
        begin, end = validity(content(section.certificate or ""))
    except (OSError, ValueError, IndexError):
        return None
    now = now or datetime.now(UTC)
    if begin <= now <= end:
        return None
    how = f"has expired at {end:%Y-%m-%d %H:%M}Z" if now > end else f"is not valid before {begin:%Y-%m-%d %H:%M}Z"
    return f"server.tls.certificate: the certificate in {section.certificate} {how}, so clients will refuse it"


def remarks(section: TlsSection) -> Iterator[str]:
    """Yield a line about a key that any user can read, and one about a certificate that is not valid now."""
    key = open_to_all(section)
    if key is not None:
        yield exposed_key(key)
    untimely = invalid_now(section)
    if untimely is not None:
        yield untimely


def validity(pem: bytes) -> tuple[datetime, datetime]:
    """Return the times from and until which the first certificate in ``pem`` is valid (RFC 5280, 4.1).

    Raises ValueError or IndexError if it cannot be read.
    """
    found = _FIRST.search(pem)
    if found is None:
        raise ValueError("no certificate")
    ((_, whole),) = _elements(ssl.PEM_cert_to_DER_cert(found[0].decode()))
    (_, signed), *_ = _elements(whole)
    # The version may be left out. The serial number, the algorithm and the issuer come before the times.
    members = [content for tag, content in _elements(signed) if tag != _VERSION]
    begin, end = (
        datetime.strptime(text.decode(), _TIMES[tag]).replace(tzinfo=UTC) for tag, text in _elements(members[3])
    )
    return begin, end


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the content of each element of DER (X.690, 8.1) that follow each other."""
    while der:
        tag, length, begin = der[0], der[1], 2
        if length & 0x80:
            begin += length & 0x7F
            length = int.from_bytes(der[2:begin], "big")
        yield tag, der[begin : begin + length]
        der = der[begin + length :]


def exposed_key(path: str) -> str:
    """Return the warning about a private key that any user can read."""
    return f"server.tls.key: any user here can read {path}: chmod o-r it"


def _named(section: TlsSection) -> str:
    return f"{section.certificate} and {section.key}" if section.key else f"{section.certificate}"


def _content(name: str, path: str) -> bytes:
    try:
        return content(path)
    except OSError as error:
        raise ConfigError(f"server.tls.{name}: {path} cannot be read: {error.strerror}") from None


def _refuse_passphrase(path: str) -> NoReturn:
    raise ConfigError(f"server.tls.key: {path} has a passphrase: take it off by openssl pkey -in {path} -out …")


def _stamp(path: str | None) -> Stamp:
    if path is None:
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
