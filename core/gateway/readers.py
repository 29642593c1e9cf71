"""The readers of events at a gateway. When the engine has started again, each of them is read for anew."""

from __future__ import annotations

import asyncio

from headway.core.errors import HeadwayError
from headway.core.events import EventFilter
from headway.core.gateway import wire
from headway.core.gateway.calls import OpenCalls
from headway.core.gateway.feeds import SeenFeed, SentFeed, decode
from headway.core.interface import Feed, Later
from headway.core.later import Opening

# Seconds until a reader for whom the engine has no place is asked for again.
AGAIN_S = 1.0


class SeenReaders:
    """All readers, whose events are asked for by ``calls``, and again after ``again_s`` if there is no place."""

    def __init__(self, calls: OpenCalls, again_s: float = AGAIN_S) -> None:
        self._calls = calls
        self._again_s = again_s
        # By the number of the call that asked for the events.
        self._feeds: dict[int, tuple[SeenFeed, EventFilter]] = {}

    def watch(self, wanted: EventFilter, after: int | None) -> Later[Feed]:
        """Return events, as Engine says. Raises EngineRestartsError."""
        asked = self._calls.ask("watch", (wanted, after))
        return Opening(asked, lambda sent: self._begin(asked.number, wanted, sent))

    def put(self, number: int, message: bytes) -> None:
        """Take the events that came under ``number``."""
        if number in self._feeds:
            self._feeds[number][0].put(decode(message))

    def again(self) -> None:
        """Ask this engine for the events of all readers."""
        feeds, self._feeds = self._feeds, {}
        for feed, wanted in feeds.values():
            self._ask_again(feed, wanted)

    def _begin(self, number: int, wanted: EventFilter, sent: SentFeed) -> SeenFeed:
        feed = SeenFeed(sent.place, resumed=sent.resumed)
        self._keep(number, wanted, feed)
        if sent.first is not None:
            feed.put(sent.first.portion())
        return feed

    def _keep(self, number: int, wanted: EventFilter, feed: SeenFeed) -> None:
        """Have the engine's events under ``number`` come to ``feed``."""
        self._feeds[number] = feed, wanted
        feed.come_from(lambda: self._calls.send(wire.TAKEN, number), lambda: self._close(number))

    def _close(self, number: int) -> None:
        if self._feeds.pop(number, None) is not None:
            self._calls.send(wire.CANCEL, number)

    def _ask_again(self, feed: SeenFeed, wanted: EventFilter) -> None:
        if not feed.is_open:
            return
        try:
            asked = self._calls.ask("watch", (wanted, None))
        except HeadwayError:
            self._ask_later(feed, wanted)
            return

        def told() -> None:
            try:
                sent = asked.value()
            except HeadwayError:
                self._ask_later(feed, wanted)
                return
            if feed.is_open:
                self._keep(asked.number, wanted, feed)
                feed.begin_again(sent.place)
            else:
                self._calls.send(wire.CANCEL, asked.number)

        asked.when_known(told)

    def _ask_later(self, feed: SeenFeed, wanted: EventFilter) -> None:
        asyncio.get_running_loop().call_later(self._again_s, self._ask_again, feed, wanted)
