"""aiohttp, on uvloop and its own server; started with a port."""

import sys

import uvloop
from aiohttp import web

from bench.measure import HOST
from bench.peers.jobs import Jobs, accepted

jobs = Jobs()


async def submit(request: web.Request) -> web.Response:
    """POST /jobs."""
    wanted = await request.json()
    job_id = jobs.submit(wanted["task"], wanted.get("payload"))
    if job_id is None:
        return web.Response(status=422)
    return web.json_response({"id": job_id, "state": "queued"}, status=202, headers=accepted(job_id))


async def status(request: web.Request) -> web.Response:
    """HEAD /jobs/{id}."""
    code, headers = jobs.headers(request.match_info["job_id"])
    return web.Response(status=code, headers=headers)


def main() -> None:
    """Serve until SIGTERM."""
    app = web.Application()
    app.router.add_post("/jobs", submit)
    app.router.add_head("/jobs/{job_id}", status)
    web.run_app(
        app, host=HOST, port=int(sys.argv[1]), access_log=None, print=None, backlog=4096, loop=uvloop.new_event_loop()
    )


if __name__ == "__main__":
    main()
