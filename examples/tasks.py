"""Tasks to try Headway with: four that show how, two that do real work."""

from __future__ import annotations

import asyncio
import csv
import io
import statistics
from typing import Any

import headway


@headway.task
async def noop(_: object) -> None:
    """Do nothing, to measure the server itself."""


@headway.task
async def sleep(payload: dict[str, float], context: headway.Context) -> dict[str, float]:
    """Wait ``{"seconds": 1}`` and report the progress."""
    seconds = float(payload["seconds"])
    for percent in (0, 25, 50, 75):
        context.progress(percent)
        await asyncio.sleep(seconds / 4)
    return {"slept": seconds}


@headway.task
async def echo(payload: Any) -> Any:
    """Return the payload."""
    return payload


@headway.task
async def fail(payload: Any) -> None:
    """Raise an error, with the message of ``{"message": "…"}`` if it is sent."""
    raise RuntimeError((payload or {}).get("message", "this task always fails"))


@headway.task(timeout=30, body_bytes=20_000_000)
def thumbnail(photo: headway.Body) -> headway.Result:
    """Scale an image to a JPEG that is at most 128 pixels wide and high."""
    from PIL import Image

    with Image.open(io.BytesIO(photo.data)) as image:
        small = image.convert("RGB")
        small.thumbnail((128, 128))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=85)
    return headway.Result(out.getvalue(), "image/jpeg")


@headway.task(timeout=60)
def csv_statistics(payload: dict[str, str], context: headway.Context) -> dict[str, dict[str, float]]:
    """Count, mean, median, minimum and maximum of each numeric column of ``{"csv": text}``."""
    rows = list(csv.DictReader(io.StringIO(payload["csv"])))
    columns: dict[str, list[float]] = {}
    for number, row in enumerate(rows):
        if context.cancelled:
            return {}
        context.progress(100 * number / len(rows))
        for name, text in row.items():
            try:
                columns.setdefault(name, []).append(float(text))
            except (TypeError, ValueError):
                continue
    return {
        name: {
            "count": len(values),
            "mean": round(statistics.fmean(values), 6),
            "median": statistics.median(values),
            "min": min(values),
            "max": max(values),
        }
        for name, values in columns.items()
        if values
    }
