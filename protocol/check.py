"""The checks of a configuration before serving: ``--check``, and the beginning of a start.

Every start runs ``usable``. ``--check`` runs ``faults``, which also looks at the journal and the
port. A start would find out about those by itself, and a running server has them in its own hands.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from socket import socket

from headway.core.config import Config
from headway.core.errors import WAYS_OUT, ConfigError, JournalError
from headway.core.open import check_confinement, check_journal, check_memory, check_store, check_worker
from headway.core.task import Lane
from headway.core.tasks.registry import REGISTRY, add_working_directory, load
from headway.protocol.access.clients import Clients
from headway.protocol.access.hosts import Hosts
from headway.protocol.access.origins import Origins
from headway.protocol.access.tokens import Tokens, emptied, too_open
from headway.protocol.process import deploy, listener, systemd, tls
from headway.protocol.process.listener import Listener

NO_TASKS = "no tasks: name the modules that declare them: --tasks shop, or tasks: [shop] in headway.yaml"


def usable(config: Config) -> None:
    """Read the networks, origins and users, and import the task modules.

    Raises ConfigError if one cannot be used.
    """
    _networks(config)
    check_confinement(config)
    _tasks(config)


def can_serve(config: Config) -> None:
    """Look at the certificates, and at the proxies of the PROXY protocol. Raises ConfigError."""
    tls.tls_of(config.server.tls)
    if config.server.proxy_protocol and config.server.socket is None and not config.http.trusted_proxies:
        raise ConfigError(
            "server.proxy_protocol: nobody is trusted to send the header: name the proxies in http.trusted_proxies"
        )


def can_have_gateways(config: Config) -> None:
    """Raise ConfigError if a node of a shared queue is to have gateways."""
    if config.engine is not None and config.server.gateways:
        raise ConfigError(
            "server.gateways: with engine, start more nodes instead: each reads the shared queue by itself"
        )


def closed(config: Config, address: str | None) -> None:
    """Raise ConfigError if a server at ``address`` would let in other machines, and asks nobody for a token.

    None is a Unix socket.
    """
    if config.auth.mode == "none":
        return
    tokens = _tokens(config)
    if not (address is None or tokens or config.auth.first_token or is_loopback(address)):
        raise ConfigError(
            f"server.host: {address} lets other machines in, and there are no tokens: make one with headway token add "
            "NAME --scope submit,read, or let anyone in with auth: none"
        )


def faults(config: Config, *, serves: bool = True) -> Iterator[str]:
    """Yield a line for each reason why a node could not start here with ``config``. It may have no HTTP.

    A check for a deploy leaves the port out, because the running server holds it.
    """
    passed: socket | None = None
    if serves:
        try:
            # A start takes it as well, before any code of a task runs.
            passed = systemd.activated(os.environ)
        except ConfigError as error:
            yield str(error)
    looks: list[Callable[[Config], None]] = (
        [
            *(_networks, can_serve, can_have_gateways, lambda config: _closed(config, passed)),
            *(_first_token, check_confinement, check_memory, _journal, _store),
        ]
        if serves
        else [shared, check_confinement, _store]
    )
    if serves and passed is None:
        looks.append(_port)
    looks += [_tasks, _worker]
    if deploy.looked_at(os.environ):
        looks = [look for look in looks if look is not _port]
        looks[looks.index(_tasks)] = _tasks_after_deploy
        try:
            config = deploy.after_deploy(config, os.environ)
        except ConfigError as error:
            yield str(error)
    for look in looks:
        try:
            look(config)
        except (ConfigError, JournalError) as error:
            yield str(error)


def shared(config: Config) -> None:
    """Raise ConfigError if no other node could share the queue, so that jobs come only over HTTP."""
    if config.engine is None:
        raise ConfigError(
            "engine: headway work needs a store that nodes share: headway work --engine valkey://localhost:6379/0. "
            "A server alone is headway serve"
        )


def remarks(config: Config, *, serves: bool = True) -> Iterator[str]:
    """Yield a line for each thing that allows a start and that nobody is likely to want."""
    if not REGISTRY.tasks:
        yield NO_TASKS
    if serves:
        server = config.server
        yield from exposures(config, server.host if server.socket is None else None, server.host)


def exposures(config: Config, host: str | None, where: str) -> Iterator[str]:
    """Yield a line for each way in which others may come, or read a secret, that nobody is likely to want.

    The socket is on ``host``, None for a Unix socket. A person knows it as ``where``.
    """
    anyone = config.auth.mode == "none"
    if anyone and host is not None and not is_loopback(host):
        yield beyond_loopback(where)
    yield from tls.remarks(config.server.tls)
    if not anyone:
        tokens = config.auth.file(os.environ)
        # A start makes the first token.
        yield from filter(None, (too_open(tokens), None if config.auth.first_token else emptied(tokens)))


def beyond_loopback(where: str) -> str:
    """Return the warning about a server that other machines can reach."""
    return f"anyone who can reach {where} may submit jobs, read and cancel those of a known id: see docs/security.md"


def is_loopback(host: str) -> bool:
    """Whether ``host``, an address or ``localhost``, can be reached from this machine only."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _networks(config: Config) -> None:
    Clients(config.http.trusted_proxies, config.http.client_header)
    Origins(config.http.cors_origins)
    Hosts(config.http.hosts)


def has_tokens(config: Config) -> bool:
    """Whether there is a token. A file that cannot be read counts for one."""
    try:
        return bool(_tokens(config))
    except ConfigError:
        return True


def _tokens(config: Config) -> Tokens:
    return Tokens(config.auth.file(os.environ), ids_tell=config.auth.reads == "id")


def _closed(config: Config, passed: socket | None) -> None:
    """Check that a start, or a deploy on the present socket, lets in nobody who had to have a token before.

    ``passed``: systemd listens on it.
    """
    if passed is not None:
        host = Listener(passed, True).host
    else:
        host = os.environ.get(deploy.HOST_VARIABLE, "" if config.server.socket is not None else config.server.host)
    if os.environ.get(deploy.ASKS_VARIABLE) and config.auth.mode == "tokens" and not _tokens(config):
        raise ConfigError(
            f"auth.tokens: {config.auth.file(os.environ)} has no token any more, so everyone on this machine would be "
            "let in: headway token add NAME --scope submit,read, or auth: none"
        )
    closed(config, host or None)


def _first_token(config: Config) -> None:
    """Check that the file can be made of which a start makes the first token."""
    auth = config.auth
    path = auth.file(os.environ)
    if auth.mode == "none" or not auth.first_token or path.exists():
        return
    folder = path.resolve().parent
    if not os.access(folder, os.W_OK | os.X_OK):
        why = "cannot be written" if folder.is_dir() else "is not a folder"
        raise ConfigError(
            f"auth.tokens: {path}: {folder} {why}, so auth.first_token makes none: name a file in one that can be"
        )


def _tasks(config: Config) -> None:
    add_working_directory()
    load(config.tasks)
    REGISTRY.arounds.check(REGISTRY.tasks, Lane(config.jobs.run_in))


def _tasks_after_deploy(config: Config) -> None:
    _tasks(config)
    deploy.check_tasks(REGISTRY.by_name, os.environ)


def _worker(config: Config) -> None:
    """Start a worker process if a task needs one."""
    try:
        check_confinement(config)
    except ConfigError:
        # It has been told.
        return
    check_worker(config, REGISTRY)


def _port(config: Config) -> None:
    listener.look(config)


def _store(config: Config) -> None:
    """Reach the store, if there is one, and look at its layout."""
    if config.engine is not None:
        check_store(config)


def _journal(config: Config) -> None:
    """Check that the journal is one, or that it can be made.

    Raises ConfigError, or JournalError if it is another file or of another version.
    """
    path = config.journal.file(os.environ)
    if path is None:
        return
    folder = path.parent
    if not folder.is_dir():
        why = "not a folder" if folder.exists() else "missing"
        raise ConfigError(f"journal.path: {folder} is {why}. {WAYS_OUT}")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigError(
            f"journal.path: cannot create files in {folder.absolute()}, and a journal is several. {WAYS_OUT}"
        )
    if path.is_dir():
        raise ConfigError(f"journal.path: {path} is a folder: name a file")
    if path.exists():
        if not os.access(path, os.R_OK | os.W_OK):
            raise ConfigError(f"journal.path: {path} cannot be read and written")
        check_journal(path)
