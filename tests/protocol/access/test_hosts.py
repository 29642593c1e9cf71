"""Names of the server: others are refused, so that no page of another site reads a server on loopback."""

from __future__ import annotations

import tracemalloc

import pytest
from headway.core.errors import ConfigError
from headway.protocol.access.hosts import KNOWN_MOST, Hosts
from headway.protocol.http.problems import Refusal

HERE = [
    b"localhost",
    b"LocalHost:8080",
    b"localhost.",
    b"127.0.0.1",
    b"127.0.0.1:80",
    b"10.1.2.3:8080",
    b"[::1]:8080",
    b"[fd00::1]",
]
ELSEWHERE = [
    b"evil.example",
    b"localhost.evil.example",
    b"127.0.0.1.evil.example:8080",
    b"jobs.example.com.evil",
    b"0x7f000001",
]


@pytest.mark.parametrize("host", [*HERE, b"", None])
def test_loopback_and_addresses_are_names_of_any_server(host: bytes | None) -> None:
    Hosts(()).check(host)


@pytest.mark.parametrize("host", ELSEWHERE)
def test_other_names_are_refused(host: bytes) -> None:
    hosts = Hosts(("jobs.example.com",))
    for _ in range(2):
        with pytest.raises(Refusal, match="no name"):
            hosts.check(host)


def test_names_that_were_given_are_taken_in_any_case_and_with_any_port() -> None:
    for name in ("Jobs.Example.com", "Jobs.Example.com."):
        hosts = Hosts((name,))
        for host in (b"jobs.example.com", b"JOBS.example.com:8080", b"jobs.example.com.:8080"):
            hosts.check(host)


def test_any_name_will_do_if_the_settings_say_so() -> None:
    Hosts(("*",)).check(b"evil.example")
    Hosts((), any_name=True).check(b"evil.example")


def test_a_client_that_makes_up_names_fills_no_memory() -> None:
    hosts = Hosts(())
    tracemalloc.start()
    try:
        for number in range(32 * KNOWN_MOST):
            hosts.check(b"127.0.0.1:%d" % number)
        assert tracemalloc.get_traced_memory()[0] < KNOWN_MOST * 512
    finally:
        tracemalloc.stop()
    hosts.check(b"localhost")


@pytest.mark.parametrize(
    "name",
    [
        "https://jobs",
        "jobs:8080",
        "",
        " jobs",
        "a/b",
        "a b",
        "*.example.com",
        "jobs..com",
        ".",
        ".com",
        "jobs\n",
        "jöbs",
    ],
)
def test_a_name_that_is_none_is_told(name: str) -> None:
    with pytest.raises(ConfigError, match=r"http\.hosts: .* is no name of a host"):
        Hosts((name,))
