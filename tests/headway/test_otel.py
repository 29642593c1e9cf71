"""Spans of attempts, by an exporter in memory."""

import asyncio
from contextlib import AbstractContextManager
from typing import Any

import pytest
from headway.core.tasks.context import Context
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from headway import otel

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID, SPAN_ID = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
EXPORTER = InMemorySpanExporter()


@pytest.fixture(scope="module", autouse=True)
def _provider() -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace.set_tracer_provider(provider)


@pytest.fixture(autouse=True)
def _empty() -> None:
    EXPORTER.clear()


def context(traceparent: str | None = TRACE) -> Context:
    return Context("id", 2, lambda *_: None, task="resize", traceparent=traceparent)


def spans() -> list[ReadableSpan]:
    return list(EXPORTER.get_finished_spans())


def parents(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def test_a_span_has_a_trace_of_its_own_and_a_link_to_the_post() -> None:
    tracer = trace.get_tracer("test")
    with (
        tracer.start_as_current_span("of the server"),
        otel.span(context()),
        tracer.start_as_current_span("of the task"),
    ):
        pass
    inner, outer, _ = spans()
    assert outer.name == "process resize"
    assert outer.kind is trace.SpanKind.CONSUMER
    assert dict(outer.attributes or {}) == {
        "messaging.system": "headway",
        "messaging.operation.type": "process",
        "messaging.destination.name": "resize",
        "messaging.message.id": "id",
        "headway.attempt": 2,
    }
    assert parents(outer) is None
    assert outer.context.trace_id not in (TRACE_ID, 0)
    (link,) = outer.links
    assert (link.context.trace_id, link.context.span_id) == (TRACE_ID, SPAN_ID)
    assert parents(inner) == outer.context.span_id


def test_a_child_span_continues_the_trace_of_the_post() -> None:
    with otel.child_span(context()):
        pass
    (span,) = spans()
    assert (span.context.trace_id, parents(span), len(span.links)) == (TRACE_ID, SPAN_ID, 0)


@pytest.mark.parametrize("make", [otel.span, otel.child_span])
def test_without_a_trace_context_there_is_a_trace_of_its_own(make: Any) -> None:
    with make(context(None)):
        pass
    (span,) = spans()
    assert (parents(span), len(span.links)) == (None, 0)


@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError(), SystemExit(3)])
@pytest.mark.parametrize("make", [otel.span, otel.child_span])
def test_a_span_has_the_error_of_its_attempt(make: Any, error: BaseException) -> None:
    manager: AbstractContextManager[None] = make(context())
    with pytest.raises(type(error)), manager:
        raise error
    (span,) = spans()
    assert span.status.status_code is trace.StatusCode.ERROR
    assert type(error).__name__ in str(span.status.description)
