"""Which program a process is, so that parts of one server can tell whether they are of the same."""

from __future__ import annotations

import sys
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import msgspec
from headway.core.config import Config


def fingerprint(config: Config) -> str:
    """Return 16 hex digits that stand for the settings, our code, the Python, and the certificates.

    Task modules do not count: gateways do not import them.
    """
    digest = blake2b(digest_size=8)
    digest.update(msgspec.json.encode(config))
    digest.update(sys.version.encode())
    # The package is a folder of links in a checkout.
    for folder in ("core", "protocol"):
        home = Path(str(sys.modules[f"headway.{folder}"].__file__)).parent
        for path in sorted(home.rglob("*.py")):
            digest.update(f"{path}{path.stat().st_mtime_ns}".encode())
    for file in (config.server.tls.certificate, config.server.tls.key, config.server.tls.client_ca):
        with suppress(OSError):
            if file is not None:
                digest.update(Path(file).read_bytes())
    return digest.hexdigest()
