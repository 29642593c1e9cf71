"""How much one client may ask for, and who one client is."""

from __future__ import annotations

import json
import time
import tracemalloc

import msgspec
import pytest
from headway.core.config import Config
from headway.core.errors import ConfigError
from headway.protocol.access.clients import Clients
from headway.protocol.access.limits import CLIENT_BYTES, CLIENTS_MOST, Rate, limits
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Start
from tests.each import each
from tests.end_to_end.process import Server
from tests.protocol.api.test_batches import batch, one
from tests.protocol.wire import Answer, post, request, submission

BEGIN_S = 1000.0
quotas = st.integers(1, 20)
windows = st.integers(1, 5)
gaps = st.one_of(st.just(0.0), st.floats(0, 8), st.floats(0, 0.2))


@given(quotas, windows, st.lists(st.tuples(gaps, st.integers(1, 4)), max_size=60))
def test_over_any_time_no_more_are_let_in_than_quota_and_rate_allow(
    quota: int, window: int, tries: list[tuple[float, int]]
) -> None:
    rate = Rate("poll", quota, window)
    now = BEGIN_S
    let_in: list[tuple[float, int]] = []
    for gap, count in tries:
        now += gap
        wait, until_whole = rate.admit(b"one", count, now)
        assert 0 <= until_whole <= window * (1 + 1e-6)
        if not wait:
            let_in.append((now, count))
    for first, (begin, _) in enumerate(let_in):
        for last in range(first, len(let_in)):
            total = sum(count for _, count in let_in[first : last + 1])
            assert total <= quota + quota / window * (let_in[last][0] - begin) + 1e-6


@given(quotas, windows, st.lists(st.tuples(gaps, st.integers(1, 20)), max_size=60))
def test_who_waits_as_told_is_let_in_and_who_has_something_left_too(
    quota: int, window: int, tries: list[tuple[float, int]]
) -> None:
    rate = Rate("poll", quota, window)
    now = BEGIN_S
    left = quota
    for gap, wanted in tries:
        now += gap
        count = min(wanted, quota)
        wait, until_whole = rate.admit(b"one", count, now)
        if wait:
            assert count > left or gap
            now += wait / 1000
            wait, until_whole = rate.admit(b"one", count, now)
            assert wait == 0
        left = rate.left(until_whole)
        assert 0 <= left <= quota - count
        assert rate.admit(b"one", left + 1, now)[0] > 0
        if left:
            assert rate.admit(b"one", left, now)[0] == 0
            left = 0


@given(st.lists(st.tuples(st.floats(0, 4), st.integers(0, 5)), max_size=80))
def test_what_is_dropped_at_the_end_of_a_window_is_what_need_not_be_known(tries: list[tuple[float, int]]) -> None:
    rate = Rate("poll", 1, 2)
    # The same without a window's end: what was let in, when.
    whole_at: dict[int, float] = {}
    now = BEGIN_S
    for gap, client in tries:
        now += gap
        after = max(whole_at.get(client, 0.0), now) + 2
        expected = after - now <= 2 + 1e-9
        if expected:
            whole_at[client] = after
        assert (rate.admit(b"%d" % client, 1, now)[0] == 0) == expected


def test_a_crowd_of_clients_takes_no_memory_and_makes_no_count_be_forgotten() -> None:
    rate = Rate("poll", 2, 10, clients_most=100)
    now = BEGIN_S
    assert [rate.admit(b"honest", 1, now)[0] > 0 for _ in range(3)] == [False, False, True]
    let_in = sum(rate.admit(b"%d" % number, 1, now)[0] == 0 for number in range(10_000))
    # 99 on their own and two for all the others.
    assert let_in == 101
    assert len(rate) <= 101
    assert rate.admit(b"honest", 1, now)[0] > 0
    for window in range(1, 4):
        now += 10.5
        for number in range(10_000):
            rate.admit(b"%d %d" % (window, number), 1, now)
        assert len(rate) <= 202


def test_what_is_given_back_to_one_of_a_crowd_is_given_back_to_the_crowd() -> None:
    rate = Rate("submit", 3, 10, clients_most=1)
    assert [rate.admit(client, 1, BEGIN_S)[0] for client in (b"known", b"other")] == [0, 0]
    rate.give_back(b"other", BEGIN_S)
    assert rate.admit(b"other", 3, BEGIN_S)[0] == 0
    assert rate.admit(b"another", 1, BEGIN_S)[0] > 0


def test_the_clients_of_a_rate_take_what_the_start_line_says() -> None:
    tracemalloc.start()
    try:
        rate = Rate("poll", 1, 10)
        for now in (BEGIN_S, BEGIN_S + 10):
            for number in range(CLIENTS_MOST):
                client = number.to_bytes(16, "big")
                rate.admit(client, 1, now)
                rate.promised_ms(client, 1000, now, lambda seconds: seconds)
        assert len(rate) == 2 * CLIENTS_MOST
        assert tracemalloc.get_traced_memory()[0] < CLIENTS_MOST * CLIENT_BYTES
    finally:
        tracemalloc.stop()


TRUSTED = ("10.0.0.0/8", "fd00::/8")
PEERS = [
    # Who is not trusted is not believed.
    ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
    ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
    ("10.0.0.1", "203.0.113.5, 198.51.100.7", "198.51.100.7"),
    ("10.0.0.1", "203.0.113.5, 198.51.100.7, 10.2.3.4", "198.51.100.7"),
    ("10.0.0.1", "10.9.9.9, 10.2.3.4", "10.9.9.9"),
    ("10.0.0.1", "198.51.100.7, unknown", "10.0.0.1"),
    ("10.0.0.1", "198.51.100.7,", "10.0.0.1"),
    ("10.0.0.1", "", "10.0.0.1"),
    ("fd00::1", "198.51.100.7:4711", "198.51.100.7"),
    ("::ffff:10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"),
    ("10.0.0.1", "2001:db8:0:1::17", "2001:db8:0:1::99"),
    ("10.0.0.1", "\t198.51.100.7 \t", "198.51.100.7"),
    ("10.0.0.1", "[2001:db8:0:1::17]:4711", "2001:db8:0:1::"),
    ("10.0.0.1", "203.0.113.5, ::ffff:10.2.3.4", "203.0.113.5"),
    # No addresses: octal, short, a number, a port alone, a zone with nothing, digits of another script.
    *(("10.0.0.1", f"203.0.113.5, {wrong}", "10.0.0.1") for wrong in ("198.51.100.07", "1.2.3", "3232235777", ":80")),
    *(("10.0.0.1", f"203.0.113.5, {wrong}", "10.0.0.1") for wrong in ("%eth0", "198.51.100.\u0661", "1.2.3.4\0")),
    ("unknown", "198.51.100.7", ""),
    ("unix", "198.51.100.7", ""),
]


@each("peer, said, client", PEERS)
def test_a_proxy_is_believed_if_it_is_trusted(peer: str, said: str, client: str) -> None:
    clients = Clients(TRUSTED, "x-forwarded-for")
    assert clients.key(peer, {b"x-forwarded-for": said.encode(errors="replace")}) == clients.key(client, {})
    # The other header may have come from anybody.
    assert clients.key(peer, {b"forwarded": b"for=198.51.100.7"}) == clients.key(peer, {})


@each(
    "said, client",
    [
        ("for=198.51.100.7", "198.51.100.7"),
        ('For="198.51.100.7:4711";proto=http;by=203.0.113.43', "198.51.100.7"),
        ('by=203.0.113.43; for="[2001:db8:0:1::17]:4711"', "2001:db8:0:1::"),
        ("for=203.0.113.5, for=198.51.100.7, for=10.1.1.1", "198.51.100.7"),
        ('for="203.0.113.5, for=198.51.100.7', "198.51.100.7"),
        ("for=_hidden, for=10.1.1.1", "10.1.1.1"),
        ("for=unknown", "10.0.0.1"),
        ("proto=http", "10.0.0.1"),
        # A Host of the client, in quotes, names nobody.
        ('host="a;for=203.0.113.5";for=198.51.100.7', "198.51.100.7"),
        ('for=198.51.100.7;host="a,for=203.0.113.5"', "198.51.100.7"),
        ('for=198.51.100.7;host="a,for=203.0.113.5;x="', "198.51.100.7"),
        ('by=10.0.0.1;host="a, for=203.0.113.5";for=198.51.100.7', "198.51.100.7"),
        (r'host="\",for=203.0.113.5;x=\"";for=198.51.100.7', "198.51.100.7"),
        # An open quote of the client takes nothing of what the proxy appends.
        ('for=203.0.113.5;x=", for=198.51.100.7;host="a"', "198.51.100.7"),
        ('a=", for=198.51.100.7;host=";for=203.0.113.5;x="', "198.51.100.7"),
        ('a="\\", for=198.51.100.7', "198.51.100.7"),
        # Nobody knows which of two it is, nor how to read the rest.
        ("for=198.51.100.7;for=203.0.113.5", "10.0.0.1"),
        ("for=203.0.113.5, for=198.51.100.7 x", "10.0.0.1"),
        ("for=203.0.113.5,", "10.0.0.1"),
        ("xfor=203.0.113.5", "10.0.0.1"),
        ("for=[2001:db8:0:1::17]", "10.0.0.1"),
        ('FOR = "198.51.100.7"', "10.0.0.1"),
        ("for=198.51.100.7 ;\tproto=https\t", "198.51.100.7"),
    ],
)
def test_forwarded(said: str, client: str) -> None:
    clients = Clients(TRUSTED, "forwarded")
    assert clients.key("10.0.0.1", {b"forwarded": said.encode()}) == clients.key(client, {})


@each("part", [",", ";", " ;", ", ;", 'a="b,', 'a=",";', ',;a="', r'a="\",', "a=b,", "a=b; ", '",'])
def test_a_header_of_full_length_is_read_in_little_time(part: str) -> None:
    """Whatever is in it. What takes the square of the length takes minutes."""
    clients = Clients(("0.0.0.0/0",), "forwarded")
    said = (part * 16_384)[:16_384].encode()
    begin = time.process_time()
    for end in (b"", b'"', b"x"):
        clients.key("10.0.0.1", {b"forwarded": said + end})
    assert time.process_time() - begin < 2


def test_networks() -> None:
    clients = Clients(("::ffff:10.0.0.0/104", "unix"), "x-forwarded-for")
    peers = ("10.1.2.3", "::ffff:10.1.2.3", "unix", "11.0.0.1", "::1", "", "-", "unknown")
    assert [clients.trusts(peer) for peer in peers] == [True, True, True, *[False] * 5]
    assert not Clients((), "forwarded").trusts("unix")
    said = {b"x-forwarded-for": b"198.51.100.7"}
    assert clients.key("unix", said) == clients.key("198.51.100.7", {})
    assert clients.key("unknown", said) == clients.key("-", said) == b""


def test_neighbours_on_ipv6_are_one_client_and_on_ipv4_they_are_not() -> None:
    clients = Clients((), "x-forwarded-for")
    keys = [clients.key(peer, {}) for peer in ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1")]
    assert keys[0] == keys[1] != keys[2]
    assert len({clients.key(peer, {}) for peer in ("192.0.2.1", "192.0.2.2", "::ffff:192.0.2.1", "::1", "")}) == 4


def test_a_network_that_is_none_is_named() -> None:
    for wrong in ("10.0.0.0/33", "proxy", "10.0.0.1/8"):
        config = msgspec.convert({"http": {"trusted_proxies": [wrong]}, "rates": {"polls": 1}}, Config)
        with pytest.raises(ConfigError, match=r"http\.trusted_proxies: .*expected networks such as 10\.0\.0\.0/8"):
            Clients(config.http.trusted_proxies, config.http.client_header)
    assert limits(Config(), Clients((), "forwarded"), lambda seconds: seconds) is None


# On the wire.


def test_several_lines_are_one_header(start: Start) -> None:
    """The last line is that of the proxy."""
    server = start(rates__polls=1, rates__polls_window=600, http__trusted_proxies=["127.0.0.0/8"])
    one, two = "X-Forwarded-For: 198.51.100.1", "X-Forwarded-For: 198.51.100.2"
    codes = [
        server.get("/stats", *lines).status for lines in ((one, two), (two,), (two, one), ("X-Forwarded-For:", two))
    ]
    assert codes == [200, 429, 200, 429]


def check_refused(answer: Answer, name: str, quota: int, window: int) -> None:
    assert answer.status == 429
    assert answer["ratelimit-policy"] == f'"{name}";q={quota};w={window}'
    assert answer["ratelimit"] == f'"{name}";r=0;t={answer["retry-after"]}'
    assert 0 < int(answer["retry-after-ms"]) <= 1000 * window


def test_polls(start: Start) -> None:
    server = start(rates__polls=3, rates__polls_window=600, http__trusted_proxies=["127.0.0.0/8"])
    path = server.submit("nothing")
    with server.wire() as wire:
        answers = [wire.ask(request("HEAD", path)) for _ in range(2)]
        answers.append(wire.ask(request("GET", "/jobs?state=failed")))
        assert [answer["ratelimit"].partition(";t=")[0] for answer in answers] == [f'"poll";r={r}' for r in (2, 1, 0)]
        assert [answer["ratelimit-policy"] for answer in answers] == ['"poll";q=3;w=600'] * 3
        assert int(answers[2]["ratelimit"].partition(";t=")[2]) in (599, 600)
        for method, target in (("HEAD", path), ("GET", f"{path}/result"), ("DELETE", path), ("GET", "/batches/1")):
            check_refused(wire.ask(request(method, target)), "poll", 3, 600)
        for method, target in (("HEAD", "/metrics"), ("GET", "/stats"), ("GET", "/nowhere"), ("PATCH", "/jobs/1")):
            check_refused(wire.ask(request(method, target)), "poll", 3, 600)
        assert "ratelimit" not in wire.ask(request("GET", "/healthz")).headers
        assert wire.ask(post(submission("nothing"))).status == 202
    # Another client may ask.
    stats = server.get("/stats", "X-Forwarded-For: 192.0.2.1").json
    assert stats["rejections"]["rate"] == 8


def test_submits(start: Start) -> None:
    server = start(rates__submits=6, rates__submits_window=600)
    # One that asks for more than it ever may is counted as one.
    assert server.ask(batch([one("nothing")] * 7)).json["type"] == "urn:headway:problem:batch-over-rate"
    assert server.ask(post(submission("nothing")))["ratelimit"].startswith('"submit";r=4;t=')
    assert server.ask(batch([one("nothing")] * 3))["ratelimit"].startswith('"submit";r=1;t=')
    refused = server.ask(batch([one("nothing")] * 2))
    assert (refused.status, refused["ratelimit"]) == (429, f'"submit";r=1;t={refused["retry-after"]}')
    assert server.ask(batch([one("nothing")])).status == 202
    with server.wire() as wire:
        for _ in range(3):
            check_refused(wire.ask(post(submission("nothing"))), "submit", 6, 600)
        check_refused(wire.ask(batch([one("nothing")] * 7)), "submit", 6, 600)
    assert sum(server.stats()["jobs"].values()) == 5


def test_a_batch_may_take_the_whole_quota(start: Start) -> None:
    server = start(rates__submits=6, rates__submits_window=600)
    assert server.ask(batch([one("nothing")] * 6))["ratelimit"].startswith('"submit";r=0;t=')


def test_refused_content_is_counted_as_a_submission(start: Start) -> None:
    server = start(rates__submits=6, rates__submits_window=600)
    wrong = [batch([{"job": 1}] * 1000), post(b"{"), post(submission("nobody"))]
    with server.wire() as wire:
        codes = [wire.ask(sent).status for sent in [*wrong, batch([one("nobody")] * 3), *wrong]]
    assert codes == [422, 400, 422, 422, 429, 429, 429]


def test_who_waits_as_told_is_served(start: Start) -> None:
    server = start(rates__submits=2)
    body = post(submission("nothing"))
    with server.wire() as wire:
        answers = [wire.ask(body) for _ in range(3)]
        assert [answer.status for answer in answers] == [202, 202, 429]
        assert 300 < int(answers[2]["retry-after-ms"]) <= 500


def test_clients_behind_a_trusted_proxy_are_told_apart(start: Start) -> None:
    server = start(rates__polls=1, rates__polls_window=600, http__trusted_proxies=["127.0.0.0/8"])
    path = server.submit("nothing")
    with server.wire() as wire:
        codes = [
            wire.ask(request("HEAD", path, f"X-Forwarded-For: {client}")).status
            for client in ("192.0.2.1", "192.0.2.2", "192.0.2.1", "1.2.3.4, 192.0.2.2", "192.0.2.3")
        ]
    assert [code == 429 for code in codes] == [False, False, True, True, False]


def test_nobody_is_believed_by_default(start: Start) -> None:
    server = start(rates__polls=1, rates__polls_window=600)
    codes = [server.head("/nowhere", f"X-Forwarded-For: 192.0.2.{number}").status for number in range(2)]
    assert codes == [404, 429]


def test_nothing_is_said_where_nothing_is_limited(server: Server) -> None:
    answer = server.ask(post(submission("nothing"), "X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1"))
    assert {name for name in answer.headers if "ratelimit" in name} == set()
    assert json.loads(answer.body)["state"] == "queued"


def test_who_is_turned_away_comes_as_polls_do(start: Start) -> None:
    """Ten a second are promised at most, whoever it is; and who asks again and again takes no room from others."""
    server = start(
        rates__polls=1,
        rates__polls_window=2,
        polling__capacity=20,
        polling__share=0.5,
        http__trusted_proxies=["127.0.0.0/8"],
    )
    moments = []
    with server.wire() as wire:
        for client in range(60):
            ask = request("GET", "/tasks", f"X-Forwarded-For: 10.0.{client}.1")
            assert wire.ask(ask).status == 200
            # The moment that was told is between these two, however long the answer took.
            earliest, latest = [], []
            for _ in range(3):
                asked = time.monotonic()
                over = wire.ask(ask)
                assert (over.status, over["ratelimit"]) == (429, f'"poll";r=0;t={over["retry-after"]}')
                earliest.append(asked + int(over["retry-after-ms"]) / 1000)
                latest.append(time.monotonic() + int(over["retry-after-ms"]) / 1000)
            assert max(earliest) - min(latest) < 0.05
            moments.append(latest[0])
    moments.sort()
    assert all(later - earlier > 0.9 for earlier, later in zip(moments, moments[11:], strict=False))
    assert moments[-1] - moments[0] < 8
