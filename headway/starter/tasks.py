"""Tasks: functions of a payload. `headway serve` runs them."""

from dataclasses import dataclass

import headway


@dataclass
class Guest:
    """The payload. One that does not fit is refused before it is queued."""

    name: str


@headway.task
def greet(guest: Guest) -> dict[str, str]:
    """Greet a guest. A plain function runs in a thread, so it may block."""
    return {"greeting": f"Hello, {guest.name}!"}
