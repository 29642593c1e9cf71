"""Clients, and the command line, of a server that asks for tokens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from headway.protocol.access.token_file import TokenFile

from headway.client import Client, JobFailed, NotIssued, Refused
from tests.end_to_end.process import Server, launch
from tests.headway.cli.conftest import run

UNKNOWN = "hw_" + 43 * "A"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tokens of the server, by scope."""
    file = TokenFile(tmp_path_factory.mktemp("tokens") / "tokens.yaml")
    found = {scope: file.add(scope.replace(":", "-"), [scope]) for scope in ("submit", "submit:give", "read", "view")}
    return found | {"path": str(file.path), "unknown": UNKNOWN}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, tokens: dict[str, str]) -> Iterator[Server]:
    """The server."""
    with launch(tmp_path_factory.mktemp("guarded"), {"auth__tokens": tokens["path"]}) as server:
        yield server


@pytest.fixture(autouse=True)
def _none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADWAY_TOKEN", raising=False)


def client(server: Server, token: str | None) -> Client:
    """Return a client with a token, or with none."""
    return Client(f"http://127.0.0.1:{server.port}", token=token)


def test_who_submits_reads_the_result_and_not_the_error(guarded: Server, tokens: dict[str, str]) -> None:
    with client(guarded, tokens["submit"]) as submitter, client(guarded, tokens["read"]) as reader:
        job = submitter.submit("give", 7)
        assert job.result(timeout=20) == 7
        failed = submitter.submit("fail", {"message": "why"})
        with pytest.raises(JobFailed, match="a token with the scope read is told why"):
            failed.result(timeout=20)
        with pytest.raises(JobFailed, match="why"):
            reader.job(failed.id).result()
        with client(guarded, None) as anyone:
            assert anyone.job(job.id).result() == 7


# What a client does, with which token, and what it is told.
REFUSED = [
    ("submit", None, r"401 token: .*of a token with the scope submit \(set HEADWAY_TOKEN or token=\)$"),
    ("submit", "unknown", r"401 token: no such token.* \(set HEADWAY_TOKEN or token=\)$"),
    (
        "submit",
        "view",
        r"403 scope: the token 'view' has no scope submit \(set HEADWAY_TOKEN or token= to a token that",
    ),
    ("submit", "submit:give", r"403 scope: the token 'submit-give' may submit give, not 'fail' \("),
    ("list", "submit", r"403 scope: the token 'submit' has no scope view \("),
]


@pytest.mark.parametrize(("action", "token", "said"), REFUSED)
def test_a_refusal_is_one_line_that_says_what_to_do(
    guarded: Server, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch, action: str, token: str | None, said: str
) -> None:
    with client(guarded, token and tokens[token]) as asker, pytest.raises(Refused, match=said) as raised:
        asker.submit("fail") if action == "submit" else list(asker.find())
    assert "\n" not in str(raised.value)
    if token:
        monkeypatch.setenv("HEADWAY_TOKEN", tokens[token])
    ran = run(guarded.port, *(("submit", "fail") if action == "submit" else ("list",)))
    assert (ran.code, ran.out, ran.err) == (5, "", f"headway: {raised.value}\n")


def test_a_list_for_who_may_only_view_has_ids_that_are_no_capabilities(
    guarded: Server, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with client(guarded, tokens["submit"]) as submitter:
        job = submitter.submit("give", 8)
        job.result(timeout=20)
    with client(guarded, tokens["view"]) as viewer:
        listed = next(iter(viewer.find(task="give")))
        assert (listed.id, listed.last and listed.last.state) == (job.id[:20], "succeeded")
        with pytest.raises(Refused, match="403 scope: the token 'view' has no scope read"):
            listed.status()
        with client(guarded, tokens["read"]) as reader, pytest.raises(NotIssued, match="lacks its last 16 digits"):
            reader.job(listed.id).status()
    monkeypatch.setenv("HEADWAY_TOKEN", tokens["view"])
    assert run(guarded.port, "list", "-q", "--task", "give", "--limit", "1").out == f"{job.id[:20]}\n"
    (line,) = run(guarded.port, "status", job.id[:20]).err.splitlines()
    assert "the token 'view' has no scope read" in line
    monkeypatch.setenv("HEADWAY_TOKEN", tokens["read"])
    ran = run(guarded.port, "status", job.id[:20])
    assert (ran.code, len(ran.err.splitlines())) == (4, 1)
    assert "lacks its last 16 digits" in ran.err
