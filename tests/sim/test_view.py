"""What a run looks like, in a terminal and not."""

import io

import pytest
from headway.sim.figures import Figures, Moment, Pulse
from headway.sim.settings import CrowdSettings
from headway.sim.view import LineView, Terminal, line, view
from rich.console import Console


def moment(elapsed: float = 1.0) -> Moment:
    figures = Figures(created=3, errors={"reset": 2}, pushed_back={429: 4})
    for _ in range(100):
        figures.poll.record(0.002)
    figures.end("succeeded")
    figures.polls_of_ended = 4
    return Pulse(figures, 0.0, 60.0).beat(elapsed, clients=500, connections=20)


def test_a_moment_is_what_came_since_the_last() -> None:
    figures = Figures()
    pulse = Pulse(figures, 0.0, 0.0)
    for _ in range(10):
        figures.poll.record(0.002)
        figures.end("succeeded")
        figures.polls_of_ended += 3
    first, second = pulse.beat(2.0, 1, 1), pulse.beat(4.0, 1, 1)
    assert (first.requests_per_s, first.jobs_per_s, first.polls_per_job) == (5, 5, 3)
    assert (second.requests_per_s, second.jobs_per_s, second.polls_per_job) == (0, 0, 3)
    assert first.poll[0] == pytest.approx(0.002, rel=0.02)
    assert second.poll == (0, 0, 0)
    assert figures.poll.all.count == 10


def test_a_line_tells_it_all() -> None:
    said = line(moment())
    for part in ("500 clients", "1 jobs/s", "100 requests/s", "4.00 polls/job", "p50 2.0", "pushed back 4", "reset: 2"):
        assert part in said
    assert "\x1b" not in said


def test_lines_come_each_five_seconds() -> None:
    out = io.StringIO()
    with LineView(out) as lines:
        for second in range(1, 13):
            lines.show(moment(second))
    assert [text.split()[0] for text in out.getvalue().splitlines()] == ["1", "6", "11"]


@pytest.mark.parametrize("no_color", [False, True])
def test_the_terminal_shows_it_all(monkeypatch: pytest.MonkeyPatch, no_color: bool) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, highlight=False)
    with Terminal(console, CrowdSettings()) as terminal:
        terminal.show(moment(30.0))
    said = out.getvalue()
    for part in ("500 clients at http://", "on 20 connections", "reset: 2", "succeeded: 1", "30 of 60 s", "p95 2.0"):
        assert part in said
    assert ("\x1b[1;31m" in said) is not no_color


def test_what_is_no_terminal_gets_lines() -> None:
    assert isinstance(view(io.StringIO(), CrowdSettings()), LineView)
