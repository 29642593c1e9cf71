"""TLS: whom the server speaks to and how, what it makes of bad files and of new ones."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from headway.core.config import Config, ServerSection, TlsSection
from headway.core.errors import ConfigError
from headway.protocol import check
from headway.protocol.process import tls
from headway.protocol.process.acceptor import ENTERING_LEAST

from headway import Client
from tests.certificates import Authority, Certificate
from tests.conftest import Start
from tests.end_to_end.process import Server, environment, launch, wait_until
from tests.protocol.wire import PATIENCE_S, Wire, post, request, submission

HEALTH = request("GET", "/healthz")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    """The certificate of the server."""
    return authority.sign("server")


def files(certificate: Certificate, **more: object) -> dict[str, object]:
    return {"certificate": str(certificate.certificate), "key": str(certificate.key), **more}


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Server]:
    """A server with TLS that the tests here share."""
    settings = {"server__tls": files(certificate), "timeouts__head": 1}
    with launch(tmp_path_factory.mktemp("tls"), settings) as server:
        yield server


@contextmanager
def connected(server: Server, context: ssl.SSLContext) -> Iterator[Wire]:
    """Connect by TLS."""
    with (
        socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as encrypted,
        Wire.over(encrypted) as wire,
    ):
        yield wire


def is_refused(server: Server, context: ssl.SSLContext) -> bool:
    """Whether the server ends a connection before its first answer."""
    try:
        with connected(server, context) as wire:
            # With TLS 1.3 a client is done before the server has looked at its certificate.
            wire.send(HEALTH)
            return wire.socket.recv(1) == b""
    except OSError:
        return True


def serial(server: Server, context: ssl.SSLContext) -> str:
    """Return the number of the certificate that a new connection gets."""
    with connected(server, context) as wire:
        assert isinstance(wire.socket, ssl.SSLSocket)
        found = wire.socket.getpeercert()
        assert found is not None
        return str(found["serialNumber"])


def failed(server: Server, context: ssl.SSLContext) -> float:
    """Return how many handshakes the server counts as failed."""
    with connected(server, context) as wire:
        said = wire.ask(request("GET", "/metrics")).body.decode()
    return float(said.partition('headway_entries_failed_total{step="tls"} ')[2].split("\n")[0])


def test_requests_are_answered_and_jobs_run(secure: Server, authority: Authority) -> None:
    assert f"serving https://127.0.0.1:{secure.port}" in "".join(secure.said)
    with connected(secure, authority.context()) as wire:
        accepted = wire.ask(post(submission("sleep", {"seconds": 0.01})))
        assert accepted.status == 202
        ended = wire.ask(request("HEAD", accepted["location"], "Prefer: wait=20"))
        assert ended["job-state"] == "succeeded"
        # Pipelined, in one record, and one request in many.
        wire.send(HEALTH * 3)
        assert [wire.read().body for _ in range(3)] == [b"ok\n"] * 3
        for byte in HEALTH:
            wire.send(bytes([byte]))
        assert wire.read().body == b"ok\n"


@pytest.mark.parametrize(
    ("least", "most", "good"),
    [
        (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3, True),
        (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_1, False),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_versions(
    secure: Server, authority: Authority, least: ssl.TLSVersion, most: ssl.TLSVersion, good: bool
) -> None:
    context = authority.context()
    # The client would refuse older versions by itself.
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.maximum_version, context.minimum_version = most, least
    assert is_refused(secure, context) != good


def test_ciphers_without_forward_secrecy_or_authentication_are_refused(secure: Server, authority: Authority) -> None:
    context = authority.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM")
    assert not is_refused(secure, context)
    context.set_ciphers("kRSA:ECDHE+SHA1:ECDHE+SHA256:ECDHE+SHA384:@SECLEVEL=0:!AESGCM:!CHACHA20:!AESCCM")
    assert is_refused(secure, context)


def test_only_http_1_1_is_offered(secure: Server, authority: Authority) -> None:
    for offered, chosen in ((["h2", "http/1.1"], "http/1.1"), (["h2"], None)):
        context = authority.context()
        context.set_alpn_protocols(offered)
        with connected(secure, context) as wire:
            assert isinstance(wire.socket, ssl.SSLSocket)
            assert wire.socket.selected_alpn_protocol() == chosen


def test_a_connection_ends_with_its_answer_where_that_says_so(secure: Server, authority: Authority) -> None:
    """The end of TLS comes right after it, not when the server is tired of waiting."""
    for asked in (
        request("GET", "/healthz", "Connection: close"),
        b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\0\r\n\r\n",
    ):
        with connected(secure, authority.context()) as wire:
            begin = time.monotonic()
            assert wire.ask(asked).headers["connection"] == "close"
            # An end without close_notify would raise.
            wire.read_end()
            assert time.monotonic() - begin < 1.5


def test_a_client_that_says_it_ends_is_let_go(secure: Server, authority: Authority) -> None:
    with connected(secure, authority.context()) as wire:
        assert wire.still_serves()
        assert isinstance(wire.socket, ssl.SSLSocket)
        wire.socket.unwrap()
    with connected(secure, authority.context()) as wire:
        said = wire.ask(request("GET", "/metrics")).body
        assert b"\nheadway_connections 1.0\n" in said


@pytest.mark.long
def test_a_long_answer_comes_whole_to_a_slow_reader(secure: Server, authority: Authority) -> None:
    with connected(secure, authority.context()) as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        accepted = wire.ask(post(submission("echo", "x" * 900_000)))
        wire.ask(request("HEAD", accepted["location"], "Prefer: wait=20"))
        wire.send(request("GET", f"{accepted['location']}/result", "Connection: close") + HEALTH)
        time.sleep(0.3)
        assert len(wire.read().body) == 900_002
        wire.read_end()


def test_plain_http_gets_no_answer_and_no_line_of_the_log(secure: Server, authority: Authority) -> None:
    before, said = failed(secure, authority.context()), len(secure.said)
    with Wire(secure.port) as wire:
        wire.send(HEALTH)
        assert wire.read_all() == b""
    assert failed(secure, authority.context()) == before + 1
    assert secure.said[said:] == []


def hello() -> bytes:
    """The first bytes of a client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def test_a_handshake_that_does_not_come_ends_by_timeouts_head(secure: Server, authority: Authority) -> None:
    """And one that comes by the byte."""
    before, begin = failed(secure, authority.context()), time.monotonic()
    with Wire(secure.port) as silent, Wire(secure.port) as dripping:
        with suppress(ConnectionError):
            for byte in hello() * 10:
                dripping.send(bytes([byte]))
                time.sleep(0.02)
        assert 0.9 < time.monotonic() - begin < PATIENCE_S
        assert silent.read_all() == b""
    assert failed(secure, authority.context()) == before + 2


def test_clients_without_a_handshake_keep_nobody_out(
    start: Start, authority: Authority, certificate: Certificate
) -> None:
    """Of more than there is room for, the oldest give way."""
    server = start(server__tls=files(certificate), limits__connections=16, timeouts__head=600)
    with ExitStack() as stack:
        silent = [stack.enter_context(Wire(server.port)) for _ in range(ENTERING_LEAST + 20)]
        for wire in silent[:20]:
            assert wire.read_all() == b""
        for wire in silent[21:]:
            wire.socket.setblocking(False)
            with pytest.raises(BlockingIOError):
                wire.socket.recv(1)
        with connected(server, authority.context()) as wire:
            said = wire.ask(request("GET", "/metrics")).body
        # One more for this client.
        assert b'headway_entries_failed_total{step="room"} 21.0' in said
        begin = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert time.monotonic() - begin < PATIENCE_S


def test_client_certificates(start: Start, authority: Authority, certificate: Certificate, tmp_path: Path) -> None:
    """Clients with one of the CA are let in, all others are not."""
    server = start(server__tls=files(certificate, client_ca=str(authority.file)))
    mine, foreign = authority.sign("client"), Authority(tmp_path, "other").sign("client")
    assert not is_refused(server, authority.context(mine))
    assert is_refused(server, authority.context())
    assert is_refused(server, authority.context(foreign))


@pytest.mark.long
def test_new_files_are_read_without_a_dropped_connection(start: Start, authority: Authority, tmp_path: Path) -> None:
    """A bad file changes nothing, and says so in one line."""
    first, second = authority.sign("first"), authority.sign("second")
    used = Certificate(tmp_path / "used.pem", tmp_path / "used.key")

    def take(certificate: bytes, key: bytes) -> None:
        for path, content in ((used.certificate, certificate), (used.key, key)):
            new = path.with_suffix(".new")
            new.write_bytes(content)
            new.chmod(0o600)
            new.replace(path)

    take(first.certificate.read_bytes(), first.key.read_bytes())
    server = start(server__tls=files(used))
    server.expected_errors.append("stays in use")
    context = authority.context()
    before = serial(server, context)
    with connected(server, context) as open_before:
        assert open_before.still_serves()
        for certificate, key, fault in (
            (second.certificate.read_bytes(), first.key.read_bytes(), "is not the key of"),
            (b"", first.key.read_bytes(), "has no certificate in PEM"),
        ):
            said = len(server.said)
            take(certificate, key)
            line = server.wait_for_line("stays in use", after=said)
            assert fault in line
            assert serial(server, context) == before
        said = len(server.said)
        used.certificate.unlink()
        server.wait_for_line("cannot be read: No such file", after=said)
        take(second.certificate.read_bytes(), second.key.read_bytes())
        wait_until(lambda: serial(server, context), lambda number: number != before)
        assert open_before.still_serves()
    assert len(server.errors) == 0
    assert sum("stays in use" in line for line in server.said) == 3


def test_a_change_counts_once_it_has_held_for_a_tick(
    authority: Authority, certificate: Certificate, tmp_path: Path
) -> None:
    used, second = tmp_path / "used", authority.sign("second").both.read_bytes()
    used.write_bytes(certificate.both.read_bytes())
    files = tls.Tls(TlsSection(str(used)))
    first = files.context
    files.tick()
    assert files.context is first
    used.write_bytes(second[:-100])
    files.tick()
    # It is whole only now.
    used.write_bytes(second)
    files.tick()
    assert files.context is first
    files.tick()
    assert files.context is not first
    changed = files.context
    used.unlink()
    for _ in range(3):
        files.tick()
        assert files.context is changed


@pytest.mark.long
def test_a_deploy_takes_new_files_and_settings(start: Start, authority: Authority, tmp_path: Path) -> None:
    """And a bad file leaves the server as it is."""
    first, second = authority.sign("first"), authority.sign("second")
    (tmp_path / "config.yaml").write_text(f"server: {{tls: {{certificate: {first.certificate}, key: {first.key}}}}}")
    server = start()
    server.expected_errors.append("not deployed")
    context = authority.context()
    before, port = serial(server, context), server.port
    (tmp_path / "config.yaml").write_text(f"server: {{tls: {{certificate: {second.certificate}, key: {first.key}}}}}")
    assert "is not the key of" in server.deploy()
    assert serial(server, context) == before
    (tmp_path / "config.yaml").write_text(f"server: {{tls: {{certificate: {second.certificate}, key: {second.key}}}}}")
    assert "not deployed" not in server.deploy()
    assert serial(server, context) != before
    assert server.port == port


def test_bad_files_are_told_in_one_line(authority: Authority, certificate: Certificate, tmp_path: Path) -> None:
    good, key, other = str(certificate.certificate), str(certificate.key), str(authority.own.key)
    empty, secret = tmp_path / "empty", tmp_path / "secret"
    empty.write_text("")
    words = ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", str(secret)]
    subprocess.run(words, check=True)
    for section, fault in (
        (TlsSection(key=key), "key: has no use without server.tls.certificate"),
        (TlsSection(client_ca=good), "client_ca: has no use without server.tls.certificate"),
        (TlsSection(certificate="/nowhere"), "certificate: /nowhere cannot be read: No such file or directory"),
        (TlsSection(certificate=str(empty)), f"certificate: {empty} has no certificate in PEM"),
        (TlsSection(certificate=good), f"key: {good} has no private key in PEM: name the file of the key"),
        (TlsSection(good, str(empty)), f"key: {empty} has no private key in PEM"),
        (TlsSection(good, "/nowhere"), "key: /nowhere cannot be read"),
        (TlsSection(good, other), f"key: {other} is not the key of {good}"),
        (TlsSection(good, str(secret)), f"key: {secret} has a passphrase"),
        (TlsSection(good, key, "/nowhere"), "client_ca: /nowhere cannot be read"),
        (TlsSection(good, key, str(empty)), f"client_ca: {empty} has no certificate in PEM"),
    ):
        with pytest.raises(ConfigError) as raised:
            tls.context(section)
        assert str(raised.value).startswith(f"server.tls.{fault}")
        assert "\n" not in str(raised.value)
    assert tls.context(TlsSection(str(certificate.both)))


def test_a_key_that_all_can_read_is_told(certificate: Certificate, tmp_path: Path) -> None:
    assert tls.open_to_all(TlsSection(str(certificate.certificate), str(certificate.key))) is None
    open_key = tmp_path / "key"
    open_key.write_bytes(certificate.key.read_bytes())
    open_key.chmod(0o644)
    section = TlsSection(str(certificate.certificate), str(open_key))
    assert tls.open_to_all(section) == str(open_key)
    line = f"server.tls.key: any user here can read {open_key}: chmod o-r it"
    assert list(check.remarks(Config(server=ServerSection(tls=section))))[-1] == line
    assert tls.open_to_all(TlsSection(str(certificate.certificate), "/nowhere")) is None


def test_a_certificate_that_is_not_valid_now_is_told(authority: Authority, certificate: Certificate) -> None:
    """Also one of the form of times after 2049. A start goes on: it may be mended while the server runs."""
    section = TlsSection(str(certificate.certificate), str(certificate.key))
    begin, end = tls.validity(certificate.certificate.read_bytes())
    words = ["openssl", "x509", "-noout", "-startdate", "-enddate", "-in", section.certificate or ""]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split("\n")
    assert [time.timestamp() for time in (begin, end)] == [
        ssl.cert_time_to_seconds(line.partition("=")[2]) for line in said[:2]
    ]
    assert tls.invalid_now(section) is tls.invalid_now(section, end) is None
    line = tls.invalid_now(section, end + timedelta(seconds=1))
    what = f"server.tls.certificate: the certificate in {section.certificate}"
    assert line == f"{what} has expired at {end:%Y-%m-%d %H:%M}Z, so clients will refuse it"
    line = tls.invalid_now(section, begin - timedelta(seconds=1))
    assert line is not None
    assert line.startswith(f"{what} is not valid before {begin:%Y-%m-%d}")
    late = authority.sign("late", days=36_500)
    assert tls.validity(late.certificate.read_bytes())[1].year > 2100
    assert tls.invalid_now(TlsSection("/nowhere", "/nowhere"), end) is None


@pytest.mark.parametrize("place", ["certificate", "key", "client_ca"])
def test_a_pipe_is_no_file_and_nobody_waits_for_it(certificate: Certificate, tmp_path: Path, place: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    section = TlsSection(str(certificate.certificate), str(certificate.key))
    with pytest.raises(ConfigError) as raised:
        tls.context(msgspec.structs.replace(section, **{place: str(pipe)}))
    assert str(raised.value) == f"server.tls.{place}: {pipe} cannot be read: it is no regular file"


def headway(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    own = environment({}) | variables
    return subprocess.run(
        [sys.executable, "-m", "headway", *words], env=own, capture_output=True, text=True, check=False
    )


@pytest.mark.long
def test_check_looks_at_the_files(certificate: Certificate) -> None:
    wrong = headway("serve", "--check", HEADWAY_SERVER__TLS="{certificate: /nowhere}", HEADWAY_SERVER__PORT="0")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert wrong.stderr == "headway: server.tls.certificate: /nowhere cannot be read: No such file or directory\n"
    started = headway("serve", HEADWAY_SERVER__TLS="{certificate: /nowhere}", HEADWAY_SERVER__PORT="0")
    assert (started.returncode, started.stderr) == (2, wrong.stderr)
    good = headway(
        "serve", "--check", HEADWAY_SERVER__TLS=f"{{certificate: {certificate.both}}}", HEADWAY_SERVER__PORT="0"
    )
    assert (good.returncode, "server.tls" in good.stderr) == (0, False)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(secure: Server, authority: Authority) -> None:
    words = ["curl", "-sS", "--cacert", str(authority.file), "-w", "%{http_version} %{http_code}"]
    said = subprocess.run(
        [*words, f"https://localhost:{secure.port}/healthz"], capture_output=True, text=True, check=True
    )
    assert said.stdout == "ok\n1.1 200"


@pytest.mark.long
def test_the_client_and_the_command_line(
    start: Start, authority: Authority, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They trust the CA in SSL_CERT_FILE, and show the certificate in HEADWAY_CERTIFICATE."""
    server = start(server__tls=files(certificate, client_ca=str(authority.file)))
    url, mine = f"https://localhost:{server.port}", str(authority.sign("mine").both)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    monkeypatch.setenv("HEADWAY_CERTIFICATE", mine)
    with Client(url) as client:
        assert client.submit("echo", [1]).result() == [1]
    submitted = headway("submit", "echo", "[2]", "--wait", HEADWAY_URL=url, HEADWAY_CERTIFICATE=mine)
    assert (submitted.stdout, submitted.returncode) == ("[2]", 0), submitted.stderr
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.key))
    with pytest.raises(ValueError, match="SSL_CERT_FILE is not allowed"):
        Client(url)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    monkeypatch.setenv("HEADWAY_CERTIFICATE", "/nowhere")
    with pytest.raises(ValueError, match="HEADWAY_CERTIFICATE='/nowhere' is not allowed"):
        Client(url)
    other = headway("tasks", "--patience", "0", HEADWAY_URL=url, SSL_CERT_FILE="/etc/ssl/certs/ca-certificates.crt")
    assert other.returncode == 6
    assert other.stderr.endswith(": is its CA in the file that SSL_CERT_FILE names?\n")
    without = headway("tasks", "--patience", "0", HEADWAY_URL=url)
    assert (without.returncode, "HEADWAY_CERTIFICATE?" in without.stderr) == (6, True), without.stderr
    plain = headway("tasks", "--patience", "0", HEADWAY_URL=url.replace("https", "http"))
    assert (plain.returncode, "speak https?" in plain.stderr) == (6, True), plain.stderr


@pytest.mark.long
def test_the_simulator(secure: Server, authority: Authority) -> None:
    words = ["simulate", "--url", f"https://localhost:{secure.port}", "--clients", "5", "--duration", "1s"]
    run = headway(*words, SSL_CERT_FILE=str(authority.file))
    assert run.returncode == 0, run.stdout + run.stderr
    unknown = headway(*words, SSL_CERT_FILE="/etc/ssl/certs/ca-certificates.crt")
    assert unknown.returncode != 0
    assert "is the CA in SSL_CERT_FILE?" in unknown.stdout + unknown.stderr
