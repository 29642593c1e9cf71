"""Certificates for tests, made by openssl: a CA, and what it signs."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


@dataclass(frozen=True)
class Certificate:
    """The files of a certificate and its key."""

    certificate: Path
    key: Path

    @property
    def both(self) -> Path:
        """A file with both."""
        path = self.certificate.with_suffix(".both.pem")
        path.write_text(self.certificate.read_text() + self.key.read_text())
        path.chmod(0o600)
        return path


class Authority:
    """A CA in ``folder``. Skips the test where openssl is not installed."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.own = self._files(name)
        _openssl(
            "req", "-x509", *EC, "-keyout", self.own.key, "-out", self.own.certificate, "-days", "2", "-subj", "/CN=ca"
        )

    @property
    def file(self) -> Path:
        """The file of the CA."""
        return self.own.certificate

    def sign(self, name: str, days: int = 2) -> Certificate:
        """Make a certificate for 127.0.0.1 and localhost, whose serial number is new."""
        made = self._files(name)
        wanted, names = self._folder / f"{name}.csr", self._folder / "names"
        names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
        _openssl("req", "-new", *EC, "-keyout", made.key, "-out", wanted, "-subj", f"/CN={name}")
        ours = ["-CA", str(self.own.certificate), "-CAkey", str(self.own.key), "-CAcreateserial"]
        _openssl("x509", "-req", "-in", wanted, *ours, "-days", str(days), "-extfile", names, "-out", made.certificate)
        made.key.chmod(0o600)
        return made

    def context(self, client: Certificate | None = None) -> ssl.SSLContext:
        """Return the context of a client that trusts this CA."""
        context = ssl.create_default_context(cafile=self.file)
        if client is not None:
            context.load_cert_chain(client.certificate, client.key)
        return context

    def _files(self, name: str) -> Certificate:
        return Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
