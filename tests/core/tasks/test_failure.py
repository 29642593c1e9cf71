"""The parts of an exception that are kept and logged, and whether another attempt is made."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any

import pytest
from headway.core.job import Reason, State
from headway.core.queue.schedule import Schedule
from headway.core.tasks.failure import ERROR_LONGEST, TRACEBACK_BEGIN, TRACEBACK_END, failure
from headway.core.tasks.registry import Options
from headway.core.tasks.retry import DelayError, Retry

from tests.core.engines import engine_of, engine_with, over, run, said, submit
from tests.each import each

DAYS_30 = 30 * 86_400


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class UnrepresentableError(Exception):
    def __repr__(self) -> str:
        raise SystemExit(3)

    __str__ = __repr__


class HostileMeta(type):
    def __instancecheck__(cls, instance: object) -> bool:
        raise RuntimeError("no answer")


class HostileError(Exception, metaclass=HostileMeta):
    pass


class LockedError(Exception):
    """Cannot be pickled, nor made of its arguments."""

    def __init__(self, one: object, two: object) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


def raised(error: BaseException) -> BaseException:
    """Return ``error`` as it comes out of a function of the user's."""
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 — any
        return caught


@each(
    "error, text",
    [
        (ValueError("x"), "ValueError: x"),
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError(), "ValueError: "),
        (SystemExit(3), "SystemExit: 3"),
        (asyncio.CancelledError(), "CancelledError: "),
        (GeneratorExit(), "GeneratorExit: "),
        (StopIteration(5), "StopIteration: 5"),
        (LockedError(1, 2), "LockedError: locked"),
        (UnprintableError(), "UnprintableError (its text cannot be read: ValueError)"),
        (UnrepresentableError(), "UnrepresentableError (its text cannot be read: SystemExit)"),
        (RuntimeError("file \udcff here"), "RuntimeError: file ? here"),
        (ValueError("x" * 5000), "ValueError: " + "x" * (ERROR_LONGEST - 12)),
        (Retry(), "the task asked for another attempt"),
        (
            ExceptionGroup("two", [ValueError("a"), ExceptionGroup("more", [KeyError("b"), UnprintableError()])]),
            "ExceptionGroup: two: ValueError: a; KeyError: 'b'; UnprintableError (its text cannot be read: ValueError)",
        ),
        (BaseExceptionGroup("exits", [SystemExit(1)]), "BaseExceptionGroup: exits: SystemExit: 1"),
    ],
)
def test_an_error_is_named(error: BaseException, text: str) -> None:
    told = failure(raised(error), (Exception,))
    assert told.text == text
    told.traceback.encode()


def test_a_group_of_very_many_is_named_in_short() -> None:
    error = raised(ExceptionGroup("many", [ValueError(number) for number in range(5000)]))
    told = failure(error, (ValueError,))
    assert len(told.text) < 400
    assert "and 99" in told.text


def test_a_traceback_has_the_causes_and_not_our_frames() -> None:
    def work() -> None:
        try:
            {}["missing"]  # type: ignore[index]
        except KeyError as error:
            raise UnprintableError from error

    with pytest.raises(UnprintableError) as caught:
        work()
    told = failure(caught.value, (Exception,))
    assert "KeyError: 'missing'" in told.traceback
    assert "The above exception was the direct cause" in told.traceback
    assert "in work" in told.traceback


class LongError(Exception):
    """An error whose text is made by a method of its own."""

    def __str__(self) -> str:
        return "a line\n" * int(self.args[0])


def noted(note: str) -> Exception:
    error = ValueError("noted")
    error.add_note(note)
    raised(error)
    return error


def caused_by(cause: BaseException) -> BaseException:
    error = RuntimeError("above")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("make", "told_last"),
    [
        (ValueError, "a line"),
        (lambda huge: ValueError(huge.encode()), "bytes'"),
        (KeyError, "a line\\n'"),
        (noted, "a line"),
        (lambda huge: caused_by(noted(huge)), "RuntimeError: above"),
        (lambda huge: ExceptionGroup(huge, [noted(huge), KeyError(huge)]), "a line\\n'"),
    ],
    ids=["text", "bytes", "key", "note", "cause", "group"],
)
def test_a_hundred_megabytes_of_error_neither_hold_the_loop_nor_are_kept(
    make: Callable[[str], BaseException], told_last: str
) -> None:
    error = raised(make("a line\n" * 14_285_714))
    begun = time.perf_counter()
    told = failure(error, (Exception,))
    # The module traceback takes 16 s for the note. It takes 1 ms here, and this machine may be busy.
    assert time.perf_counter() - begun < 0.1
    assert len(told.text) <= ERROR_LONGEST
    assert len(told.traceback) <= TRACEBACK_BEGIN + TRACEBACK_END + 100
    assert told.traceback.startswith("Traceback")
    assert "in raised" in told.traceback
    assert "characters …" in told.traceback or "bytes" in told.traceback
    assert told.traceback.endswith(told_last)


def test_a_long_error_is_told_much_as_python_does() -> None:
    def work() -> None:
        try:
            {}["missing"]  # type: ignore[index]
        except KeyError:
            raise LongError(10_000) from None

    def over() -> None:
        try:
            work()
        except LongError:
            raise ValueError("b" * 10_000)  # noqa: B904 — the context is wanted

    with pytest.raises(ValueError, match="bbb") as caught:
        over()
    told = failure(caught.value, (Exception,)).traceback
    first, _, second = told.partition("During handling of the above exception, another exception occurred:")
    # ``from None`` took it out.
    assert "KeyError" not in told
    assert "in work" in first
    assert f"{__name__}.LongError: a line" in first
    assert "in over" in second
    assert "ValueError: bbb" in second
    assert "… 8400 characters …" in second


@pytest.mark.parametrize("error", [ValueError("x" * 1_000_000), ValueError("\udcff" * 1_000_000)])
def test_what_is_logged_of_a_long_error_is_bounded(error: BaseException) -> None:
    told = failure(raised(error), (Exception,))
    assert len(told.text) <= ERROR_LONGEST
    assert len(told.traceback) <= TRACEBACK_BEGIN + TRACEBACK_END + 100
    assert told.traceback.startswith("Traceback")


@each(
    "error, retry_on, again",
    [
        (ValueError(), (ValueError,), True),
        (ValueError(), (KeyError,), False),
        (UnprintableError(), (KeyError,), False),
        (UnprintableError(), (Exception,), True),
        (SystemExit(), (Exception,), False),
        (SystemExit(), (SystemExit,), True),
        (HostileError(), (HostileError,), True),
        (ValueError(), (HostileError,), False),
        # A group: if each of its members is, at any depth, or it is of such a class itself.
        (ExceptionGroup("", [ValueError(), ExceptionGroup("", [ValueError()])]), (ValueError,), True),
        (ExceptionGroup("", [ValueError(), KeyError()]), (ValueError,), False),
        (ExceptionGroup("", [ValueError(), KeyError()]), (ValueError, KeyError), True),
        (ExceptionGroup("", [ValueError()]), (ExceptionGroup,), True),
        (BaseExceptionGroup("", [ValueError(), SystemExit()]), (Exception,), False),
        (ExceptionGroup("", [ValueError(), Retry(3)]), (ValueError,), True),
        (ExceptionGroup("", [KeyError(), Retry(3)]), (ValueError,), False),
        (Retry(), (KeyError,), True),
    ],
)
def test_an_attempt_is_made_again_after_what_retry_on_names(
    error: BaseException, retry_on: tuple[type[BaseException], ...], again: bool
) -> None:
    assert failure(raised(error), retry_on).may_retry is again


def test_a_class_that_cannot_be_asked_for_does_not_hide_the_error() -> None:
    told = failure(raised(ValueError("named")), (HostileError,))
    assert (told.text, told.may_retry) == ("ValueError: named", False)
    assert "Traceback" in told.traceback


def test_the_longest_delay_of_a_group_is_taken() -> None:
    assert failure(ExceptionGroup("", [Retry(1), Retry(7), Retry()]), (KeyError,)).retry_delay == 7


@each(
    "delay, seconds",
    [
        (None, None),
        (0, 0.0),
        (1.5, 1.5),
        (DAYS_30, float(DAYS_30)),
        (timedelta(minutes=2), 120.0),
        (timedelta(days=30), float(DAYS_30)),
        (Decimal("0.25"), 0.25),
        (Fraction(1, 4), 0.25),
    ],
)
def test_a_delay_is_a_number_of_seconds_or_a_timedelta(delay: Any, seconds: float | None) -> None:
    assert Retry(delay).delay == seconds


class Unrepresentable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


@each(
    "delay",
    [
        float("nan"),
        float("inf"),
        -float("inf"),
        -1,
        -1e-9,
        DAYS_30 + 1,
        1e308,
        10**400,
        -(10**400),
        10**5000,
        timedelta(seconds=-1),
        timedelta.max,
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        Decimal("1e999"),
        "5",
        b"5",
        True,
        [],
        1j,
        object(),
        Unrepresentable(),
        "x" * 100_000,
    ],
    ids=lambda delay: type(delay).__name__,
)
def test_what_is_no_delay_is_refused_where_it_is_given(delay: Any) -> None:
    with pytest.raises(DelayError, match=r"^Retry: delay=.* is not allowed: expected .*$") as error:
        Retry(delay)
    assert isinstance(error.value, TypeError)
    assert isinstance(error.value, ValueError)
    assert len(str(error.value)) < 200


class BypassedRetry(Retry):
    def __init__(self) -> None:
        pass


def late(delay: Any) -> Retry:
    retry = Retry()
    retry.delay = delay
    return retry


@each("delay", ["x", float("nan"), -1, 10**400, timedelta(days=-1), Unrepresentable()])
@each("lane", ["loop", "thread"])
def test_a_delay_that_was_set_later_harms_nobody(lane: str, delay: Any) -> None:
    async def on_loop(_: object) -> None:
        raise late(delay)

    def in_thread(_: object) -> None:
        raise late(delay)

    async def test() -> None:
        options = Options(name="work", retries=3)
        async with engine_of((on_loop if lane == "loop" else in_thread, options)) as engine:
            status = await over(engine, submit(engine, "work"))
            assert (status.state, status.reason, status.attempt) == (State.FAILED, Reason.ERROR, 1)
            assert "is not allowed: expected" in said(engine, status)

    run(test)


def test_a_delay_that_is_none_fails_the_job_at_once() -> None:
    async def work(_: object) -> None:
        raise Retry("5")  # type: ignore[arg-type]

    async def test() -> None:
        async with engine_with(work) as engine:
            status = await over(engine, submit(engine, "work", retries=3))
            assert (status.state, status.reason, status.attempt) == (State.FAILED, Reason.ERROR, 1)
            assert said(engine, status) == (
                "DelayError: Retry: delay='5' is not allowed: expected seconds as a number, or a timedelta"
            )

    run(test)


def test_a_subclass_of_retry_that_does_not_call_init_takes_the_backoff() -> None:
    async def work(_: object) -> None:
        raise BypassedRetry

    async def test() -> None:
        async with engine_with(work) as engine:
            status = await over(engine, submit(engine, "work", retries=1))
            assert (status.attempt, said(engine, status)) == (2, Retry.text)

    run(test)


@pytest.mark.parametrize("when", [float("nan"), float("inf"), -float("inf")])
def test_a_schedule_takes_times_only(when: float) -> None:
    schedule = Schedule()
    schedule.add(1, 5.0)
    with pytest.raises(ValueError, match="expected a finite time"):
        schedule.add(2, when)
    schedule.add(3, 1.0)
    assert schedule.take(9.0) == [3, 1]
    assert len(schedule) == 0


async def fails(_: object) -> None:
    raise ValueError("find me")


def fails_in_thread(_: object) -> None:
    raise ValueError("find me")


async def asks(_: object) -> None:
    raise Retry(0.01)


async def hangs(_: object) -> None:
    await asyncio.Event().wait()


async def returns_no_json(_: object) -> object:
    return object()


@pytest.mark.parametrize(
    ("function", "members", "reason", "attempts"),
    [
        (fails, {"retries": 2}, "error", 3),
        (fails_in_thread, {"retries": 1}, "error", 2),
        (asks, {"retries": 1}, "error", 2),
        (hangs, {"timeout": 0.02, "retries": 1}, "timeout", 2),
        (hangs, {"deadline": 0.02}, "deadline", 1),
        (returns_no_json, {}, "error", 1),
    ],
)
def test_each_failed_attempt_writes_one_line(
    function: Callable[..., Any],
    members: dict[str, Any],
    reason: str,
    attempts: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        async with engine_with(function) as engine:
            ids.append(submit(engine, function.__name__, **members).decode())
            await over(engine, ids[0].encode())

    ids: list[str] = []
    with caplog.at_level(logging.INFO, "headway"):
        run(test)
    lines = [record for record in caplog.records if hasattr(record, "job")]
    assert [record.__dict__["attempt"] for record in lines] == list(range(1, attempts + 1))
    for record in lines:
        fields = record.__dict__
        assert (fields["job"], fields["task"], fields["reason"]) == (ids[0], function.__name__, reason)
        assert record.levelno == logging.WARNING
        assert "\n" not in record.getMessage()
        assert f"job {ids[0]}: attempt {fields['attempt']} at task {function.__name__} failed ({reason}):" in (
            record.getMessage()
        )
        if "fails" in function.__name__:
            assert record.exc_text is not None
            assert f"in {function.__name__}" in record.exc_text
            assert "core/work/attempt.py" not in record.exc_text


def test_an_error_of_several_lines_is_one_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def forges(_: object) -> None:
        raise ValueError("x\n2026 ERROR forged\x1b[31m\u2028end")

    async def test() -> None:
        async with engine_with(forges) as engine:
            status = await over(engine, submit(engine, "forges"))
            assert said(engine, status) == "ValueError: x\n2026 ERROR forged\x1b[31m\u2028end"

    run(test)
    assert "x\\n2026 ERROR forged\\x1b[31m\\u2028end" in caplog.records[-1].getMessage()


@pytest.mark.parametrize("error", [UnprintableError(), LockedError(1, 2), HostileError()])
def test_errors_with_hostile_methods_fail_their_attempt_only(error: Exception) -> None:
    def work(where: str) -> Any:
        async def on_loop(_: object) -> None:
            raise error

        def in_thread(_: object) -> None:
            raise error

        return on_loop if where == "loop" else in_thread

    async def test() -> None:
        for where in ("loop", "thread"):
            options = Options(name="work", retries=3, retry_on=KeyError)
            async with engine_of((work(where), options), workers=1) as engine:
                status = await over(engine, submit(engine, "work"))
                assert (status.state, status.reason, status.attempt) == (State.FAILED, Reason.ERROR, 1)
                assert said(engine, status).startswith(type(error).__name__)
                assert engine.active.workers.idle == 1

    run(test)


def test_a_partial_of_a_coroutine_function_is_run_on_the_loop() -> None:
    async def work(tenant: str, payload: int) -> list[object]:
        return [tenant, payload, threading.current_thread() is threading.main_thread()]

    async def test() -> None:
        async with engine_of((partial(work, "acme"), Options(name="work"))) as engine:
            assert said(engine, await over(engine, submit(engine, "work", 1))) == '["acme",1,true]'

    run(test)
