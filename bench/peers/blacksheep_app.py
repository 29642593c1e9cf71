"""BlackSheep, on uvicorn."""

from blacksheep import Application, Request, Response, json

from bench.peers.jobs import Jobs, accepted

jobs = Jobs()
app = Application()


async def submit(request: Request) -> Response:
    """POST /jobs."""
    wanted = await request.json()
    job_id = jobs.submit(wanted["task"], wanted.get("payload"))
    if job_id is None:
        return Response(422)
    response = json({"id": job_id, "state": "queued"}, 202)
    for name, value in accepted(job_id).items():
        response.add_header(name.encode(), value.encode())
    return response


async def status(request: Request) -> Response:
    """HEAD /jobs/{id}."""
    code, headers = jobs.headers(request.route_values["job_id"])
    return Response(code, [(name.encode(), value.encode()) for name, value in headers.items()])


app.router.add_post("/jobs", submit)
app.router.add_head("/jobs/:job_id", status)
