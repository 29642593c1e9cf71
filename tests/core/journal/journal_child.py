"""Programs that the tests of the journal run and kill: ``python journal_child.py append|sync|lock PATH``."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from pathlib import Path

import apsw
from headway.core.errors import JournalError
from headway.core.job import State
from headway.core.journal.journal import Journal

PER_TURN = 10


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def append(path: Path) -> None:
    """Submit and end jobs at full speed from a loop that is always busy; say what was handed out and what is acked."""

    async def main() -> None:
        journal = Journal(path)
        # (number of the change, the job that was submitted, the job that had ended) of each turn.
        turns: list[tuple[int, int, int]] = []
        first = journal.file.next_sequence
        say("open", first)

        def on_commit(number: int) -> None:
            done = [turn for turn in turns if turn[0] <= number]
            if done:
                del turns[: len(done)]
                say("acked", done[-1][1], done[-1][2])

        journal.run(asyncio.get_running_loop(), on_commit, lambda _: say("full"), lambda line: say("fatal", line))
        sequence = first - 1
        while True:
            say("handed", sequence + PER_TURN)
            for _ in range(PER_TURN):
                sequence += 1
                now = time.time()
                payload = b"%d" % sequence
                journal.submit(sequence, State.QUEUED, "sleep", payload, 5, None, 30.0, 0, None, now)
                number = journal.retry(sequence, State.RETRYING, 1, now, now)
                if (over := sequence - 25) >= first:
                    number = journal.end(over, State.SUCCEEDED, 1, now, 0, now, over, "text/plain", b"%d" % over)
                    journal.expire(over - 5000, 0.0, 0.0)
            turns.append((number, sequence, max(sequence - 25, 0)))
            await asyncio.sleep(0.002 if len(turns) == 200 else 0)

    asyncio.run(main())


class Watch:
    """What was seen of the log: numbers of jobs, ``<n>`` in the payload, written and then synced."""

    def __init__(self) -> None:
        # What is to fail the 20th time.
        self.fail = ""
        self.seen = {"sync": 0, "write": 0}
        self.written: set[int] = set()
        self.synced: set[int] = set()
        self.acked = 0

    def note(self, what: str) -> None:
        self.seen[what] += 1
        if self.fail == what and self.seen[what] == 20:
            raise apsw.IOError(f"no {what}")

    def commit(self, number: int) -> None:
        early = [one for one in range(self.acked + 1, number + 1) if one not in self.synced]
        self.acked = number
        if early:
            say("early", *early)


class File(apsw.VFSFile):
    """A file under watch if it is a log."""

    def __init__(self, watch: Watch, name: apsw.URIFilename | str | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self.watch = watch if flags[0] & apsw.SQLITE_OPEN_WAL else None

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if self.watch:
            self.watch.note("write")
        super().xWrite(data, offset)
        if self.watch:
            self.watch.written.update(int(number) for number in re.findall(rb"<(\d+)>", data))

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self.watch:
            self.watch.note("sync")
        super().xSync(flags)
        if self.watch:
            self.watch.synced |= self.watch.written
            self.watch.written.clear()


class FileSystem(apsw.VFS):
    """The file system of everything that is opened from here on."""

    def __init__(self, watch: Watch) -> None:
        super().__init__("watched", "unix", makedefault=True)
        self.watch = watch

    def xOpen(self, name: apsw.URIFilename | str | None, flags: list[int]) -> File:  # noqa: N802
        return File(self.watch, name, flags)


def sync(path: Path, fail: str = "") -> None:
    """Submit over a file system that is watched, or fails; say when a job was acknowledged that was not synced."""
    watch = Watch()
    system = FileSystem(watch)

    async def main() -> None:
        journal = Journal(path)
        watch.seen = {"sync": 0, "write": 0}
        watch.fail = fail
        loop = asyncio.get_running_loop()
        over: asyncio.Future[str] = loop.create_future()
        journal.run(loop, watch.commit, lambda _: None, over.set_result)
        sequence = 0
        while sequence < 3000 and not over.done():
            for _ in range(7):
                sequence += 1
                journal.submit(sequence, State.QUEUED, "sleep", b"<%d>" % sequence, 5, None, 30.0, 0, None, 1.0)
            await asyncio.sleep(0.0005)
        if fail:
            say("fatal", await over)
        else:
            await journal.close()
            await asyncio.sleep(0)
        say("acked", watch.acked, "commits", journal.batches, "syncs", watch.seen["sync"])

    asyncio.run(main())
    system.unregister()


def lock(path: Path) -> None:
    """Open the journal and say what came of it."""
    try:
        Journal(path).abandon()
    except JournalError as error:
        say(error)
    else:
        say("opened")


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
