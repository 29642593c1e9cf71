"""The settings: frozen structs, as they are read from their sources (see config_sources).

Each field of the structs below is one setting. Its annotation is the whole rule of what is allowed,
so no second place checks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from headway.core.durability import Durability
from msgspec import Meta

# The journal of a server whose settings name none. A relative path lies in the folder that systemd
# gives to the service (StateDirectory=, systemd.exec), else in the current one.
DEFAULT_JOURNAL = "headway.db"
STATE_VARIABLE = "STATE_DIRECTORY"

Count = Annotated[int, Meta(ge=1, le=1 << 31)]
Bytes = Annotated[int, Meta(ge=0, le=1 << 40)]
Seconds = Annotated[float, Meta(ge=0, le=86_400 * 365)]
Duration = Annotated[float, Meta(gt=0, le=86_400 * 365)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A group of settings."""


def in_state(path: str, environment: Mapping[str, str]) -> Path:
    """Return the path of a file that is kept: relative to the service's folder in ``environment``, if it has one."""
    # Several folders are joined by colons. The first is the service's own.
    return Path(environment.get(STATE_VARIABLE, "").partition(":")[0], path)


FilePath = Annotated[str, Meta(min_length=1)]


class TlsSection(Section, frozen=True):
    """The files of TLS, in PEM. Without a certificate the server speaks plain HTTP."""

    certificate: FilePath | None = None
    key: FilePath | None = None
    client_ca: FilePath | None = None


# Octal, as of chmod.
_MODE = r"^0?[0-7]{3}\Z"


class ServerSection(Section, frozen=True):
    """The address of the server."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    socket: FilePath | None = None
    socket_mode: Annotated[str, Meta(pattern=_MODE, description='octal digits in quotes, such as "0660"')] = "0660"
    # An int of C, as listen(2) has it.
    backlog: Annotated[int, Meta(ge=1, le=(1 << 31) - 1)] = 4096
    tls: TlsSection = TlsSection()
    proxy_protocol: bool = False
    gateways: Literal["auto"] | Annotated[int, Meta(ge=0, le=1024)] = 0

    @property
    def scheme(self) -> str:
        """The scheme of its URLs."""
        return "http" if self.tls.certificate is None else "https"


class QueueSection(Section, frozen=True):
    """The bounds on waiting jobs (scheduled, queued, retrying), and on payloads.

    ``max_bytes`` bounds the payloads of waiting and running jobs together. ``target_wait``, in
    seconds, is what Workers-Wanted goes by.
    """

    size: Annotated[int, Meta(ge=1, le=10_000_000)] = 10_000
    max_bytes: Bytes = 256 * 1024 * 1024
    target_wait: Annotated[float, Meta(ge=0.001, le=86_400)] = 10.0


KeptJobs = Annotated[int, Meta(ge=0, le=100_000_000)]


class OutcomeSection(Section, frozen=True):
    """How long the status of a job with one outcome can be read. None: as of all outcomes."""

    jobs: KeptJobs | None = None
    seconds: Duration | None = None


class RetentionSection(Section, frozen=True):
    """How long the status of a finished job can be read: of each outcome that names nothing else.

    Failed jobs are kept for at least a week then (core/retention.py).
    """

    jobs: KeptJobs = 100_000
    seconds: Duration = 3600.0
    succeeded: OutcomeSection = OutcomeSection()
    failed: OutcomeSection = OutcomeSection()
    cancelled: OutcomeSection = OutcomeSection()


class JournalSection(Section, frozen=True):
    """The file that keeps jobs on disk, and how safely. Without a path jobs are in memory only."""

    path: Annotated[str, Meta(min_length=1)] | None = DEFAULT_JOURNAL
    sync: Literal["full", "normal"] = "full"

    @property
    def durability(self) -> Durability:
        """What a 202 promises under these settings."""
        if self.path is None:
            return "memory"
        return "disk" if self.sync == "full" else "process"

    def file(self, environment: Mapping[str, str]) -> Path | None:
        """Return the path of the journal, None for none. Relative to a folder in ``environment``, if one is."""
        return None if self.path is None else in_state(self.path, environment)


class IdempotencySection(Section, frozen=True):
    """How long an idempotency key is known."""

    seconds: Duration = 86_400.0
    keys: Count = 100_000


class EventsSection(Section, frozen=True):
    """How many events are kept for clients that come back, and how many clients read them."""

    streams: Annotated[int, Meta(ge=1, le=1_000_000)] = 1_000
    kept: Annotated[int, Meta(ge=1, le=10_000_000)] = 10_000


class ResultsSection(Section, frozen=True):
    """The byte budgets of results and of logs."""

    max_bytes: Bytes = 64 * 1024 * 1024
    max_result_bytes: Bytes = 8 * 1024 * 1024
    log_bytes: Annotated[int, Meta(ge=1024, le=1 << 24)] = 64 * 1024
    log_max_bytes: Bytes = 32 * 1024 * 1024


class AttemptsSection(Section, frozen=True):
    """The byte budget of failed attempts."""

    max_bytes: Bytes = 16 * 1024 * 1024


class JobsSection(Section, frozen=True):
    """The defaults of a job whose task and submission do not set these."""

    run_in: Literal["thread", "process"] = "thread"
    timeout: Duration = 300.0
    retries: Annotated[int, Meta(ge=0, le=1000)] = 0
    backoff: Duration = 1.0
    backoff_max: Duration = 60.0


SystemName = Annotated[str, Meta(min_length=1)]


class ProcessesAsSection(Section, frozen=True):
    """The user of the system that worker processes run as, and its group. None: that of the server."""

    user: SystemName | None = None
    group: SystemName | None = None


class ProcessLimitsSection(Section, frozen=True):
    """The share of the machine that a worker process has, by setrlimit. 0 means no limit."""

    memory: Annotated[int, Meta(ge=0, le=1 << 50)] = 0
    cpu: Annotated[int, Meta(ge=0, le=86_400 * 365)] = 0
    files: Annotated[int, Meta(ge=0, le=1 << 30)] = 0
    core: bool = False


class WatchdogSection(Section, frozen=True):
    """When a stalled loop is logged."""

    stall: Seconds = 1.0


class LimitsSection(Section, frozen=True):
    """Limits on sizes and counts: of requests, connections, memory and lost threads."""

    request_line_bytes: Annotated[int, Meta(ge=64, le=1 << 20)] = 8192
    head_bytes: Annotated[int, Meta(ge=256, le=1 << 20)] = 16_384
    headers: Annotated[int, Meta(ge=4, le=10_000)] = 100
    body_bytes: Annotated[int, Meta(ge=64, le=1 << 30)] = 1_048_576
    connections: Count = 16_000
    connections_per_address: Annotated[int, Meta(ge=0, le=1 << 31)] = 0
    waiting: Annotated[int, Meta(ge=0, le=1 << 31)] = 12_000
    unanswered_bytes: Bytes = 64 * 1024 * 1024
    untaken_bytes: Bytes = 256 * 1024 * 1024
    lost_threads: Annotated[int, Meta(ge=0, le=10_000)] = 16


class TimeoutsSection(Section, frozen=True):
    """Seconds that a client may take."""

    head: Duration = 10.0
    body: Duration = 30.0
    idle: Duration = 75.0
    write: Duration = 30.0


# A path without escapes and without the segments . and .., which clients take out of a URL.
_BASE_PATH = r"^(/|(/(?!\.\.?(/|\Z))[A-Za-z0-9._~-]+)+/?)\Z"


class HttpSection(Section, frozen=True):
    """Choices about the protocol."""

    base_path: Annotated[str, Meta(pattern=_BASE_PATH, description="a path such as / or /headway")] = "/"

    failed_status: Literal[424, 200] = 424
    wait_most: Annotated[int, Meta(ge=0, le=600)] = 30
    trusted_proxies: tuple[str, ...] = ()
    client_header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"

    cors_origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    @property
    def base(self) -> str:
        """The path before that of each route: empty, or as ``/headway``."""
        return self.base_path.rstrip("/")


class AuthSection(Section, frozen=True):
    """Who may ask. ``auth: none`` is short for ``auth: {mode: none}``."""

    mode: Literal["tokens", "none"] = "tokens"
    tokens: Annotated[str, Meta(min_length=1)] = "headway-tokens.yaml"
    first_token: bool = False
    reads: Literal["id", "token"] = "id"

    def file(self, environment: Mapping[str, str]) -> Path:
        """Return the path of the tokens. Relative to a folder in ``environment``, if one is."""
        return in_state(self.tokens, environment)


class AuditSection(Section, frozen=True):
    """How many changes of clients the audit log has. 0: none."""

    kept: Annotated[int, Meta(ge=0, le=10_000_000)] = 10_000


# The sections for which one word will do, and the setting that it sets.
SHORT: dict[type[Section], str] = {AuthSection: "mode"}


class PollingSection(Section, frozen=True):
    """How many polls the server promises to answer."""

    capacity: Annotated[int, Meta(ge=1, le=10_000_000)] = 10_000
    share: Annotated[float, Meta(gt=0, le=1)] = 0.5


class RatesSection(Section, frozen=True):
    """How much one client may ask for. 0 means no limit."""

    submits: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    submits_window: Annotated[int, Meta(ge=1, le=86_400)] = 1
    polls: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    polls_window: Annotated[int, Meta(ge=1, le=86_400)] = 1


class LogSection(Section, frozen=True):
    """The level and the form of the log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "plain", "json"] = "auto"
    access: bool = False


class SimulationSection(Section, frozen=True):
    """The defaults of ``headway simulate``; its command line overrides them."""

    url: str | None = None
    clients: Annotated[int, Meta(ge=1, le=1_000_000)] = 500
    jobs: Annotated[int, Meta(ge=1, le=1_000)] = 3
    poll: str = "1s"
    duration: Annotated[float, Meta(ge=0, le=86_400 * 30)] = 60.0
    spread: Annotated[float, Meta(ge=0, le=3600)] = 1.0
    connections: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    task: Annotated[str, Meta(min_length=1)] = "sleep"
    payload: str | None = None
    job_seconds: str = "1-5"
    timeout: Annotated[float, Meta(ge=0.01, le=3600)] = 10.0
    patience: Annotated[float, Meta(ge=0.1, le=3600)] = 5.0


class Config(Section, frozen=True):
    """All settings, in the order of config.yaml."""

    server: ServerSection = ServerSection()
    workers: Annotated[int, Meta(ge=1, le=100_000)] = 32
    queue: QueueSection = QueueSection()
    retention: RetentionSection = RetentionSection()
    # The URL of a store that many nodes share. None: jobs stay with this process, and in its journal.
    engine: Annotated[str, Meta(min_length=1)] | None = None
    journal: JournalSection = JournalSection()
    idempotency: IdempotencySection = IdempotencySection()
    events: EventsSection = EventsSection()
    results: ResultsSection = ResultsSection()
    attempts: AttemptsSection = AttemptsSection()
    jobs: JobsSection = JobsSection()
    processes: Annotated[int, Meta(ge=1, le=1000)] = 2
    max_jobs_per_process: Annotated[int, Meta(ge=0, le=1 << 31)] = 0
    max_memory_per_process: Bytes = 0
    processes_as: ProcessesAsSection = ProcessesAsSection()
    process_limits: ProcessLimitsSection = ProcessLimitsSection()
    tasks: tuple[str, ...] = ()
    drain_timeout: Seconds = 30.0
    drain_linger: Seconds = 1.0
    watchdog: WatchdogSection = WatchdogSection()
    limits: LimitsSection = LimitsSection()
    timeouts: TimeoutsSection = TimeoutsSection()
    http: HttpSection = HttpSection()
    auth: AuthSection = AuthSection()
    audit: AuditSection = AuditSection()
    polling: PollingSection = PollingSection()
    rates: RatesSection = RatesSection()
    log: LogSection = LogSection()
    simulation: SimulationSection = SimulationSection()
