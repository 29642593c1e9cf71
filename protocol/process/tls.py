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
import ssl
import stat
from pathlib import Path
from typing import NoReturn

from headway.core.config import TlsSection
from headway.core.errors import ConfigError

log = logging.getLogger(__name__)

# Of TLS 1.2. Those of TLS 1.3 are all good.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
PROTOCOLS = ["http/1.1"]
# The beginnings of a certificate and of a private key in PEM.
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_KEY = b"PRIVATE KEY-----"
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


def exposed_key(path: str) -> str:
    """Return the warning about a private key that any user can read."""
    return f"server.tls.key: any user here can read {path}: chmod o-r it"


def _named(section: TlsSection) -> str:
    return f"{section.certificate} and {section.key}" if section.key else f"{section.certificate}"


def _content(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
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
