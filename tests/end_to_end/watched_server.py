"""A server whose journal has a writer that is watched: ``python watched_server.py PATH PORT``.

Says ``answered N`` when the answer to a submission is handed to the socket; watched_writer says what was synced.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
from headway.core.config import Config, JournalSection, ServerSection
from headway.core.job import Submission
from headway.core.journal.writer_link import WriterLink
from headway.core.local.admission import Admission
from headway.protocol import server
from headway.protocol.http.outbox import Answering
from headway.protocol.http.round import Round, RoundClient

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.core.journal.watched_writer import say


def main(path: str, port: str) -> None:
    """Serve until SIGTERM."""
    WriterLink.module = "tests.core.journal.watched_writer"
    numbers: dict[bytes, int] = {}
    take: Callable[..., int] = Admission.accept
    send, answer_soon = Answering._send, Round.answer_soon

    def watched_take(self: Admission, submission: Submission, *rest: object) -> int:
        sequence = take(self, submission, *rest)
        numbers[b"%012x" % sequence] = int(bytes(submission.payload).strip(b'"<>'))
        return sequence

    def look(answer: bytes) -> None:
        if answer[9:12] == b"202" and b"Location: /jobs/" in answer:
            say("answered", numbers[answer.partition(b"Location: /jobs/")[2][8:20]])

    def watched_send(self: Answering, answer: bytes, name: str) -> None:
        look(answer)
        send(self, answer, name)

    def watched_answer_soon(self: Round, client: RoundClient, answer: bytes) -> None:
        look(answer)
        answer_soon(self, client, answer)

    Admission.accept = watched_take  # type: ignore[method-assign, assignment]
    # The two roads by which an answer leaves.
    Answering._send = watched_send  # type: ignore[method-assign]
    Round.answer_soon = watched_answer_soon  # type: ignore[method-assign]

    config = Config(server=ServerSection(port=int(port)), journal=JournalSection(path=path), tasks=("examples.tasks",))
    server.run(msgspec.structs.replace(config, drain_linger=0.0))


if __name__ == "__main__":
    main(*sys.argv[1:])
