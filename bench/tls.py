"""What TLS costs for each request, beside nginx: ``python -m bench.tls``.

HEAD of a finished job on Headway, and a constant on nginx, each plain and by TLS 1.3, from bench/peers/heads.py on
connections that stay open. A round starts all four one after the other, on core 0, with the generator on core 1.
Figures are medians over the rounds, and what TLS adds is taken within a round. Then one Headway shows what a connection
takes in memory, and what a look at its files costs.
"""

from __future__ import annotations

import argparse
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from headway.core.config import TlsSection
from headway.protocol.process.tls import Tls

from bench import report
from bench.measure import HOST, BenchError, Load, allow_files, cores, machine, pin, rss_bytes
from bench.peers import requests
from bench.peers.catalogue import HEADWAY, NGINX, Peer
from bench.peers.heads import Heads
from bench.process import Process, end_cleanly, running

SERVER_CORE, GENERATOR_CORE = 0, 1
WARM_UP_S = 1.0
# A path that nginx answers with its constant, and the requests of each memory figure.
NGINX_PATH = "/jobs/000000000001ab4b40ae58d8a929"
UPLOAD_BYTES = 1_000_000
Files = tuple[Path, Path]
POST = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def main() -> int:
    """Measure, print, write; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.tls", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--port", type=int, default=9230)
    options = parser.parse_args()
    end_cleanly()
    how = machine("tls") | {
        "servers": f"nginx {NGINX.version()}; {HEADWAY.version()}; {ssl.OPENSSL_VERSION}",
        "method": f"{options.rounds} interleaved rounds of {options.seconds:g} s after {WARM_UP_S:g} s, "
        f"{options.connections} connections; certificate P-256; CPU of the server, user and kernel",
    }
    try:
        cores(2)
        allow_files(2000)
        with tempfile.TemporaryDirectory() as folder:
            files = certificate(Path(folder))
            loads = [_round(options, Path(folder), files) for _ in range(options.rounds)]
            memory = _memory(options.port, files)
            look_us, read_us = _costs_of_files(files)
    except (BenchError, OSError, subprocess.SubprocessError) as error:
        print(f"bench-tls: {error}", file=sys.stderr)
        return 1
    text = "\n\n".join(
        [
            _table(loads),
            _added(loads),
            memory,
            f"- a look at the files: {look_us:.1f} µs; to read them: {read_us:.0f} µs",
            report.facts(how),
        ]
    )
    print(text)
    target = report.folder("tls")
    report.write(target, text, {"how": how, "cpu_us": [{name: load.cpu_us for name, load in r.items()} for r in loads]})
    print(f"written to {target}")
    return 0


def certificate(folder: Path) -> Files:
    """Make a certificate for the loopback, signed by itself."""
    made, key = folder / "certificate.pem", folder / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-keyout", str(key), "-out", str(made), "-days", "2", "-subj", "/CN=bench"]
    subprocess.run([*words, "-addext", f"subjectAltName=IP:{HOST}"], check=True, capture_output=True)
    return made, key


def _round(options: argparse.Namespace, folder: Path, files: Files) -> dict[str, Load]:
    """Return the load of each server by its name."""
    found = {}
    for peer in (NGINX, HEADWAY):
        for tls in (None, files):
            name = f"{peer.name}{' TLS' if tls else ''}"
            with running(_process(peer, options.port, folder, tls)) as process:
                pin(GENERATOR_CORE)
                path = NGINX_PATH if peer is NGINX else _finished_job(options.port, tls)
                request = requests.head_request(options.port, path)
                with _connected(options.port, tls) as client:
                    # Until then nginx may have no worker, whose CPU counts.
                    _ask(client, request)
                heads = Heads(options.port, options.connections, request, _context(tls))
                found[name] = heads.run(WARM_UP_S, options.seconds, process.pids)
                heads.close()
                pin(None)
            print(f"{name}: {found[name].cpu_us:.1f} µs", flush=True)
    return found


def _process(peer: Peer, port: int, folder: Path, tls: Files | None) -> Process:
    if peer is NGINX:
        argv = peer.argv(port, folder)
        if tls:
            conf = folder / "nginx.conf"
            lines = f"ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]};"
            conf.write_text(conf.read_text().replace(" backlog=4096;", f" backlog=4096 ssl; {lines}"))
        return Process(peer.name, argv, port, SERVER_CORE)
    return Process(peer.name, peer.argv(port, folder), port, SERVER_CORE, {**peer.env(port), **_variables(tls)})


def _variables(tls: Files | None) -> Mapping[str, str]:
    return {"HEADWAY_SERVER__TLS": f"{{certificate: {tls[0]}, key: {tls[1]}}}"} if tls else {}


def _context(tls: Files | None) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=tls[0]) if tls else None


@contextmanager
def _connected(port: int, tls: Files | None) -> Iterator[socket.socket]:
    with socket.create_connection((HOST, port), 30) as plain:
        context = _context(tls)
        if context is None:
            yield plain
        else:
            with context.wrap_socket(plain, server_hostname=HOST) as encrypted:
                yield encrypted


def _ask(client: socket.socket, request: bytes) -> bytes:
    """Send a request and return its answer, which comes in one piece."""
    client.sendall(request)
    answer = client.recv(65_536)
    if not answer.startswith(b"HTTP/1.1 20"):
        raise BenchError(f"a request was answered with {answer[:100]!r}")
    return answer


def _finished_job(port: int, tls: Files | None) -> str:
    """Run a job and return its path."""
    body = b'{"task": "noop", "payload": null}'
    head = POST % len(body)
    with _connected(port, tls) as client:
        lines = _ask(client, head + body).split(b"\r\n")
        path = next(line.partition(b": ")[2] for line in lines if line.startswith(b"Location: "))
        _ask(client, b"HEAD %b HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=20\r\n\r\n" % path)
    return path.decode()


def _memory(port: int, files: Files, clients: int = 1000) -> str:
    """Return the resident memory of a connection, plain and by TLS, after a request and after an upload."""
    rows = []
    # A payload that no task takes.
    body = b'{"task": "%b"}' % (b"x" * UPLOAD_BYTES)
    upload = POST % len(body)
    for tls in (None, files):
        environment = {**HEADWAY.env(port), **_variables(tls)}
        with running(Process("Headway", HEADWAY.argv(port, Path()), port, SERVER_CORE, environment)) as server:
            with _connected(port, tls) as client:
                client.sendall(upload + body)
                client.recv(65_536)
            before = rss_bytes(server.pids)
            with ExitStack() as stack:
                opened = [stack.enter_context(_connected(port, tls)) for _ in range(clients)]
                for client in opened:
                    _ask(client, b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                asked = rss_bytes(server.pids)
                for client in opened[:100]:
                    client.sendall(upload + body)
                    client.recv(65_536)
                uploaded = rss_bytes(server.pids)
        rows.append(
            ["TLS" if tls else "plain", f"{(asked - before) / clients:,.0f}", f"{(uploaded - asked) / 100:,.0f}"]
        )
    return report.table(["a connection", "bytes of RSS after a HEAD", "more after 1 MB of content"], rows)


def _costs_of_files(files: Files) -> tuple[float, float]:
    """Return the µs of a look at the files, and of reading them."""
    section = TlsSection(str(files[0]), str(files[1]))
    looks = Tls(section)
    return (
        min(timeit.repeat(looks.tick, number=1000, repeat=5)) / 1000 * 1e6,
        min(timeit.repeat(lambda: Tls(section), number=10, repeat=5)) / 10 * 1e6,
    )


def _table(loads: Sequence[Mapping[str, Load]]) -> str:
    rows = []
    for name in loads[0]:
        of_name = [load[name] for load in loads]
        rows.append(
            [
                name,
                report.spread([load.cpu_us for load in of_name]),
                report.spread([load.user_us for load in of_name]),
                report.spread([load.kernel_us for load in of_name]),
                report.spread([load.rate for load in of_name], ",.0f"),
                report.spread([load.noise for load in of_name], ".2f"),
            ]
        )
    return report.table(["server", "CPU, µs a request", "user", "kernel", "requests/s", "other cores busy"], rows)


def _added(loads: Sequence[Mapping[str, Load]]) -> str:
    """Return what TLS adds on each, and how the two compare."""
    lines = []
    for name in ("nginx", "Headway"):
        added = [load[f"{name} TLS"].cpu_us - load[name].cpu_us for load in loads]
        times = [load[f"{name} TLS"].cpu_us / load[name].cpu_us for load in loads]
        lines.append(f"- {name}: TLS adds {report.spread(added)} µs, {report.spread(times, '.2f')} times plain")
    beside = [load["Headway TLS"].cpu_us / load["nginx TLS"].cpu_us for load in loads]
    plain = statistics.median(load["Headway"].cpu_us / load["nginx"].cpu_us for load in loads)
    lines.append(f"- Headway beside nginx: {report.spread(beside, '.2f')} times by TLS, {plain:.2f} plain")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
