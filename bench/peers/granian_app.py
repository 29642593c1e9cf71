"""Granian with its own interface, RSGI, and no framework: the leanest that Python has on a server of Rust."""

import json
from typing import Any

from bench.peers.jobs import Jobs, accepted

jobs = Jobs()


async def app(scope: Any, protocol: Any) -> None:
    """POST /jobs and HEAD /jobs/{id}."""
    if scope.method == "HEAD" and scope.path.startswith("/jobs/"):
        code, headers = jobs.headers(scope.path[6:])
        protocol.response_empty(code, list(headers.items()))
    elif scope.method == "POST" and scope.path == "/jobs":
        wanted = json.loads(await protocol())
        job_id = jobs.submit(wanted["task"], wanted.get("payload"))
        if job_id is None:
            protocol.response_empty(422, [])
            return
        headers = accepted(job_id) | {"Content-Type": "application/json"}
        protocol.response_str(202, list(headers.items()), json.dumps({"id": job_id, "state": "queued"}))
    else:
        protocol.response_empty(404, [])
