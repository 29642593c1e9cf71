"""The front of an engine with gateways: a Unix socket, at which gateways ask it. Clients see the gateways."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from typing import TYPE_CHECKING

import msgspec
from headway.core.config import Config
from headway.core.interface import Engine
from headway.core.memfile import nameless_file
from headway.core.open import open_links
from headway.protocol import check
from headway.protocol.front import make_first_token
from headway.protocol.process import deploy, parts, signals
from headway.protocol.process.fingerprint import fingerprint
from headway.protocol.process.listener import url_of, warn_of_place
from headway.protocol.process.parts import ServerPart, Teller

if TYPE_CHECKING:
    from headway.core.gateway.links import GatewayLinks

log = logging.getLogger(__name__)


class EngineFront:
    """Lets gateways in, on the socket of ``part``."""

    # Clients wait at the gateways while a deploy goes on.
    keeps_clients = True
    listener = None

    def __init__(self, config: Config, part: ServerPart) -> None:
        check.can_serve(config)
        if config.auth.first_token and config.auth.mode == "tokens":
            make_first_token(config)
        check.closed(config, part.host)
        if part.count != parts.gateways_of(config):
            text = "server.gateways is %s now, but a deploy keeps %d gateways: restart the server for another number"
            log.warning(text, config.server.gateways, part.count)
        if not part.passed:
            warn_of_place(part.host, part.place, config)
        self._config = config
        self._part = part
        self.gateways = part.count
        self._ends = False
        self._teller = Teller(part)
        self._links: GatewayLinks | None = None
        # Whether clients had to have a token once.
        self._asks = config.auth.mode == "tokens" and check.has_tokens(config)
        self.doing = parts.ENGINE_DOING % part.count
        self.linger_s = config.drain_linger

    def open(self, engine: Engine) -> None:
        """Do nothing: gateways come once the engine is there."""

    def accept(self) -> None:
        """Have gateways started. The first of them tell clients that the engine is about to come."""
        self._tell(parts.OPEN, "1")

    def use(self, engine: Engine) -> None:
        """Let gateways in, and leave the rows to an engine that follows a crash."""
        program = fingerprint(self._config)
        self._links = open_links(engine, program)
        self._links.listen(self._part.socket())
        settings = nameless_file("headway-settings")
        with open(settings, "wb", closefd=False) as file:
            file.write(msgspec.json.encode(self._config))
        left = self._links.remains() or ()
        self._tell(parts.PROGRAM, program, (settings, *left))
        for fd in (settings, *left[1:]):
            os.close(fd)

    def stays(self) -> dict[str, str]:
        """Return what a deploy does not change, as variables for its check."""
        return {deploy.HOST_VARIABLE: self._part.host or "", deploy.ASKS_VARIABLE: "1" if self._asks else ""}

    def tick(self) -> None:
        """A second has passed. Without the supervisor nobody would end this process."""
        self._asks |= self._config.auth.mode == "tokens" and check.has_tokens(self._config)
        if self._part.is_orphan and not self._ends:
            # Once: a second signal ends it at once, and the jobs that run with it.
            self._ends = True
            log.error("the supervisor is gone: the engine ends")
            self._part.remove_folder()
            os.kill(os.getpid(), signals.TO_END[0])

    def warn(self) -> None:
        """Log what ``check.exposures`` finds."""
        url = url_of(self._config.server.scheme, self._part.host, self._part.place)
        for line in check.exposures(self._config, self._part.host, url):
            log.warning(line)

    async def leave(self) -> float:
        """Have the gateways keep their calls. Return since when none is answered."""
        since = time.monotonic()
        if self._links is not None:
            await self._links.pause()
            self._links.close()
        return since

    async def close(self) -> None:
        """End all links."""
        if self._links is not None:
            self._links.close()

    def ends(self) -> None:
        """Tell the supervisor that this process means to end."""
        self._tell(parts.ENDS, str(os.getpid()))

    def _tell(self, name: str, value: str, fds: tuple[int, ...] = ()) -> None:
        with contextlib.suppress(OSError):
            self._teller.tell(name, value, fds)
