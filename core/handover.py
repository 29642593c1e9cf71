"""What one process leaves to the next, where jobs are in memory: the file of the rows, and another with the rest."""

from __future__ import annotations

from typing import BinaryIO, NamedTuple


class Handover(NamedTuple):
    """What is left. The next engine takes both files over."""

    # As ``Engine.hand_over`` has written it. After a crash, as ``GatewayLinks.remains`` has.
    file: BinaryIO
    rows_fd: int
    # Whether nobody has handed it over: the engine of before has crashed.
    is_crash: bool = False
