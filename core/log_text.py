"""Text that grows and of which the beginning and the end are kept.

Bytes are kept as they come: a cut may go through a character. It counts every byte, so places in
the text stay right whatever is left out.
"""

from __future__ import annotations

from headway.core.job_log import JobLog

# The line that begins the text of a further attempt.
ATTEMPT_LINE = b"--- attempt %d ---\n"


class LogText:
    """The text of a job's log from byte ``begin`` on, at most ``most`` bytes of it."""

    __slots__ = ("_half", "_is_open", "attempt", "begin", "ends_line", "head", "tail", "total")

    def __init__(self, most: int, begin: int = 0, ends_line: bool = True) -> None:
        self._half = most // 2
        # The place of the first byte here.
        self.begin = begin
        self.head = bytearray()
        self.tail = bytearray()
        # The place after the last byte.
        self.total = begin
        # Whether the next byte belongs to the head if that has room.
        self._is_open = True
        # The attempt that wrote last (0: none, -1: one of a previous process), and whether it ended
        # its line.
        self.attempt = -1 if begin else 0
        self.ends_line = ends_line

    @classmethod
    def going_on(cls, most: int, log: JobLog) -> LogText:
        """Return the text of a previous process, which goes on."""
        text = cls(most)
        text.head += log.head
        text.tail += log.tail
        text.total = log.total
        text._is_open = not (log.tail or log.left_out)
        text.attempt = -1
        text.ends_line = (log.tail or log.head or b"\n").endswith(b"\n")
        return text

    def __len__(self) -> int:
        return len(self.head) + len(self.tail)

    def add(self, attempt: int, text: bytes) -> None:
        """Add ``text`` of an attempt. A line before it tells where a further attempt begins."""
        if not text:
            return
        if attempt != self.attempt:
            if attempt > 1 or self.attempt < 0:
                self._add((b"" if self.ends_line else b"\n") + ATTEMPT_LINE % attempt)
            self.attempt = attempt
        self._add(text)
        self.ends_line = text.endswith(b"\n")

    def skip(self, count: int) -> None:
        """Count bytes that were left out at their source."""
        if count:
            self.total += count
            self.tail.clear()
            self._is_open = False

    def cut(self, count: int) -> None:
        """Give up ``count`` bytes: first those at the beginning of the tail, then those at the end of the head."""
        left = count - len(self.tail)
        del self.tail[:count]
        if left > 0:
            del self.head[max(len(self.head) - left, 0) :]
        self._is_open = False

    def take(self) -> list[tuple[int, bytes]]:
        """Return the pieces that are kept, each with its place, and go on without them.

        The last one ends where the text does. It may be empty.
        """
        pieces = [(self.begin, bytes(self.head)), (self.total - len(self.tail), bytes(self.tail))]
        self.begin = self.total
        self.head.clear()
        self.tail.clear()
        self._is_open = True
        found = [(place, text) for place, text in pieces if text]
        if not found or found[-1][0] + len(found[-1][1]) < self.total:
            found.append((self.total, b""))
        return found

    def read(self) -> JobLog:
        """Return what is kept of a text from byte 0 on."""
        return JobLog(bytes(self.head), bytes(self.tail), self.total)

    def _add(self, text: bytes) -> None:
        self.total += len(text)
        room = self._half - self.begin - len(self.head) if self._is_open else 0
        if room > 0:
            self.head += text[:room]
            text = text[room:]
        if text:
            self._is_open = False
            if len(text) >= self._half:
                self.tail[:] = text[len(text) - self._half :]
            else:
                self.tail += text
                del self.tail[: max(len(self.tail) - self._half, 0)]
