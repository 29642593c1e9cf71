"""OpenTelemetry: a span for each attempt. It needs the extra ``headway[otel]``.

    import headway
    from headway import otel

    headway.around(otel.span)

A span has a trace of its own, with a link to the span of the POST: a job may wait for hours, run
again, or be one of a thousand of a batch. ``child_span`` continues the trace of the POST instead.
Both are around the attempt where it runs, so spans that the task makes are inside of it, also in a
worker process. The exporter is set up in the task module, as in any program.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

try:
    from opentelemetry import trace
    from opentelemetry.context import Context as Surroundings
    from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("headway.otel needs OpenTelemetry: pip install 'headway[otel]'") from error

if TYPE_CHECKING:
    from headway.core.tasks.context import Context


@contextmanager
def span(context: Context) -> Iterator[None]:
    """Make a span with a link to that of the POST. For ``headway.around``."""
    remote = _remote(context)
    with _span(context, Surroundings(), [] if remote is None else [Link(remote)]):
        yield


@contextmanager
def child_span(context: Context) -> Iterator[None]:
    """Make a span that is a child of that of the POST. For ``headway.around``."""
    remote = _remote(context)
    parent = Surroundings() if remote is None else trace.set_span_in_context(NonRecordingSpan(remote), Surroundings())
    with _span(context, parent, []):
        yield


@contextmanager
def _span(context: Context, parent: Surroundings, links: Sequence[Link]) -> Iterator[None]:
    attributes: dict[str, str | int] = {
        "messaging.system": "headway",
        "messaging.operation.type": "process",
        "messaging.destination.name": context.task,
        "messaging.message.id": context.id,
        "headway.attempt": context.attempt,
    }
    made = trace.get_tracer("headway").start_as_current_span(
        f"process {context.task}", parent, SpanKind.CONSUMER, attributes, links
    )
    with made as current:
        try:
            yield
        except Exception:
            # The span notes it by itself.
            raise
        except BaseException as error:
            # Such as a timeout or a cancellation.
            current.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def _remote(context: Context) -> SpanContext | None:
    """Return the span of the POST, None if it had no trace context."""
    if context.traceparent is None:
        return None
    _, trace_id, span_id, flags = context.traceparent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
