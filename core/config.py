"""A file of settings, HEADWAY_* variables and options of a command, read into frozen structs.

Each field of the structs below is one setting. Its annotation is the whole rule of what is allowed,
so no second place checks it. An unusable setting raises ConfigError with one line that names the
key, the value and the values allowed.

A variable overrides the file: section and key joined by two underscores, the value read as YAML
(``HEADWAY_SERVER__PORT=9001``, ``HEADWAY_TASKS='[my.tasks]'``), and so is a section within a section
(``HEADWAY_RETENTION__FAILED__JOBS=500``). A text is taken as it stands, unless it is quoted or null:
``HEADWAY_SERVER__HOST=::``. A variable without two underscores that is
no name of a top-level setting is not ours: beside a Kubernetes service called ``headway`` there is
``HEADWAY_PORT=tcp://…``. An option overrides both, its value read in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard, TypeVar, get_type_hints

import msgspec
from headway.core.durability import Durability
from headway.core.errors import ConfigError
from headway.core.faults import allowed, faults, member_types
from msgspec import Meta, inspect

PREFIX = "HEADWAY_"
# The path of the file. It is no setting: the command line reads it.
CONFIG_VARIABLE = "HEADWAY_CONFIG"
# The setting of each option.
OPTIONS = {
    "--tasks": "tasks",
    "--host": "server.host",
    "--port": "server.port",
    "--workers": "workers",
    "--engine": "engine",
}
# The journal of a server whose settings name none. A relative path lies in the folder that systemd
# gives to the service (StateDirectory=, systemd.exec), else in the current one.
DEFAULT_JOURNAL = "headway.db"
STATE_VARIABLE = "STATE_DIRECTORY"
# May have a password: no message shows its value.
UNSHOWN = "engine"
# Null in YAML.
NULLS = frozenset({"", "~", "null", "Null", "NULL"})
# A list of texts. None is quoted, and none is a list itself.
_PLAIN_LIST = re.compile(r"""\[([^\[\]{}'"#\n]*)\]""")

Count = Annotated[int, Meta(ge=1, le=1 << 31)]
Bytes = Annotated[int, Meta(ge=0, le=1 << 40)]
Seconds = Annotated[float, Meta(ge=0, le=86_400 * 365)]
Duration = Annotated[float, Meta(gt=0, le=86_400 * 365)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A group of settings."""


Of = TypeVar("Of", bound=Section)


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
    """Sizes above which a request is refused."""

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


def load(
    path: Path | None, environment: Mapping[str, str], options: Mapping[str, Sequence[str]] | None = None
) -> Config:
    """Read the settings from ``path`` (None: defaults only), then from ``environment`` and ``options``.

    An option is a name of OPTIONS with its values: a list takes all of them, else the last counts.
    Raises ConfigError, one line, at the first setting that cannot be used.
    """
    config = Config()
    if path is not None:
        config = _merge(config, _read(path), str(path))
    for name, section, key, text in _variables(environment):
        config = _merge(config, _set(name, Config, section, key, text), name)
    for name, texts in (options or {}).items():
        if texts:
            config = _merge(config, _option(name, texts), name)
    return config if config.engine is None else _shared(config)


def _shared(config: Config) -> Config:
    """Return the settings of a node whose jobs are in a shared store: it has no journal.

    Raises ConfigError if they name one.
    """
    if config.journal.path not in (None, DEFAULT_JOURNAL):
        raise ConfigError(
            f"journal.path: {config.journal.path!r} is not used beside engine, whose store keeps the jobs: "
            "leave one of the two out"
        )
    return msgspec.structs.replace(config, journal=msgspec.structs.replace(config.journal, path=None))


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not YAML: {_one_line(error)}") from None
    settings = _yaml(text, f"{path}:")
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: must be a mapping of sections, as config.yaml is")
    return settings


def ignored(environment: Mapping[str, str]) -> list[str]:
    """Return the names of variables that begin like settings but are none."""
    ours = {name for name, *_ in _variables(environment)} | {CONFIG_VARIABLE}
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in ours)


def _variables(environment: Mapping[str, str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield (name, section, key, text) of each variable that is, or is meant as, a setting."""
    for name in sorted(environment):
        section, joint, key = name.removeprefix(PREFIX).lower().partition("__")
        if name.startswith(PREFIX) and name != CONFIG_VARIABLE and (joint or section in Config.__struct_fields__):
            yield name, section, key, environment[name]


def _set(name: str, within: type[Section], field: str, rest: str, text: str) -> dict[str, Any]:
    """Return ``field`` of a section with its new value, from the variable ``name``.

    ``rest`` is the place within the field if that is a section itself, else empty.
    """
    kind = get_type_hints(within, include_extras=True).get(field)
    if rest:
        if not _is_section(kind):
            # No such setting. The fault names the place as it was written.
            return {field: {rest: _read_variable(name, None, text)}}
        inner, joint, more = rest.partition("__")
        if joint and not _is_section(get_type_hints(kind).get(inner)):
            inner, more = rest, ""
        return {field: _set(name, kind, inner, more, text)}
    if not _is_section(kind):
        return {field: _read_variable(name, kind, text, is_secret=field == UNSHOWN)}
    value = _read_variable(name, None, text)
    if not isinstance(_spelled_out(kind, value), dict):
        names = ", ".join(f"{name}__{inner.upper()}" for inner in get_type_hints(kind))
        raise ConfigError(f"{name}: {text!r} is not allowed: {field} is a section; set {names}")
    return {field: value}


def _spelled_out(kind: type[Section], value: Any) -> Any:
    """Return the value of a section whose one word stands for its first setting: ``auth: none``."""
    return {SHORT[kind]: value} if kind in SHORT and isinstance(value, str) else value


def _is_section(kind: Any) -> TypeGuard[type[Section]]:
    return isinstance(kind, type) and issubclass(kind, Section)


def _option(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """Return the settings that the option ``name`` makes of its values."""
    section, _, key = OPTIONS[name].partition(".")
    if name == "--tasks":
        items = [item.strip() for text in texts for item in text.split(",")]
        if not all(items):
            raise ConfigError(
                f"{name}: {','.join(texts)!r} is not allowed: expected names of modules, with commas between"
            )
        return {section: items}
    return _set(name, Config, section, key, texts[-1])


def _read_variable(name: str, kind: Any, text: str, *, is_secret: bool = False) -> Any:
    """Return the value of a setting of type ``kind``. A text stands as it is, all else is YAML."""
    plain = text.strip()
    if not plain and kind is not None:
        raise ConfigError(f"{name}: is empty: leave the variable out for the default, or write null for none")
    info = inspect.type_info(kind)
    if _is_text(info) and plain[:1] not in ("'", '"') and plain not in NULLS:
        return int(plain) if _is_number(info) and plain.isdecimal() else plain
    if isinstance(info, inspect.VarTupleType) and (found := _PLAIN_LIST.fullmatch(plain)):
        items = [item.strip() for item in found[1].split(",")]
        if all(items):
            return items
    try:
        return _yaml(text, f"{name}: {text!r}")
    except ConfigError:
        if not is_secret:
            raise
        raise ConfigError(f"{name}: is not YAML: write the URL without quotes") from None


def _yaml(text: str, source: str) -> Any:
    """Return the value of a YAML text; raises ConfigError, which begins with ``source``, where it is none."""
    # 5 ms, for nothing where no file and no variable is read.
    import yaml

    try:
        return yaml.load(text, Loader=_loader())  # noqa: S506 — it is a safe one
    # The latter for a variable that is not UTF-8.
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        raise ConfigError(f"{source} is not YAML: {_one_line(error)}") from None


@cache
def _loader() -> Any:
    """Return a safe loader that takes no name twice in a mapping, and numbers such as 1e-3, as YAML 1.2 does."""
    import yaml

    # libyaml, where PyYAML was built with it, reads config.yaml in 1 ms, SafeLoader in 4.
    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc, valid-type]  # which one is not known before
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            names = set()
            for name, _ in node.value:
                if isinstance(name, yaml.ScalarNode) and (name.tag, name.value) in names:
                    raise yaml.constructor.ConstructorError(None, None, f"{name.value!r} stands twice", name.start_mark)
                names.add((name.tag, name.value))
            found: dict[Any, Any] = super().construct_mapping(node, deep)
            return found

    number = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+\Z")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    return Loader


def _is_text(info: inspect.Type) -> bool:
    options = info.types if isinstance(info, inspect.UnionType) else (info,)
    return any(
        isinstance(option, inspect.StrType)
        or (isinstance(option, inspect.LiteralType) and isinstance(option.values[0], str))
        for option in options
    )


def _is_number(info: inspect.Type) -> bool:
    return isinstance(info, inspect.UnionType) and any(isinstance(option, inspect.IntType) for option in info.types)


def _merge(config: Config, settings: dict[str, Any], source: str) -> Config:
    """Return ``config`` with ``settings`` laid over it."""
    for field, fault in _faults(Config, settings):
        told = f"is not allowed: expected {allowed(Config, field)}" if field == UNSHOWN else fault
        raise ConfigError(f"{source}: {field}: {told}")
    return _laid_over(config, settings)


def _faults(kind: type[Section], settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    types = get_type_hints(kind)
    for name, value in settings.items():
        inner = types.get(name)
        if not _is_section(inner):
            yield from faults(kind, {name: value}, prefix)
        elif isinstance(members := _spelled_out(inner, value) or {}, dict):
            yield from _faults(inner, members, f"{prefix}{name}.")
        else:
            allowed = ", ".join(get_type_hints(inner))
            yield f"{prefix}{name}", f"{value!r} is not allowed: expected a section with {allowed}"


def _laid_over(section: Of, settings: dict[str, Any]) -> Of:
    changed: dict[str, Any] = {}
    for name, value in settings.items():
        current = getattr(section, name)
        if isinstance(current, Section):
            changed[name] = _laid_over(current, _spelled_out(type(current), value) or {})
        else:
            changed[name] = msgspec.convert(value, member_types(type(section))[name])
    return msgspec.structs.replace(section, **changed)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
