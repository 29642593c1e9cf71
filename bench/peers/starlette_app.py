"""Starlette, on uvicorn."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bench.peers.jobs import Jobs, accepted

jobs = Jobs()


async def submit(request: Request) -> Response:
    """POST /jobs."""
    wanted = await request.json()
    job_id = jobs.submit(wanted["task"], wanted.get("payload"))
    if job_id is None:
        return Response(status_code=422)
    return JSONResponse({"id": job_id, "state": "queued"}, 202, accepted(job_id))


async def status(request: Request) -> Response:
    """HEAD /jobs/{id}."""
    code, headers = jobs.headers(request.path_params["job_id"])
    return Response(status_code=code, headers=headers)


app = Starlette(routes=[Route("/jobs", submit, methods=["POST"]), Route("/jobs/{job_id}", status, methods=["HEAD"])])
