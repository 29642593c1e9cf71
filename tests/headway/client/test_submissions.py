"""The client has every option that a submission has."""

from __future__ import annotations

import inspect

import msgspec
from headway.core import job

from headway.client.coroutines import AsyncClient
from headway.client.submissions import Options, Submission
from headway.client.threads import Client
from tests.each import each

# The client sets the header of the trace, and the other two are arguments before the options.
ELSEWHERE = {"task", "payload", "traceparent"}
CALLS = [
    inspect.signature(call)
    for call in (Client.submit, Client.submit_many, AsyncClient.submit, AsyncClient.submit_many, Submission)
]


def test_the_options_are_the_members_of_a_submission() -> None:
    members = {field.name for field in msgspec.structs.fields(job.Submission)}
    assert Options.__annotations__.keys() == members - ELSEWHERE


@each("call", CALLS)
def test_each_call_takes_all_options(call: inspect.Signature) -> None:
    assert not Options.__annotations__.keys() - call.parameters.keys()
