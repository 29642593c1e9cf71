"""When each policy polls again."""

import pytest
from headway.sim.answers import Answer
from headway.sim.policies import LEAST_S, UNTOLD_S, policy
from headway.sim.settings import SettingsError


def accepted(lines: bytes) -> Answer:
    return Answer(202, b"HTTP/1.1 202 Accepted\r\nJob-State: queued\r\n" + lines + b"\r\n")


@pytest.mark.parametrize(("text", "delay"), [("1s", 1), ("250ms", 0.25), ("1.5s", 1.5), ("2", 2), ("1m", 60)])
def test_an_interval_is_kept_whatever_the_server_says(text: str, delay: float) -> None:
    every = policy(text)
    assert every.delay_s(accepted(b"Retry-After: 9\r\nRetry-After-Ms: 8500\r\n")) == delay
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
    assert policy("when-told").delay_s(accepted(lines)) == delay


@pytest.mark.parametrize("text", ["", "often", "1x", "0s", "5ms", "2h", "-1s", "nan", "1e3"])
def test_what_is_no_policy(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^poll: .*(expected|interval)"):
        policy(text)
