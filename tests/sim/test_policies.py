"""When each policy polls again."""

import pytest
from headway.sim.answers import Answer
from headway.sim.policies import LEAST_S, UNTOLD_S, WAIT_S, PolicyError, policy
from headway.sim.settings import SettingsError


def accepted(lines: bytes) -> Answer:
    return Answer(202, b"HTTP/1.1 202 Accepted\r\nJob-State: queued\r\n" + lines + b"\r\n")


@pytest.mark.parametrize(("text", "delay"), [("1s", 1), ("250ms", 0.25), ("1.5s", 1.5), ("2", 2), ("1m", 60)])
def test_an_interval_is_kept_whatever_the_server_says(text: str, delay: float) -> None:
    every = policy(text)
    answer = accepted(b"Retry-After: 9\r\nRetry-After-Ms: 8500\r\n")
    assert every.first_s(answer) == every.delay_s(answer, 0.1) == delay
    assert every.name == text


@pytest.mark.parametrize(
    ("lines", "delay"),
    [
        (b"Retry-After: 9\r\nRetry-After-Ms: 8500\r\n", 8.5),
        (b"Retry-After: 9\r\n", 9),
        (b"", UNTOLD_S),
        (b"Retry-After: 0\r\n", LEAST_S),
    ],
)
def test_when_told_obeys(lines: bytes, delay: float) -> None:
    answer = accepted(lines)
    for name in ("when-told", "batch-told"):
        assert policy(name).first_s(answer) == policy(name).delay_s(answer, 0.1) == delay


def test_who_knows_seconds_alone_obeys_them() -> None:
    assert policy("retry-after").first_s(accepted(b"Retry-After: 9\r\nRetry-After-Ms: 8500\r\n")) == 9


APPLIED = b"Preference-Applied: wait=20\r\nRetry-After-Ms: 1500\r\n"


@pytest.mark.parametrize(
    ("lines", "took", "delay"),
    [(APPLIED, 20.05, 0), (APPLIED, 0.1, 1.5), (b"Retry-After-Ms: 1500\r\n", 20.05, 1.5)],
    ids=["held in full", "let go early", "not held this time"],
)
@pytest.mark.parametrize("name", ["wait", "batch"])
def test_wait_asks_at_once_unless_its_answer_came_early(name: str, lines: bytes, took: float, delay: float) -> None:
    waiting = policy(name)
    assert waiting.first_s(accepted(b"Retry-After: 9\r\n")) == 0
    assert waiting.delay_s(accepted(APPLIED), 20) == 0
    assert waiting.delay_s(accepted(lines), took) == delay


def test_a_server_that_has_never_held_an_answer_cannot() -> None:
    with pytest.raises(PolicyError, match="does not know Prefer: wait"):
        policy("wait").delay_s(accepted(b"Retry-After-Ms: 1500\r\n"), 0.1)


def test_what_is_held_and_what_is_one() -> None:
    names = ("1s", "when-told", "retry-after", "wait", "batch-told", "batch")
    told = {name: policy(name) for name in names}
    assert [name for name in names if told[name].name != name] == []
    assert [name for name in names if told[name].batched] == ["batch-told", "batch"]
    assert {name: told[name].held_s for name in names if told[name].held_s} == {"wait": WAIT_S, "batch": WAIT_S}
    assert {told[name].fields for name in names} == {b"", b"Prefer: wait=%d\r\n" % WAIT_S}


@pytest.mark.parametrize("text", ["", "often", "1x", "0s", "5ms", "2h", "-1s", "nan", "1e3", "wait=5", "Batch"])
def test_what_is_no_policy(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^poll: .*(expected (when-told, retry-after, wait|a time)|interval)"):
        policy(text)
