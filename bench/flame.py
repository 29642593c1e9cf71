"""A flame graph as SVG: a box for each function, as wide as the time in it, those that it called on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from zlib import crc32

from bench.samples import Samples

WIDTH, ROW, CHARACTER = 1000, 17, 6.2
# A narrower box is left out, and a deeper one.
LEAST, DEEPEST = 2.0, 22
KERNEL = "kernel"


@dataclass(slots=True)
class Box:
    """A function called so, and those that it called."""

    name: str
    value: float = 0.0
    calls: dict[str, Box] = field(default_factory=dict)

    def add(self, stack: Sequence[str], value: float) -> None:
        """Add a sample."""
        box = self
        box.value += value
        for frame in stack:
            box = box.calls.setdefault(frame, Box(frame))
            box.value += value


def svg(title: str, samples: Samples, user_us: float, kernel_us: float) -> str:
    """Return the picture of a request: ``user_us`` of it as in ``samples``, and ``kernel_us``."""
    total = sum(count for _, count in samples)
    root = Box(f"{title}: {user_us + kernel_us:.1f} µs a request")
    for stack, count in samples:
        root.add(stack[:DEEPEST], count * user_us / total)
    root.add([KERNEL], kernel_us)
    boxes: list[tuple[int, float, float, str]] = []
    _lay(root, 0, 0.0, WIDTH / root.value, boxes)
    height = (max(depth for depth, *_ in boxes) + 1) * ROW
    drawn = "\n".join(_draw(*box, height) for box in boxes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" '
        f'font-size="10">\n<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n{drawn}\n</svg>\n'
    )


def _lay(box: Box, depth: int, left: float, scale: float, boxes: list[tuple[int, float, float, str]]) -> None:
    width = box.value * scale
    if width < LEAST:
        return
    boxes.append((depth, left, width, box.name if depth == 0 else f"{box.name} {box.value:.2f} µs"))
    for called in sorted(box.calls.values(), key=lambda called: called.name):
        _lay(called, depth + 1, left, scale, boxes)
        left += called.value * scale


def _draw(depth: int, left: float, width: float, name: str, height: int) -> str:
    shown = name.replace("headway.", "")
    room = int((width - 4) / CHARACTER)
    text = shown if len(shown) <= room else shown[: max(room - 1, 0)] + "…" if room > 3 else ""
    hue = {"headway.protocol": 205, "headway.core": 130, KERNEL: 0}.get(
        next((kind for kind in ("headway.protocol", "headway.core", KERNEL) if name.startswith(kind)), ""), 40
    )
    top = height - (depth + 1) * ROW
    light = 68 + crc32(name.partition(" ")[0].encode()) % 14
    box = (
        f'<rect x="{left:.1f}" y="{top}" width="{max(width - 0.5, 0.5):.1f}" height="{ROW - 1}" '
        f'fill="hsl({hue},60%,{light}%)"><title>{escape(shown)}</title></rect>'
    )
    return box + (f'<text x="{left + 2:.1f}" y="{top + 12}">{escape(text)}</text>' if text else "")
