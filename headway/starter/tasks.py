"""Tasks: functions of a payload. `headway serve` runs them."""

import time

import headway


@headway.task
def greet(payload):
    """Greet by name. A plain function runs in a thread, so it may block."""
    time.sleep(1)
    return {"greeting": f"Hello, {payload['name']}!"}
