"""The settings of a run, checked once: each field is a setting, its rule stands beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from urllib.parse import urlsplit

# The schemes of a server's URL, with their ports.
PORTS = {"http": 80, "https": 443}
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}

# name: (least, most, unit or description).
RANGES: dict[str, tuple[float, float, str]] = {
    "clients": (1, 1_000_000, "clients"),
    "jobs": (1, 1_000, "jobs at a time for each client"),
    "connections": (0, 1_000_000, "connections, or 0 for one each"),
    "duration": (0, 86_400 * 30, "seconds, or 0 for no end"),
    "spread": (0, 3_600, "seconds"),
    "timeout": (0.01, 3_600, "seconds"),
    "patience": (0.1, 3_600, "seconds"),
}


class SettingsError(Exception):
    """A setting cannot be used. The text is one line for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the server is."""

    host: str
    port: int
    # Before /jobs, without a slash at its end.
    path: str
    scheme: str = "http"

    @property
    def authority(self) -> str:
        """Return the value of the Host header line."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Return the URL as a person would write it."""
        return f"{self.scheme}://{self.authority}{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CrowdSettings:
    """A run of the simulator: times in seconds, text as in an option. Raises SettingsError."""

    url: str = "http://127.0.0.1:8080"
    clients: int = 500
    jobs: int = 3
    # An interval (1s, 250ms, …) or one of the names in policies.py.
    poll: str = "1s"
    duration: float = 60.0
    # Seconds over which the clients come.
    spread: float = 1.0
    # 0: a connection for each client, or for each job if answers wait.
    connections: int = 0
    task: str = "sleep"
    # JSON. None: {"seconds": x} with x from ``job_seconds``.
    payload: str | None = None
    # Seconds, or least-most: evenly spread between them.
    job_seconds: str = "1-5"
    # For a connection to be made, and for an answer.
    timeout: float = 10.0
    # How long to go on with errors and without a single answer, before the server counts as gone.
    patience: float = 5.0

    def __post_init__(self) -> None:
        for name, (least, most, what) in RANGES.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise SettingsError(f"{name}: {value:.10g} is not allowed: expected {least:.10g} to {most:.10g} {what}")
        if not self.task:
            raise SettingsError("task: '' is not allowed: expected the name of a task")
        self.target()
        self.payloads()

    def target(self) -> Target:
        """Take the URL apart."""
        try:
            url = urlsplit(self.url)
            port = url.port
        except ValueError as error:
            raise SettingsError(f"url: {self.url!r} is not allowed: {error}") from None
        if url.scheme not in PORTS or not url.hostname or url.query or url.fragment or url.username:
            raise SettingsError(f"url: {self.url!r} is not allowed: expected http://host:port or https://host")
        if not (url.path.isascii() and url.path.isprintable() and " " not in url.path):
            raise SettingsError(f"url: {self.url!r} is not allowed: its path is not percent-encoded")
        return Target(host=url.hostname, port=port or PORTS[url.scheme], path=url.path.rstrip("/"), scheme=url.scheme)

    def payloads(self) -> list[str]:
        """Return the payloads to choose from, JSON."""
        if self.payload is None:
            least, most = _span(self.job_seconds)
            # So many that they look continuous.
            return [json.dumps({"seconds": round(least + (most - least) * (i + 0.5) / 256, 4)}) for i in range(256)]
        try:
            json.loads(self.payload)
        except ValueError as error:
            raise SettingsError(f"payload: {self.payload!r} is not JSON: {error}") from None
        return [self.payload]

    def as_dict(self) -> dict[str, object]:
        """Return the settings by name."""
        return asdict(self)


def read(given: Mapping[str, object]) -> CrowdSettings:
    """Return settings from config.yaml and the command line. None stands for the default."""
    names = {field.name for field in fields(CrowdSettings)}
    unknown = given.keys() - names
    if unknown:
        raise SettingsError(f"{min(unknown)}: unknown; allowed here: {', '.join(sorted(names))}")
    values = {name: value for name, value in given.items() if value is not None}
    for name in ("duration", "spread", "timeout", "patience"):
        if name in values:
            values[name] = seconds(name, str(values[name]))
    return CrowdSettings(**values)  # type: ignore[arg-type]  # config.yaml and the command line have checked the types


def seconds(name: str, text: str) -> float:
    """Return ``text`` (250ms, 1.5s, 2m, 60, …) in seconds. Raises SettingsError with ``name``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text.strip())
    if match is None:
        raise SettingsError(f"{name}: {text!r} is not allowed: expected a time such as 250ms, 60s or 2m")
    return float(match[1]) * _UNITS[match[2]]


def _span(text: str) -> tuple[float, float]:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)?))?", text)
    least, most = (float(match[1]), float(match[2] or match[1])) if match else (1.0, 0.0)
    if least > most or most > 86_400:
        raise SettingsError(f"job_seconds: {text!r} is not allowed: expected seconds such as 2, 0.5 or 1-5")
    return least, most
