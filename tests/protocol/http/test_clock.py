"""The times in answers: of the wall clock, in UTC wherever the server stands."""

from __future__ import annotations

import re
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from headway.protocol.http.clock import Clock, http_date, iso
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
MOMENTS = st.floats(0, 4e9)
ANYWHERE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["UTC", "Asia/Kathmandu"])
def _somewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_somewhere")
@ANYWHERE
@given(MOMENTS)
@example(1_700_000_000.0)
@example(1_700_000_000.007)
@example(1_700_000_000.999999)
@example(2_199_023_256.167999)
def test_a_time_in_a_document_is_rfc_3339_with_milliseconds(moment: float) -> None:
    text = iso(moment)
    assert RFC_3339.fullmatch(text)
    # Cut and not rounded, so that no end is later than the answer that has it. A float has room for
    # some of the microseconds.
    assert -2e-6 < moment - datetime.fromisoformat(text).timestamp() < 0.001 + 1e-6


@pytest.mark.usefixtures("_somewhere")
@ANYWHERE
@given(st.integers(0, 4 * 10**9))
def test_a_date_is_that_of_http(second: int) -> None:
    assert http_date(second).decode() == format_datetime(datetime.fromtimestamp(second, UTC), usegmt=True)


def test_after_ten_minutes_the_dates_of_an_hour_take_no_memory() -> None:
    """Of each second two: that of the answer, and that until which a job is kept."""
    begin, kept_s = 1_900_000_000, 86_400

    def grown(seconds: range) -> int:
        before = tracemalloc.get_traced_memory()[0]
        for second in seconds:
            http_date(begin + second)
            http_date(begin + kept_s + second)
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        grown(range(600))
        assert grown(range(600, 4200)) < 64 * 1024
    finally:
        tracemalloc.stop()


def test_a_tick_reads_both_clocks() -> None:
    clock = Clock()
    clock.now = clock.offset = 0.0
    clock.tick()
    assert clock.now == pytest.approx(time.monotonic(), abs=1)
    assert clock.now + clock.offset == pytest.approx(time.time(), abs=1)
    assert clock.fields.startswith(clock.date)
    sent = datetime.strptime(clock.date.decode(), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n").replace(tzinfo=UTC)
    assert sent.timestamp() == pytest.approx(time.time(), abs=2)
