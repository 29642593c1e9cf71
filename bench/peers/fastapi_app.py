"""FastAPI, on uvicorn; the submission is a pydantic model, as its users write it."""

from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from bench.peers.jobs import Jobs, accepted

jobs = Jobs()


class Submission(BaseModel):
    """What a client sends."""

    task: str
    payload: Any = None


async def submit(wanted: Submission) -> Response:
    """POST /jobs."""
    job_id = jobs.submit(wanted.task, wanted.payload)
    if job_id is None:
        return Response(status_code=422)
    return JSONResponse({"id": job_id, "state": "queued"}, 202, accepted(job_id))


async def status(job_id: str) -> Response:
    """HEAD /jobs/{id}."""
    code, headers = jobs.headers(job_id)
    return Response(status_code=code, headers=headers)


app = FastAPI()
app.add_api_route("/jobs", submit, methods=["POST"])
app.add_api_route("/jobs/{job_id}", status, methods=["HEAD"])
