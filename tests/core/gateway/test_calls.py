"""The calls of a gateway: while there is no engine, after one has ended, and within bounds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec
import pytest
from headway.core.errors import EngineRestartsError, HeadwayError, QueueFullError, RestartedError
from headway.core.gateway import wire
from headway.core.gateway.calls import KEPT_BYTES, KEPT_MOST, KEPT_S, START_S, OpenCall, OpenCalls
from headway.core.gateway.link import EngineLink
from headway.core.job import Submission


class Sent(EngineLink):
    """A link that keeps what was sent."""

    def __init__(self) -> None:
        super().__init__(lambda kind, number, message: None, int)
        self.frames: list[tuple[int, int]] = []

    def send(self, kind: int, number: int = 0, message: bytes = b"") -> None:
        """Keep it."""
        self.frames.append((kind, number))

    @property
    def calls(self) -> list[int]:
        """The numbers of the calls."""
        return [number for kind, number in self.frames if kind == wire.CALL]


def on_loop(test: Callable[[OpenCalls, Sent], None]) -> Callable[[], None]:
    """Run a test on a loop, with calls and a link."""

    def run() -> None:
        async def main() -> None:
            test(OpenCalls(), Sent())

        asyncio.run(main())

    return run


def submitted(calls: OpenCalls, payload: bytes = b"1") -> OpenCall:
    return calls.ask("submit", (Submission("add", msgspec.Raw(payload)), None))


def error_of(call: OpenCall) -> Exception | None:
    """What a call raises, None for nothing."""
    try:
        call.value()
    except Exception as error:  # noqa: BLE001 — the tests say which
        return error
    return None


@on_loop
def _calls_without_an_engine(calls: OpenCalls, link: Sent) -> None:
    asked = [submitted(calls), calls.ask("task", ("add",)), submitted(calls)]
    calls.open(link)
    assert link.calls == [call.number for call in asked]
    calls.answered(asked[1].number, wire.encode(None))
    assert asked[1].value() is None


def test_calls_without_an_engine_are_sent_to_the_next_in_their_order() -> None:
    _calls_without_an_engine()


@on_loop
def _end_without_a_word(calls: OpenCalls, link: Sent) -> None:
    calls.open(link)
    changing, reading = submitted(calls), calls.ask("task", ("add",))
    woken: list[OpenCall] = []
    changing.when_known(lambda: woken.append(changing))
    reading.when_known(lambda: woken.append(reading))
    calls.lost()
    assert woken == [changing]
    assert isinstance(error_of(changing), RestartedError)
    other = Sent()
    calls.open(other)
    assert other.calls == [reading.number]


def test_after_an_end_without_a_word_changes_are_unknown_and_all_else_is_asked_again() -> None:
    _end_without_a_word()


@on_loop
def _deploy(calls: OpenCalls, link: Sent) -> None:
    calls.open(link)
    calls.pause()
    held = submitted(calls)
    calls.lost()
    assert (link.calls, error_of(held)) == ([], None)
    other = Sent()
    calls.open(other)
    assert other.calls == [held.number]


def test_calls_that_come_after_the_pause_of_a_deploy_go_to_the_next_program() -> None:
    _deploy()


@pytest.mark.parametrize(("was_there", "seconds"), [(False, START_S), (True, KEPT_S)])
def test_a_call_is_given_up_after_its_time(was_there: bool, seconds: float) -> None:
    @on_loop
    def run(calls: OpenCalls, link: Sent) -> None:
        if was_there:
            calls.open(link)
            calls.lost()
        call, now = submitted(calls), time.monotonic()
        calls.tick(now + seconds - 0.1)
        assert error_of(call) is None
        calls.tick(now + seconds + 0.1)
        assert isinstance(error_of(call), EngineRestartsError)
        assert not isinstance(error_of(call), RestartedError)
        calls.open(Sent())
        assert len(calls) == 0

    run()


@on_loop
def _too_many(calls: OpenCalls, _: Sent) -> None:
    for _number in range(KEPT_MOST):
        calls.ask("task", ("add",))
    with pytest.raises(EngineRestartsError):
        calls.ask("task", ("add",))


@on_loop
def _too_large(calls: OpenCalls, _: Sent) -> None:
    submitted(calls, b'"%b"' % (b"x" * (KEPT_BYTES - 1000)))
    with pytest.raises(EngineRestartsError):
        submitted(calls, b'"%b"' % (b"x" * 2000))


def test_kept_calls_are_bounded_in_number_and_in_bytes() -> None:
    _too_many()
    _too_large()


@on_loop
def _gone(calls: OpenCalls, link: Sent) -> None:
    held = calls.ask("task", ("add",))
    held.cancel()
    calls.open(link)
    assert link.calls == []
    reading, changing = calls.ask("task", ("add",)), submitted(calls)
    reading.cancel()
    changing.cancel()
    assert [kind for kind, _ in link.frames] == [wire.CALL, wire.CALL, wire.CANCEL]
    # It is made all the same, and its answer is dropped.
    assert len(calls) == 1


def test_a_client_that_goes_gives_up_its_question_and_not_its_submission() -> None:
    _gone()


@on_loop
def _fault(calls: OpenCalls, link: Sent) -> None:
    calls.open(link)
    call = submitted(calls)
    calls.refused(call.number, wire.encode(wire.SentFault.of(QueueFullError(10, 1, 0, 2.5))))
    error = error_of(call)
    assert isinstance(error, QueueFullError)
    assert (error.size, error.room, error.retry_after_s) == (10, 0, 2.5)
    assert str(error) == str(QueueFullError(10, 1, 0, 2.5))


def test_an_error_is_the_one_that_the_engine_raised() -> None:
    _fault()


@pytest.mark.parametrize("deployed", [True, False])
def test_a_call_is_kept_anew_after_a_deploy_and_not_after_an_end_without_a_word(
    deployed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    @on_loop
    def run(calls: OpenCalls, link: Sent) -> None:
        waits, begun = calls.ask("task", ("add",)), time.monotonic()
        calls.open(link)
        monkeypatch.setattr("time.monotonic", lambda: begun + KEPT_S + 1)
        if deployed:
            calls.pause()
        calls.lost()
        calls.tick(begun + KEPT_S + 2)
        assert error_of(waits) is None if deployed else isinstance(error_of(waits), EngineRestartsError)

    run()


@pytest.mark.parametrize("answer", [OpenCalls.answered, OpenCalls.refused])
def test_an_answer_that_cannot_be_read_is_an_error_of_that_call_alone(
    answer: Callable[[OpenCalls, int, bytes], None], caplog: pytest.LogCaptureFixture
) -> None:
    """An engine of another version may have sent it, before this gateway is replaced."""

    @on_loop
    def run(calls: OpenCalls, link: Sent) -> None:
        calls.open(link)
        first, second = submitted(calls), submitted(calls)
        answer(calls, first.number, wire.encode({"no": "such value"}))
        assert isinstance(error_of(first), HeadwayError)
        assert error_of(second) is None
        assert len(calls) == 1

    run()
    assert "the answer to a call of submit cannot be read" in caplog.text
