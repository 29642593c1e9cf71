"""Tasks that take content, in a thread and in a worker process."""

from __future__ import annotations

import headway


@headway.task(body_bytes=60_000_000)
def content_in_thread(body: headway.Body) -> headway.Result:
    """Return the end of the content."""
    return headway.Result(body.data[-1000:], body.media_type)


@headway.task(body_bytes=60_000_000, run_in="process")
def content_in_process(body: headway.Body) -> headway.Result:
    """Return the end of the content."""
    return headway.Result(body.data[-1000:], body.media_type)
