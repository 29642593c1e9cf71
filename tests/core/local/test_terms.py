"""Each term that a submission names, and no other, comes to its job, on an engine alone and on a store."""

from __future__ import annotations

import asyncio

import msgspec
from headway.core.config import Config
from headway.core.job import ContentSubmission, Submission, Terms
from headway.core.local.engine import LocalEngine
from headway.core.tasks.registry import Options, Registry
from headway.core.valkey.catalogue import Card

from tests.core.members import ALONE, NO_TERMS
from tests.each import each


async def add(payload: object) -> None:
    """Do nothing."""


def registry_of_add() -> Registry:
    registry = Registry()
    registry.add(add, Options())
    return registry


def submission_of(member: str) -> Submission:
    """Return a submission that has one member more than its task."""
    kind = ContentSubmission if member == "media_type" else Submission
    return kind("add", **{member: ALONE[member]})


def differing(terms: Terms, usual: Terms) -> list[object]:
    """Return the values of the terms that are not the usual ones."""
    pairs = zip(msgspec.structs.astuple(terms), msgspec.structs.astuple(usual), strict=True)
    return [one for one, other in pairs if one != other]


def test_each_member_has_a_value_here_that_is_not_its_default() -> None:
    fields = {field.name: field for field in msgspec.structs.fields(ContentSubmission)}
    assert ALONE.keys() == fields.keys() - {"task"}
    assert not [name for name, value in ALONE.items() if fields[name].default == value]


@each("member", sorted(ALONE))
def test_a_term_that_is_named_alone_comes_to_the_job(member: str) -> None:
    async def test() -> None:
        engine = LocalEngine(Config(), registry_of_add())
        engine.submit(submission_of(member))
        engine.submit(Submission("add"))
        named, usual = (job.terms for job in engine.active.jobs.values())
        assert differing(named, usual) == ([] if member in NO_TERMS else [ALONE[member]])

    asyncio.run(test())


@each("member", sorted(ALONE))
def test_a_node_on_a_store_has_the_same_terms(member: str) -> None:
    config, (task,) = Config(), registry_of_add().tasks
    usual = Terms.usual(task, config.jobs.timeout, config.jobs.retries)
    assert Card.of(task, config).terms(submission_of(member)) == usual.of(submission_of(member))
