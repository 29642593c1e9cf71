"""Raw messages with the status that RFC 9110 and RFC 9112 demand. Each names its section of RFC 9112, or the other RFC.

A message that is refused ends its connection. After any other the connection goes on, unless ``closes``.

Most messages are edits of three good ones. So the same fault stands in a message that the parser reads, in a poll and
in a submission, and comes also after the good one, which the connection then knows (docs/adr/0005).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

# Stands for the id of a job that waits. ``Served`` puts it in.
ID = b"<id>"
BODY = b'{"task":"nothing"}'
GET = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"
POLL = b"HEAD /jobs/%b HTTP/1.1\r\nHost: test\r\n\r\n" % ID
POST = b"POST /jobs HTTP/1.1\r\nHost: test\r\nContent-Length: 18\r\nContent-Type: application/json\r\n\r\n" + BODY
# The good messages and their status.
GOOD = {"get": (GET, 200), "poll": (POLL, 202), "post": (POST, 202)}
ALL = ("get", "poll", "post")
BARE = ("get", "poll")

Edit = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Case:
    """A message, the good one it was made of, and its answer."""

    id: str
    section: str
    base: str
    sent: bytes
    status: int
    # A 100 comes before the answer.
    continues: bool = False
    closes: bool = False


def is_head(sent: bytes) -> bool:
    """Whether a recipient can tell that the method is HEAD, so that its answer has no body."""
    return sent.lstrip(b"\r\n").startswith(b"HEAD ")


# Edits of a good message.


def line(text: bytes) -> Edit:
    """Put a header line at the end of the head, as it is."""
    return lambda good: good.replace(b"\r\n\r\n", b"\r\n" + text + b"\r\n\r\n", 1)


def first(text: bytes) -> Edit:
    """Put a line after the request line."""
    return lambda good: good.replace(b"\r\n", b"\r\n" + text + b"\r\n", 1)


def host(value: bytes) -> Edit:
    """Give Host another value."""
    return lambda good: good.replace(b"Host: test", b"Host:" + value)


def start(pattern: bytes, new: bytes) -> Edit:
    """Replace a part of the request line."""

    def edit(good: bytes) -> bytes:
        before, end, rest = good.partition(b"\r\n")
        return re.sub(pattern, lambda _: new, before, count=1) + end + rest

    return edit


def target(form: bytes) -> Edit:
    """Replace the target, which is ``~`` in ``form``."""

    def edit(good: bytes) -> bytes:
        method, path, rest = good.split(b" ", 2)
        return b" ".join([method, form.replace(b"~", path), rest])

    return edit


def method(name: bytes) -> Edit:
    """Replace the method."""
    return start(rb"^\w+", name)


def version(text: bytes, *lines: bytes) -> Edit:
    """Replace the version, and add header lines."""
    return then(start(rb"HTTP/1\.1$", text), *map(line, lines))


def replaced(old: bytes, new: bytes) -> Edit:
    """Replace all of ``old``."""
    return lambda good: good.replace(old, new)


def then(*edits: Edit) -> Edit:
    """Make several edits."""

    def edit(good: bytes) -> bytes:
        for each in edits:
            good = each(good)
        return good

    return edit


def length(text: bytes) -> Edit:
    """Give Content-Length another value."""
    return replaced(b"Content-Length: 18", b"Content-Length:" + text)


def coded(text: bytes) -> Edit:
    """Send the content in chunks, with this Transfer-Encoding."""
    content = b"12\r\n" + BODY + b"\r\n0\r\n\r\n"
    return then(replaced(b"Content-Length: 18", b"Transfer-Encoding:" + text), replaced(BODY, content))


def chunks(text: bytes) -> Edit:
    """Send these chunks, in which ``~`` stands for the content."""
    return then(
        replaced(b"Content-Length: 18", b"Transfer-Encoding: chunked"),
        replaced(BODY, text.replace(b"~", BODY)),
    )


def cases(
    section: str, edits: dict[str, Edit], bases: Iterable[str], status: int | None = None, *, closes: bool = False
) -> list[Case]:
    """Return a case for each edit of each base. The status is that of the good message, if none is given."""
    return [
        Case(f"{name}-{base}", section, base, edit(GOOD[base][0]), status or GOOD[base][1], closes=closes)
        for name, edit in edits.items()
        for base in bases
    ]
