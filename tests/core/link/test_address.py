"""The URL of a store."""

from __future__ import annotations

import pytest
from headway.core.errors import ConfigError
from headway.core.link.address import Address

from tests.each import each


def test_a_url_is_read() -> None:
    address = Address.of("valkey://me:s%40%3A%2F@store.example:6380/3")
    assert address.hosts == (("store.example", 6380),)
    assert (address.user, address.password, address.database) == ("me", "s@:/", 3)
    assert (address.tls, address.cluster, address.partitions) == (False, False, 1)


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("redis://a", (("a", 6379),)),
        ("valkey://a:1,b,[::1]:3,[::2]/", (("a", 1), ("b", 6379), ("::1", 3), ("::2", 6379))),
        ("valkey://:secret@a", (("a", 6379),)),
        ("valkey://a?sentinel=main", (("a", 26379),)),
        ("valkey://a/?db=4", (("a", 6379),)),
    ],
)
def test_hosts_have_their_ports(url: str, hosts: object) -> None:
    assert Address.of(url).hosts == hosts


@each(
    "url, shown",
    [
        ("valkey://me:secret@a:1,b/2", "valkey://me:***@a:1,b:6379/2"),
        ("redis://:secret@a", "valkey://:***@a:6379/0"),
        ("rediss://me@[::1]/", "rediss://me@[::1]:6379/0"),
        ("valkeys://a?ca=/x", "rediss://a:6379/0"),
        ("unix:///run/valkey.sock", "unix:///run/valkey.sock"),
        ("unix:///run/valkey.sock?db=2", "unix:///run/valkey.sock?db=2"),
        ("valkey://a?cluster=true&partitions=8", "valkey://a:6379/0?cluster=true"),
        ("valkey://a/1?sentinel=main", "valkey://a:26379/1?sentinel=main"),
    ],
)
def test_it_is_shown_without_the_password(url: str, shown: str) -> None:
    address = Address.of(url)
    assert str(address) == shown
    assert "secret" not in repr(address)
    # What is shown leads to the same place.
    assert str(Address.of(shown)) == shown


def test_a_cluster_has_sixteen_partitions() -> None:
    assert Address.of("valkey://a?cluster=true").partitions == 16
    assert Address.of("valkey://a?cluster=true&partitions=40").partitions == 40


@each(
    "url, fault",
    [
        ("localhost:6379", "begins with valkey://"),
        ("http://secret@a", "begins with valkey://"),
        ("valkey://", "has no host"),
        ("valkey:///0", "has no host"),
        ("valkey://u:secret@", "has no host"),
        ("valkey://a,", "a host has no name"),
        ("valkey://a:secret", "a port is a whole number"),
        ("valkey://a:70000", "a port is a whole number, at most 65535"),
        ("valkey://::1/0", "an IPv6 address stands in"),
        ("valkey://[::1", "an IPv6 address stands in"),
        ("valkey://a /0", "is no URL"),
        ("valkey://a\n/0", "is no URL"),
        ("secret", "is no URL"),
        ("valkey://u:sec#ret@a", "written %23"),
        ("valkey://a/x", "the database is a whole number"),
        ("valkey://a/-1", "the database is a whole number"),
        ("valkey://a/²", "the database is a whole number"),
        ("valkey://a?cluster=yes", "cluster is true or false"),
        ("valkey://a?cluster", "is no URL"),
        ("valkey://a?cluster=true&sentinel=x", "not both"),
        ("valkey://a:26379?sentinel=", "sentinel is the name of the primary"),
        ("valkey://a/1?cluster=true", "a cluster has only database 0"),
        ("valkey://a?cluster=true&partitions=0", "partitions is at least 1"),
        ("valkey://a?cluster=true&partitions=2000", "partitions is a whole number, at most 1024"),
        ("valkey://a?ca=/x", "use rediss://"),
        ("rediss://a?key=/x", "go together"),
        ("valkey://a?timeout=3", "there is no option 'timeout'. There are sentinel,"),
        ("unix://run/valkey.sock", "unix:///path"),
        ("unix:///run/valkey.sock?cluster=true", "a socket leads to one server"),
    ],
)
def test_a_mistake_is_named_in_a_line_without_the_password(url: str, fault: str) -> None:
    with pytest.raises(ConfigError) as error:
        Address.of(url)
    text = str(error.value)
    assert text.startswith("engine: ")
    assert fault in text
    assert "\n" not in text
    assert "secret" not in text
    assert "sec#ret" not in text
