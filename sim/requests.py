"""Requests as bytes: those that submit are ready before the run, one that polls is ready when its job is created."""

from __future__ import annotations

import json
import random
from importlib.metadata import version
from urllib.parse import urlsplit

from headway.sim.settings import Settings


class Requests:
    """What clients send, with the header lines that curl would send."""

    def __init__(self, settings: Settings, poll_fields: bytes) -> None:
        target = settings.target()
        self._prefix = target.path.encode()
        fields = f"Host: {target.authority}\r\nUser-Agent: headway-simulate/{version('headway')}\r\nAccept: */*\r\n"
        self._fields = fields.encode()
        self._poll_end = b" HTTP/1.1\r\n" + self._fields + poll_fields + b"\r\n"
        self._submits = [self._submit(settings.task, payload) for payload in settings.payloads()]

    def submit(self) -> bytes:
        """Return a request that creates a job, one of those there are."""
        return random.choice(self._submits)

    def poll(self, location: bytes) -> bytes:
        """Return the request that asks how the job at ``location``, as the server named it, is."""
        if not location.startswith(b"/"):
            location = urlsplit(location.decode("latin-1")).path.encode("latin-1")
        return b"HEAD " + location + self._poll_end

    def _submit(self, task: str, payload: str) -> bytes:
        body = b'{"task":%b,"payload":%b}' % (json.dumps(task).encode(), payload.encode())
        return b"POST %b/jobs HTTP/1.1\r\n%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
            self._prefix,
            self._fields,
            len(body),
            body,
        )
