"""How much one client may ask for: GCRA, in constant time and bounded memory.

A client may submit, or poll, ``quota`` times in a row. It regains used quota evenly over ``window``
seconds. So in any t seconds it is let in at most quota + quota / window * t times. One number is
kept for each client: the moment at which it will have regained everything (the theoretical arrival
time of ITU-T I.371, annex A). A client that has regained everything need not be remembered.

There are two dicts, of the clients seen in this window and of those seen in the window before. At
the end of a window the older dict is dropped. All its clients have regained everything by then, so
nothing is forgiven. A dict takes CLIENTS_MOST clients. Clients that are new to a window after that
share one place. So a crowd of made-up addresses takes no more memory, and nobody's count is
forgotten for it. But it can use up the share of those that come after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from headway.core.config import Config
from headway.protocol.access.clients import Clients
from headway.protocol.http.problems import Refusal, retry_after_lines, whole_seconds
from headway.protocol.http.request import SENDING, Request

# The most bytes that a rate keeps of a client: its keys, its times and its entries, in all three
# dicts.
CLIENT_BYTES = 512
CLIENTS_MOST = 1 << 15
# The place of clients beyond CLIENTS_MOST. No client has this key.
CROWD = b"crowd"
# Before the name of a token, in the place of a client's address.
TOKEN = b"token of "
# The names of the rates.
SUBMIT, POLL = "submit", "poll"
# A part of a quota. Without it, a quota regained to the last bit would be refused for a rounding
# error.
SLACK = 1e-9
# Moments that are no further apart are the same one, rounded.
SAME_S = 0.002

# Returns in how many seconds, the given ones or a little later, there is room for one more request,
# and takes that room.
Promise = Callable[[float], float]


class Rate:
    """A limit on each client: ``quota`` times at once, and as often again in ``window`` seconds."""

    def __init__(self, name: str, quota: int, window: int, clients_most: int = CLIENTS_MOST) -> None:
        self.name = name
        self.quota = quota
        self.window = window
        self.policy = b'RateLimit-Policy: "%b";q=%d;w=%d\r\n' % (name.encode(), quota, window)
        self._clients_most = clients_most
        # When each client will have regained everything, of time.monotonic.
        self._recent: dict[bytes, float] = {}
        self._before: dict[bytes, float] = {}
        # When refused clients were asked to come back, of time.monotonic.
        self._promised: dict[bytes, float] = {}
        # When the window ends.
        self._window_end = 0.0

    def __len__(self) -> int:
        return len(self._recent) + len(self._before)

    def admit(self, client: bytes, count: int, now: float) -> tuple[int, float]:
        """Let ``client`` in ``count`` times, or not at all.

        Returns how many milliseconds it has to wait, 0 if it was let in, and how many seconds
        remain until it has regained everything. If it does nothing meanwhile, it is let in after
        the wait.
        """
        if now >= self._window_end:
            self._begin_window(now)
        recent = self._recent
        if client not in recent and len(recent) >= self._clients_most:
            client = CROWD
        milliseconds, whole_at = self.after(recent.get(client) or self._before.get(client, 0.0), count, now)
        if not milliseconds:
            recent[client] = whole_at
        return milliseconds, whole_at - now

    def after(self, whole_at: float, count: int, now: float) -> tuple[int, float]:
        """Return what ``admit`` finds for a client that has regained everything at ``whole_at``.

        That is how many milliseconds it has to wait, 0 if it is let in, and when it will have
        regained everything then.
        """
        whole_at = max(whole_at, now)
        after = whole_at + count * self.window / self.quota
        if after - now > self.window * (1 + SLACK):
            return int((after - now - self.window) * 1000) + 1, whole_at
        return 0, after

    def promised_ms(self, client: bytes, milliseconds: int, now: float, promise: Promise) -> int:
        """Return when ``client`` has to come back: in ``milliseconds``, or a little later.

        A client has one promise at a time. One that asks again and again takes no room from others.
        """
        due = now + milliseconds / 1000
        at = self._promised.get(client, 0.0)
        if at < due - SAME_S:
            if len(self._promised) >= self._clients_most:
                self._promised.clear()
            at = self._promised[client] = now + promise(milliseconds / 1000)
        return max(int((at - now) * 1000), milliseconds)

    def give_back(self, client: bytes, now: float) -> None:
        """Undo one admission of ``client`` a moment ago."""
        if client not in self._recent:
            client = CROWD
        if client in self._recent:
            self._recent[client] = max(self._recent[client] - self.window / self.quota, now)

    def left(self, until_whole: float) -> int:
        """Return how often a client is let in now. It regains all in ``until_whole`` seconds."""
        return int(self.quota * (1 - until_whole / self.window + SLACK))

    def _begin_window(self, now: float) -> None:
        self._before = self._recent if now < self._window_end + self.window else {}
        self._recent = {}
        self._window_end = now + self.window


class Limits:
    """The limits on submitting and on polling, each None if there is none."""

    def __init__(
        self, config: Config, clients: Clients, promise: Promise, make: Callable[[str, int, int], Rate]
    ) -> None:
        self._promise = promise
        rates = config.rates
        self._clients = clients
        self.submits = make(SUBMIT, rates.submits, rates.submits_window) if rates.submits else None
        self.polls = make(POLL, rates.polls, rates.polls_window) if rates.polls else None

    def check(self, request: Request, limited: bool) -> None:
        """Let a request in. Raises Refusal. ``limited`` is false for a route without limits."""
        request.allowance = b""
        if not limited:
            return
        rate = self.submits if request.method in SENDING else self.polls
        if rate is not None:
            self._admit(rate, request, 1)

    def batch(self, request: Request, count: int) -> None:
        """Let a client submit ``count`` jobs, after ``check`` has counted one. Raises Refusal."""
        if self.submits is None:
            return
        if count > self.submits.quota:
            raise Refusal("batch-over-rate", f"send at most {self.submits.quota} jobs at once: rates.submits")
        self.submits.give_back(self._key(request), time.monotonic())
        self._admit(self.submits, request, count)

    def _key(self, request: Request) -> bytes:
        """Return whose requests are counted: the token's, or else the client's."""
        name = request.caller.name
        # A key of an address is shorter than this.
        return TOKEN + name.encode() if name else self._clients.key(request.peer, request.headers)

    def _admit(self, rate: Rate, request: Request, count: int) -> None:
        client = self._key(request)
        now = time.monotonic()
        milliseconds, until_whole = rate.admit(client, count, now)
        if not milliseconds:
            state = b'RateLimit: "%b";r=%d;t=%d\r\n' % (
                rate.name.encode(),
                rate.left(until_whole),
                -(-until_whole // 1),
            )
            request.allowance = rate.policy + state
            return
        milliseconds = rate.promised_ms(client, milliseconds, now, self._promise)
        seconds = whole_seconds(milliseconds)
        state = b'RateLimit: "%b";r=%d;t=%d\r\n' % (rate.name.encode(), rate.left(until_whole), seconds)
        raise Refusal(
            "rate",
            f"one client may {rate.name} {rate.quota} times in {rate.window} s: try again in {milliseconds / 1000:g} s",
            fields=retry_after_lines(milliseconds) + rate.policy + state,
        )


def limits(
    config: Config, clients: Clients, promise: Promise, make: Callable[[str, int, int], Rate] = Rate
) -> Limits | None:
    """Return the limits, None for none. ``promise`` says when a refused client comes back.

    ``make`` makes a rate of its name, quota and window.
    """
    return Limits(config, clients, promise, make) if config.rates.submits or config.rates.polls else None
