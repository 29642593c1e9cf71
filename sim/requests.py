"""Requests as bytes: submissions are ready before the run, a poll when its job is created."""

from __future__ import annotations

import json
import random
import re
from importlib.metadata import version
from urllib.parse import urlsplit

from headway.sim.settings import CrowdSettings, SettingsError

# Of the environment, since every user of a machine can read the options of a program.
VARIABLE = "HEADWAY_TOKEN"
_TOKEN = re.compile(r"[!-~]+")


class Requests:
    """The requests of clients, with the header lines that curl would send."""

    def __init__(self, settings: CrowdSettings, poll_fields: bytes, batched: bool, token: str = "") -> None:
        target = settings.target()
        fields = f"Host: {target.authority}\r\nUser-Agent: headway-simulate/{version('headway')}\r\nAccept: */*\r\n"
        if token:
            if not _TOKEN.fullmatch(token):
                raise SettingsError(f"{VARIABLE} is not allowed: expected ASCII characters without spaces")
            fields += f"Authorization: Bearer {token}\r\n"
        # The path that jobs are posted to.
        self.where = f"{target.path}/{'batches' if batched else 'jobs'}"
        self._submit = b"POST %b HTTP/1.1\r\n%bContent-Type: application/json\r\nContent-Length: %%d\r\n\r\n%%b" % (
            self.where.encode(),
            fields.encode(),
        )
        self._poll_end = b" HTTP/1.1\r\n" + fields.encode() + poll_fields + b"\r\n"
        self._jobs = settings.jobs if batched else 0
        task = json.dumps(settings.task)
        self._bodies = [f'{{"task":{task},"payload":{payload}}}'.encode() for payload in settings.payloads()]
        self._submits = [self._submit % (len(body), body) for body in self._bodies]

    def submit(self) -> bytes:
        """Return a request that creates a job, one of those ready, or a batch of some of them."""
        if not self._jobs:
            return random.choice(self._submits)
        body = b"[%b]" % b",".join(random.choices(self._bodies, k=self._jobs))
        return self._submit % (len(body), body)

    def poll(self, location: bytes) -> bytes:
        """Return the request that polls the job or batch at ``location``, named by the server."""
        if not location.startswith(b"/"):
            location = urlsplit(location.decode("latin-1")).path.encode("latin-1")
        return b"HEAD " + location + self._poll_end
