"""Programs that the tests of the journal run and kill: ``python journal_child.py append|sync|lock|files|… PATH``."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from headway.core.errors import JournalError
from headway.core.job import State, Terms, encode_terms
from headway.core.journal import schema
from headway.core.journal.attempts import Attempts
from headway.core.journal.journal import Journal
from headway.core.journal.salvage import recover
from headway.core.journal.writer_link import WriterLink

# Twice: see conftest.py.
sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / ".."))
sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.core.journal.watched_writer import say

PER_TURN = 10
TERMS = encode_terms(Terms(30.0, 0))


def submit(journal: Journal, sequence: int, payload: bytes, submitted: float) -> int:
    return journal.submit(
        sequence=sequence,
        state=State.QUEUED,
        task="sleep",
        payload=payload,
        priority=5,
        due=None,
        terms=TERMS,
        submitted=submitted,
    )


def append(path: Path) -> None:
    """Submit and end jobs at full speed from a loop that is always busy; say what was handed out and what is acked."""

    async def main() -> None:
        journal = Journal(path)
        # (number of the change, the job that was submitted, the job that had ended) of each turn.
        turns: list[tuple[int, int, int]] = []
        first = journal.found.next_sequence
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
                submit(journal, sequence, payload, now)
                number = journal.retry(sequence, State.RETRYING, 1, now, now)
                if (over := sequence - 25) >= first:
                    number = journal.end(
                        sequence=over,
                        state=State.SUCCEEDED,
                        attempt=1,
                        started=now,
                        reason=0,
                        ended=now,
                        place=over,
                        until=now + 60.0,
                        media_type="text/plain",
                        body=b"%d" % over,
                    )
                    journal.expire([over - 5000] * len(State), 0.0, 0, 0.0)
            turns.append((number, sequence, max(sequence - 25, 0)))
            await asyncio.sleep(0.002 if len(turns) == 200 else 0)

    asyncio.run(main())


def sync(path: Path) -> None:
    """Submit with a writer whose file system is watched, or fails; say which jobs are acknowledged."""
    WriterLink.module = "tests.core.journal.watched_writer"

    async def main() -> None:
        journal = Journal(path)
        acked = 0

        def commit(number: int) -> None:
            nonlocal acked
            say("answered", *range(acked + 1, number + 1))
            acked = number

            begun.set()

        loop = asyncio.get_running_loop()
        over: asyncio.Future[str] = loop.create_future()
        begun = asyncio.Event()
        journal.run(loop, commit, lambda _: None, over.set_result)
        submit(journal, 1, b"<1>", 1.0)
        await begun.wait()
        sequence = 1
        while sequence < 3000 and not over.done():
            for _ in range(7):
                sequence += 1
                submit(journal, sequence, b"<%d>" % sequence, 1.0)
            await asyncio.sleep(0.0005)
        if "WATCH_FAIL" in os.environ:
            say("fatal", await over)
        await journal.close()
        say("acked", acked, "commits", journal.commits)

    asyncio.run(main())


def lock(path: Path) -> None:
    """Open the journal and say what came of it."""
    try:
        Journal(path).abandon()
    except JournalError as error:
        say(error)
    else:
        say("opened")


def files(path: Path) -> None:
    """Make all files of a journal."""

    async def main() -> None:
        journal = Journal(path)
        committed = asyncio.Event()
        journal.run(asyncio.get_running_loop(), lambda _: committed.set(), lambda _: None, lambda _: None)
        attempts = Attempts(path)
        attempts.begin(10, [])
        sequence = journal.found.next_sequence
        submit(journal, sequence, b"1", 1.0)
        await committed.wait()
        await journal.close()

    asyncio.run(main())


def recovery(path: Path) -> None:
    """Recover a journal into the folder ``recovered`` beside its own."""
    recover(path, path.parent.parent / "recovered" / path.name)


if __name__ == "__main__":
    # Numbers begin at 1.
    schema.NUMBERS_A_SECOND = 0
    globals()[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
