"""Tasks whose names try to be something else."""

from __future__ import annotations

import headway

NAMES = ["<img src=x onerror=window.ran=1>", "../../etc", "#/jobs?state=failed", "'; DROP TABLE jobs; --", "%00%2F?&="]


async def nothing(_: object) -> None:
    """<script>window.ran = 1</script>."""


for _name in NAMES:
    headway.task(name=_name)(nothing)
