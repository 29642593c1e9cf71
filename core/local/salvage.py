"""After a crash of the engine of a server with gateways: the rows that it has left, for the engine that follows.

The supervisor keeps the file of the rows, and a file that says how they are read. What was finished can be told as
before, without the results, which were in the memory of the engine. All other jobs are lost.
"""

from __future__ import annotations

import logging
import os
import time
from io import BytesIO

import msgspec
from headway.core.board.board import Board
from headway.core.board.rows import LAYOUT, STATE_MASK
from headway.core.ids import SEQUENCE_LIMIT, Ids
from headway.core.job import TERMINAL, State
from headway.core.local.deploy import Carried, Document, put
from headway.core.local.engine import LocalEngine
from headway.core.memfile import nameless_file
from headway.core.retention import Retention

log = logging.getLogger(__name__)


class Remains(msgspec.Struct):
    """How the rows are read."""

    layout: int
    secret: bytes
    salts: list[tuple[int, bytes]]
    rows: int
    annex: int
    kept: Retention
    active_most: int
    unchanged_from: int
    stretches: list[tuple[int, int]]
    task_names: list[str]


def remains_of(engine: LocalEngine) -> int:
    """Return a new file that says how the rows of ``engine`` are read."""
    board, ids = engine.board, engine.ids
    left = Remains(
        layout=LAYOUT,
        secret=ids.secret,
        salts=ids.salts,
        rows=board.rows,
        annex=board.annex,
        kept=Retention(board.kept_jobs, board.kept_seconds),
        active_most=board.active_most,
        unchanged_from=board.unchanged_from,
        stretches=board.stretches,
        task_names=engine.reading.names,
    )
    fd = nameless_file("headway-left")
    with open(fd, "wb", closefd=False) as file:
        file.write(msgspec.msgpack.encode(left))
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def salvaged(kept: bytes, rows_fd: int) -> Carried:
    """Return what can be told of the jobs in the file ``rows_fd``, read as ``kept`` says. The file is taken over."""
    left = msgspec.msgpack.decode(kept, type=Remains)
    board = Board(left.kept, left.active_most, rows=left.rows, annex=left.annex, fd=os.dup(rows_fd))
    board.find_moved(left.annex)
    ids = Ids(left.secret, left.salts)
    now, next_sequence, annex_used, damaged = time.monotonic(), 1, 0, 0
    for row, word in enumerate(board.live):
        state = word & STATE_MASK
        if not state:
            continue
        sequence = board.sequence(row)
        if state > State.CANCELLED or sequence >= SEQUENCE_LIMIT or board.tag[row] != ids.tag(sequence):
            # What has ended the engine has written here, too.
            damaged += 1
            board.live[row] = 0
            continue
        next_sequence = max(next_sequence, board.sequence(row) + 1)
        annex_used = max(annex_used, row + 1 - board.rows)
        if state < State.SUCCEEDED:
            board.lose(row, now)
    if damaged:
        log.error("the engine before has left %d damaged rows, whose jobs now answer 410", damaged)
    count = [0] * len(State)
    for state in TERMINAL:
        count[state] = board.last_place[state]
    document = Document(
        secret=left.secret,
        salts=left.salts,
        next_sequence=next_sequence,
        ended_total=sum(board.last_place),
        count=count,
        layout=left.layout,
        rows=left.rows,
        annex=left.annex,
        annex_used=annex_used,
        kept_jobs=max(left.kept.jobs),
        kept_seconds=max(left.kept.seconds),
        active_most=left.active_most,
        unchanged_from=left.unchanged_from,
        stretches=left.stretches,
        task_names=left.task_names,
        last_place=board.last_place.tolist(),
        kept=left.kept,
        shortest_s=list(left.kept.seconds),
    )
    file = BytesIO()
    put(file, document)
    file.seek(0)
    return Carried(file, rows_fd, salvaged=True)
