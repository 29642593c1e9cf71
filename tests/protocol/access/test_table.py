"""Who may do what, as the tables of docs/security.md say: made from them, cell by cell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import uvloop
from headway.protocol.access.scopes import SCOPES

from tests.conftest import Start
from tests.lives.server import LOOK_S, Lives, run
from tests.protocol.access.scan import (
    COLUMNS,
    FAR,
    FROM_AFAR,
    NEAR,
    NOBODY,
    WRONG,
    Jobs,
    Table,
    asking,
    code_of,
    make_tokens,
    operations,
    table,
)
from tests.protocol.wire import request

READS = ("id", "token")
WITH_TOKENS = COLUMNS[2:]


async def found(port: int, lines: Mapping[str, str], columns: Sequence[str], task: str) -> Table:
    """Return the columns that a server gives. ``lines`` are the header lines of clients, "" the one that may do all."""
    rows = list(operations())
    answered: Table = {row: {} for row in rows}
    async with asking(port, *filter(None, [lines.get("")])) as boss:
        jobs = Jobs(boss, task)
        await jobs.begin()
        for column in columns:
            async with asking(port, *filter(None, [lines.get(column)])) as client:
                for row in rows:
                    answered[row][column] = await code_of(client, row, jobs)
    return answered


def said(reads: str, columns: Sequence[str]) -> Table:
    """Return columns of the page."""
    return {row: {column: cells[column] for column in columns} for row, cells in table(reads).items()}


def test_each_operation_has_a_row() -> None:
    for reads in READS:
        assert list(table(reads)) == list(operations())


@pytest.mark.parametrize("reads", READS)
def test_the_openapi_document_says_the_same(tmp_path: Path, reads: str) -> None:
    """Of a job by its id. A server without tokens describes none."""

    async def test() -> None:
        path = tmp_path / "tokens.yaml"
        lives = Lives(tmp_path, journal=False)
        await lives.start(auth={"reads": reads, "tokens": str(path)})
        async with asking(lives.port) as client:
            assert b"security" not in (await client.read(request("GET", "/openapi.json")))[2]
            make_tokens(path)
            # Once the server has read it.
            while (await client.ask("GET", "/metrics"))[0] != 401:
                await asyncio.sleep(LOOK_S)
                lives.connections.tick()
            document = json.loads((await client.read(request("GET", "/openapi.json")))[2])
        assert document["components"]["securitySchemes"].keys() == {"token"}
        for row, cells in table(reads).items():
            method, _, route = row.partition(" ")
            if "{key}" not in route or method == "PUT":
                ways = document["paths"][route.replace("{key}", "{id}")][method.lower()]["security"]
                assert ({} in ways) == (cells[NOBODY] != "401"), row
                scopes = {scope for way in ways for named in way.values() for scope in named}
                assert {} in ways or scopes == {scope for scope in SCOPES if cells[scope][0] == "2"}, row
        await lives.end()

    run(test(), loop=uvloop.new_event_loop)


def test_each_cell_is_a_code() -> None:
    """So that a cell which nobody looks at cannot hide."""
    cells = [cell for reads in READS for row in table(reads).values() for cell in row.values()]
    assert set(cells) <= {"200", "202", "204", "401", "403"}
    assert {cells.count(code) > 20 for code in ("200", "202", "204", "401", "403")} == {True}


def test_without_tokens(tmp_path: Path) -> None:
    """Whatever ``reads`` is, which is about tokens."""

    async def test() -> None:
        for column, mode, reads in ((NEAR, "tokens", "token"), (FAR, "none", "id")):
            lives = Lives(tmp_path, journal=False)
            await lives.start(auth={"mode": mode, "reads": reads, "tokens": str(tmp_path / "none.yaml")})
            answered = await found(lives.port, {FAR: FROM_AFAR}, [column], "echo")
            assert [answered] * 2 == [said(each, [column]) for each in READS]
            await lives.end()

    run(test(), loop=uvloop.new_event_loop)


@pytest.mark.parametrize("reads", READS)
def test_with_tokens(tmp_path: Path, reads: str) -> None:
    async def test() -> None:
        path = tmp_path / "tokens.yaml"
        lines = make_tokens(path)
        lives = Lives(tmp_path, journal=False)
        await lives.start(auth={"reads": reads, "tokens": str(path)})
        assert await found(lives.port, lines, WITH_TOKENS, "echo") == said(reads, WITH_TOKENS)
        await lives.end()

    run(test(), loop=uvloop.new_event_loop)


def test_a_server_of_its_own_says_the_same(start: Start, tmp_path: Path) -> None:
    """Of two columns."""
    lines = make_tokens(tmp_path / "headway-tokens.yaml")
    # With a journal it does not wait for delayed jobs at its end.
    server = start(journal__path=str(tmp_path / "jobs.db"))

    async def test() -> None:
        columns = (NOBODY, "view")
        assert await found(server.port, lines, columns, "give") == said("id", columns)

    run(test(), loop=uvloop.new_event_loop)


def test_head_and_options_are_told_as_much_as_get(tmp_path: Path) -> None:
    """A HEAD may do as much as a GET, and anyone is told the methods of a route."""

    async def test() -> None:
        path = tmp_path / "tokens.yaml"
        lines = make_tokens(path)
        lives = Lives(tmp_path, journal=False)
        await lives.start(auth={"tokens": str(path)})
        async with asking(lives.port, lines[""]) as boss:
            jobs = Jobs(boss, "echo")
            await jobs.begin()
            for column in (NOBODY, "view", WRONG):
                async with asking(lives.port, *filter(None, [lines.get(column)])) as client:
                    for row, cells in table("id").items():
                        method, _, route = row.partition(" ")
                        assert await code_of(client, f"OPTIONS {route}", jobs) == "204", row
                        if method == "GET":
                            assert await code_of(client, f"HEAD {route}", jobs) == cells[column], row
        await lives.end()

    run(test(), loop=uvloop.new_event_loop)
