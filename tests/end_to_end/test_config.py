"""The command line and the settings: what is wrong is said in one line, with exit code 2."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from headway.core.config import DEFAULT_JOURNAL, Config, LogSection
from headway.core.config_sources import ignored, load
from headway.core.errors import ConfigError
from headway.protocol.access.token_file import TokenFile
from headway.protocol.check import is_loopback

from headway.cli.main import main
from tests.conftest import Start
from tests.each import each
from tests.end_to_end.process import ROOT, Server, headway, launch

Ended = subprocess.CompletedProcess[str]


Row = tuple[str, dict[str, str], list[str]]
# What is in the file, what is in the environment, and what the one line must have.
SETTINGS: dict[str, Row] = {
    "unknown-key": ("server: {prot: 80}", {}, ["server.prot", "port", "host"]),
    "unknown-section": ("sever: {port: 80}", {}, ["sever", "server"]),
    "unknown-top-key": ("worker: 3", {}, ["worker", "workers"]),
    "wrong-type": ("workers: many", {}, ["workers", "'many'", "whole number"]),
    "bool-for-int": ("workers: true", {}, ["workers", "true", "whole number"]),
    "float-for-int": ("server: {port: 80.5}", {}, ["server.port", "80.5", "whole number"]),
    "out-of-range": ("server: {port: 65536}", {}, ["server.port", "65536", "65535"]),
    "zero-workers": ("workers: 0", {}, ["workers", "0", "from 1 to"]),
    "not-a-number": ("drain_timeout: .nan", {}, ["drain_timeout", "nan"]),
    "infinite": ("timeouts: {head: .inf}", {}, ["timeouts.head", "inf"]),
    "choice": ("log: {level: loud}", {}, ["log.level", "'loud'", "debug", "error"]),
    "failed-status": ("http: {failed_status: 500}", {}, ["http.failed_status", "500", "424", "200"]),
    "section-is-a-value": ("server: 8080", {}, ["server", "8080", "port"]),
    "value-is-a-section": ("workers: {count: 3}", {}, ["workers", "count"]),
    "tasks-not-a-list": ("tasks: my.tasks", {}, ["tasks", "'my.tasks'"]),
    "task-not-a-name": ("tasks: [5]", {}, ["tasks", "5"]),
    "null": ("workers:", {}, ["workers", "null"]),
    "line-break-in-a-key": ('"a\\nb": 1', {}, ["unknown"]),
    "list": ("[1, 2]", {}, ["mapping"]),
    "not-yaml": ("server: {port: 80", {}, ["YAML", "config.yaml"]),
    "stands-twice": ("workers: 3\nworkers: 4", {}, ["config.yaml", "'workers' stands twice", "line 2"]),
    "stands-twice-in-a-section": ("jobs: {timeout: 1, timeout: 2}", {}, ["'timeout' stands twice"]),
    "not-text": ("\udcff", {}, ["YAML", "config.yaml"]),
    "tag": ("server: !!python/object/apply:os.getcwd []", {}, ["YAML"]),
    "variable-unknown": ("", {"HEADWAY_SERVER__PROT": "80"}, ["HEADWAY_SERVER__PROT", "server.prot", "port"]),
    "variable-wrong-type": ("", {"HEADWAY_WORKERS": "many"}, ["HEADWAY_WORKERS", "'many'", "whole number"]),
    "variable-out-of-range": ("", {"HEADWAY_QUEUE__SIZE": "0"}, ["HEADWAY_QUEUE__SIZE", "0", "from 1 to"]),
    "variable-empty": ("", {"HEADWAY_WORKERS": ""}, ["HEADWAY_WORKERS", "is empty"]),
    "variable-empty-for-null": ("", {"HEADWAY_JOURNAL__PATH": " "}, ["HEADWAY_JOURNAL__PATH", "is empty", "null"]),
    "variable-not-yaml": ("", {"HEADWAY_TASKS": "[a"}, ["HEADWAY_TASKS", "'[a'", "YAML"]),
    "variable-not-text": ("", {"HEADWAY_WORKERS": "\udcff"}, ["HEADWAY_WORKERS", "YAML"]),
    "variable-unknown-section": ("", {"HEADWAY_SEVER__PORT": "80"}, ["HEADWAY_SEVER__PORT", "sever", "server"]),
    "variable-section": ("", {"HEADWAY_JOURNAL": "junk"}, ["HEADWAY_JOURNAL", "'junk'", "HEADWAY_JOURNAL__PATH"]),
    "variable-section-empty": ("", {"HEADWAY_SERVER": ""}, ["HEADWAY_SERVER", "HEADWAY_SERVER__PORT"]),
    "variable-quoted-badly": ("", {"HEADWAY_SERVER__HOST": "'::"}, ["HEADWAY_SERVER__HOST", "YAML"]),
    "variable-null-for-text": ("", {"HEADWAY_SERVER__HOST": "null"}, ["HEADWAY_SERVER__HOST", "null", "a text"]),
    "variable-choice": ("", {"HEADWAY_LOG__LEVEL": "off"}, ["HEADWAY_LOG__LEVEL", "'off'", "debug"]),
    "variable-inner-unknown": (
        "",
        {"HEADWAY_RETENTION__FAILED__DAYS": "7"},
        ["HEADWAY_RETENTION__FAILED__DAYS", "retention.failed.days", "jobs, seconds"],
    ),
    "variable-inner-out-of-range": (
        "",
        {"HEADWAY_RETENTION__FAILED__SECONDS": "0"},
        ["HEADWAY_RETENTION__FAILED__SECONDS", "retention.failed.seconds", "above 0", "or null"],
    ),
    "variable-inner-section": (
        "",
        {"HEADWAY_RETENTION__FAILED": "7"},
        ["HEADWAY_RETENTION__FAILED", "'7'", "HEADWAY_RETENTION__FAILED__JOBS"],
    ),
    "inner-no-section": ("retention: {failed: 7}", {}, ["retention.failed", "7", "jobs, seconds"]),
    "inner-unknown": ("retention: {failed: {days: 7}}", {}, ["retention.failed.days", "jobs, seconds"]),
    "variable-too-deep": ("", {"HEADWAY_SERVER__PORT__X": "1"}, ["HEADWAY_SERVER__PORT__X", "port__x"]),
}
# The same where it shows only once modules are imported or the socket is opened, so each needs a process.
LATER: dict[str, Row] = {
    "task-module-missing": ("tasks: [no.such.module]", {}, ["tasks", "'no.such.module'", "No module named"]),
    "task-module-is-a-file": ("tasks: [./shop/one.py]", {}, ["'./shop/one.py'", "is a file", "'shop.one'"]),
    "task-module-broken": ("tasks: [broken]", {}, ["'broken'", "SyntaxError", "broken.py"]),
    "task-module-raises": ("tasks: [raising]", {}, ["'raising'", "ZeroDivisionError", "raising.py:2"]),
    "task-module-exits": ("tasks: [exiting]", {}, ["'exiting'"]),
    "task-twice": ("tasks: [one, two]", {}, ["'same'", "one.py:2", "two.py:2"]),
    "task-of-no-parameters": ("tasks: [bare]", {}, ["'bare_task'", "payload"]),
    "host-unknown": ("server: {host: nowhere.invalid}", {}, ["server.host", "'nowhere.invalid'"]),
    "host-not-a-name": ("server: {host: a..b}", {}, ["server.host", "'a..b'"]),
    "host-not-ours": ("server: {host: 192.0.2.1}", {}, ["server.host", "'192.0.2.1'"]),
    "setting": ("workers: many", {}, ["workers", "'many'", "whole number"]),
}
MODULES = {
    "broken.py": "def f(:\n",
    "raising.py": "\n1 / 0\n",
    "exiting.py": "raise SystemExit(0)\n",
    "one.py": "import headway\n@headway.task\nasync def same(payload): ...\n",
    "two.py": "import headway\n@headway.task\ndef same(payload): ...\n",
    "heavy.py": "import headway\n@headway.task(run_in='process')\ndef lift(payload): ...\n",
    "bare.py": "import headway\n@headway.task\nasync def bare_task(): ...\n",
}


def check_line(code: int, said: str, parts: list[str]) -> None:
    """See that the program ended with one line that has all of ``parts``."""
    line, *more = said.splitlines()
    assert (code, more) == (2, []), said
    assert line.startswith("headway: ")
    for part in parts:
        assert part in line


@pytest.mark.parametrize("name", SETTINGS)
def test_wrong_setting_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """In this process, which saves half a second each; LATER shows that the program does not differ."""
    settings, variables, parts = SETTINGS[name]
    (tmp_path / "config.yaml").write_bytes(settings.encode(errors="surrogateescape"))
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(main, ["serve", "--check"], env=variables, catch_exceptions=False)
    check_line(ended.exit_code, ended.output, parts)


# Options and what the one line must have.
WRONG_OPTIONS: dict[str, tuple[list[str], list[str]]] = {
    "port": (["--port", "many"], ["--port", "server.port", "'many'", "whole number"]),
    "port-out-of-range": (["--port", "65536"], ["--port", "65536", "65535"]),
    "port-below-range": (["--port=-1"], ["--port", "-1", "from 0"]),
    "workers": (["--workers", "0"], ["--workers", "0", "from 1 to"]),
    "workers-not-yaml": (["--workers", "[a"], ["--workers", "'[a'", "YAML"]),
    "host": (["--host", "null"], ["--host", "server.host", "null", "a text"]),
    "tasks": (["--tasks", "a,,b"], ["--tasks", "'a,,b'", "names of modules"]),
    "tasks-empty": (["--tasks", "a", "--tasks", ""], ["--tasks", "names of modules"]),
}


@pytest.mark.parametrize("name", WRONG_OPTIONS)
def test_a_wrong_option_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    arguments, parts = WRONG_OPTIONS[name]
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(main, ["serve", "--check", *arguments], catch_exceptions=False)
    check_line(ended.exit_code, ended.output, parts)


def test_options_override_the_file_and_the_variables(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("server: {port: 1, backlog: 7}\nworkers: 3\ntasks: [no.such.module]\n")
    options = {"--tasks": ["one, two", "three"], "--host": ["::1"], "--port": ["2", "0"], "--workers": ["5"]}
    found = load(tmp_path / "config.yaml", {"HEADWAY_WORKERS": "4", "HEADWAY_SERVER__HOST": "::"}, options)
    assert found.tasks == ("one", "two", "three")
    assert (found.server.host, found.server.port, found.server.backlog, found.workers) == ("::1", 0, 7, 5)
    assert load(None, {"HEADWAY_TASKS": "[kept]"}, {"--tasks": []}).tasks == ("kept",)


def test_an_engine_keeps_jobs_in_place_of_the_journal(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"engine: valkey://host\njournal: {{path: {DEFAULT_JOURNAL}}}\n")
    found = load(tmp_path / "config.yaml", {})
    assert (found.engine, found.journal.path) == ("valkey://host", None)
    assert load(None, {}, {"--engine": ["valkey://other"]}).engine == "valkey://other"
    assert load(tmp_path / "config.yaml", {"HEADWAY_ENGINE": "null"}).journal.path == DEFAULT_JOURNAL
    with pytest.raises(ConfigError, match=r"journal.path: 'own.db' is not used beside engine.* leave one of the two"):
        load(tmp_path / "config.yaml", {"HEADWAY_JOURNAL__PATH": "own.db"})


@pytest.mark.parametrize(
    ("file", "variables", "options"),
    [
        ("engine: [valkey://:hush@host]", {}, {}),
        ("engine: {url: valkey://:hush@host}", {}, {}),
        ("", {"HEADWAY_ENGINE": '"valkey://:hush@host'}, {}),
        ("", {"HEADWAY_ENGINE": "'valkey://:hush@host' more"}, {}),
        ("", {}, {"--engine": ['"valkey://:hush@host']}),
    ],
)
def test_no_fault_of_the_engine_shows_its_password(
    tmp_path: Path, file: str, variables: dict[str, str], options: dict[str, list[str]]
) -> None:
    (tmp_path / "config.yaml").write_text(file)
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "config.yaml", variables, options)
    assert "engine" in str(refused.value).lower()
    assert "hush" not in str(refused.value)


def test_a_server_with_options_keeps_them_over_a_deploy(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("tasks: [no.such.module]\nworkers: 3\n")
    for name in ("first", "second"):
        (tmp_path / f"{name}.py").write_text(f"import headway\n@headway.task\nasync def {name}(_):\n    return 1\n")
    arguments = ("--tasks", "first", "--tasks", "second", "--port", "0", "--workers", "5", "--host", "localhost")
    server = Server(tmp_path, {}, *arguments)
    try:
        server.wait_until_serving()
        server.deploy()
        assert server.stats()["workers"]["count"] == 5
        for name in ("first", "second"):
            assert server.get(server.run(name) + "/result").json == 1
    finally:
        server.kill()


@pytest.mark.parametrize("both", [False, True])
def test_headway_yaml_comes_before_config_yaml(tmp_path: Path, both: bool) -> None:
    (tmp_path / "headway.yaml").write_text("workers: 3\nserver: {port: 0}\n")
    if both:
        (tmp_path / "config.yaml").write_text("workers: many\n")
    line = "settings: headway.yaml is read, config.yaml beside it is not"
    assert (line in headway(tmp_path, "serve", "--check").stderr) == both
    server = Server(tmp_path, {})
    try:
        server.wait_until_serving()
        assert server.stats()["workers"]["count"] == 3
        assert any(line in said for said in server.said) == both
    finally:
        server.kill()
    named = headway(tmp_path, "serve", "--check", "--config", "headway.yaml")
    assert (named.returncode, line in named.stderr) == (0, False)


# Texts are what YAML would take for something else.
TEXTS: list[tuple[str, str, object]] = [
    ("SERVER__HOST", "::", "::"),
    ("SERVER__HOST", "'::1'", "::1"),
    ("SERVER__HOST", "0x7f.1", "0x7f.1"),
    ("SERVER__HOST", " localhost ", "localhost"),
    ("JOURNAL__PATH", "on", "on"),
    ("JOURNAL__PATH", "1e3", "1e3"),
    ("JOURNAL__PATH", "12:30:00", "12:30:00"),
    ("JOURNAL__PATH", "2026-11-28", "2026-11-28"),
    ("JOURNAL__PATH", "{jobs}: #1", "{jobs}: #1"),
    ("JOURNAL__PATH", '"null"', "null"),
    ("JOURNAL__PATH", "null", None),
    ("JOURNAL__PATH", "~", None),
    ("JOURNAL__SYNC", "normal", "normal"),
    ("SIMULATION__PAYLOAD", '{"seconds": 1}', '{"seconds": 1}'),
    ("TASKS", "[shop, on, 5]", ("shop", "on", "5")),
    ("TASKS", "['shop']", ("shop",)),
    ("TASKS", "[]", ()),
    ("HTTP__TRUSTED_PROXIES", "[::1/128, 10.0.0.0/8]", ("::1/128", "10.0.0.0/8")),
    ("WORKERS", "0x10", 16),
    ("LOG", "{level: debug}", LogSection(level="debug")),
]


@each("name, text, value", TEXTS)
def test_a_text_in_a_variable_is_taken_as_it_stands(name: str, text: str, value: object) -> None:
    found: object = load(None, {f"HEADWAY_{name}": text})
    for part in name.lower().split("__"):
        found = getattr(found, part)
    assert found == value


# As Kubernetes sets them beside a service that is called headway, and as images and shells do.
OTHERS = {
    "HEADWAY_SERVICE_HOST": "10.96.0.12",
    "HEADWAY_SERVICE_PORT": "8080",
    "HEADWAY_PORT": "tcp://10.96.0.12:8080",
    "HEADWAY_PORT_8080_TCP": "tcp://10.96.0.12:8080",
    "HEADWAY_PORT_8080_TCP_ADDR": "10.96.0.12",
    "HEADWAY_URL": "http://headway: 8080",
    "HEADWAY_HOME": "[",
    "HEADWAY_VERSION": "0.1",
}


def test_a_section_within_a_section_is_laid_over_one_setting_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("retention: {jobs: 5, failed: {jobs: 6, seconds: 7}, cancelled: null}")
    variables = {"HEADWAY_RETENTION__FAILED__SECONDS": "8", "HEADWAY_RETENTION__SUCCEEDED": "{jobs: 9}"}
    found = load(tmp_path / "config.yaml", variables).retention
    assert (found.jobs, found.seconds) == (5, 3600.0)
    assert (found.failed.jobs, found.failed.seconds) == (6, 8.0)
    assert (found.succeeded.jobs, found.succeeded.seconds) == (9, None)
    assert found.cancelled == Config().retention.cancelled


def test_variables_that_are_no_settings_are_ignored() -> None:
    assert load(None, OTHERS) == Config()
    assert ignored(OTHERS | {"HEADWAY_CONFIG": "x", "HEADWAY_WORKERS": "3", "PATH": "/bin"}) == sorted(OTHERS)


def test_ignored_variables_are_said_in_one_line_at_debug(start: Start, tmp_path: Path) -> None:
    others = {name.removeprefix("HEADWAY_").lower(): value for name, value in OTHERS.items()}
    server = start(**others, log__level="debug")
    lines = [line for line in server.said if any(name in line for name in OTHERS)]
    assert len(lines) == 1
    assert '"level":"debug"' in lines[0] or " DEBUG " in lines[0]
    assert all(name in lines[0] for name in OTHERS)
    quiet = start(**others)
    assert not any(name in line for line in quiet.said for name in OTHERS)


# What is asked for, and what each of the lines on stderr must have.
CHECKED: dict[str, tuple[str, list[str]]] = {
    "networks": ("http: {trusted_proxies: [10.0.0.1/8]}", ["trusted_proxies: 10.0.0.1/8"]),
    "folder-missing": ("journal: {path: nowhere/j.db}", ["journal.path: nowhere is missing"]),
    "folder-is-a-file": ("journal: {path: one.py/j.db}", ["journal.path: one.py is not a folder"]),
    "file-is-a-folder": ("journal: {path: folder}", ["journal.path: folder is a folder"]),
    "journal-is-a-pipe": ("journal: {path: pipe}", ["pipe: cannot be read: it is no regular file"]),
    "too-little-memory": (
        "tasks: [heavy]\nprocess_limits: {memory: 1000000}",
        ["a worker process cannot start: can't start new thread: process_limits.memory: 1000000 bytes are too few"],
    ),
    "backlog": ("server: {backlog: 2147483648}", ["server.backlog: 2147483648 is not allowed"]),
    "not-a-journal": ("journal: {path: one.py}", ["one.py: is not a journal"]),
    "address": ("server: {host: 192.0.2.1}\nauth: none", ["cannot listen on server.host '192.0.2.1'"]),
    "no-tokens": ("server: {host: 0.0.0.0}", ["0.0.0.0 lets other machines in, and there are no tokens"]),
    "tokens": ("auth: {tokens: one.py}", ["auth.tokens: one.py: "]),
    "hosts": ("http: {hosts: ['https://jobs']}", ["http.hosts: 'https://jobs' is no name of a host"]),
    "all": (
        "auth: none\nhttp: {trusted_proxies: [x]}\njournal: {path: folder}\nserver: {host: 192.0.2.1}\ntasks: [broken]",
        ["trusted_proxies: 'x'", "folder is a folder", "192.0.2.1", "SyntaxError"],
    ),
    "first-token": (
        "auth: {first_token: true, tokens: nowhere/t.yaml}",
        ["nowhere is not a folder, so auth.first_token makes none"],
    ),
}


@pytest.mark.parametrize("name", CHECKED)
def test_check_says_each_fault_in_a_line(tmp_path: Path, name: str) -> None:
    settings, parts = CHECKED[name]
    (tmp_path / "config.yaml").write_text(settings)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for module, text in MODULES.items():
        (tmp_path / module).write_text(text)
    ended = headway(tmp_path, "serve", "--check", HEADWAY_SERVER__PORT="0")
    lines = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout, len(lines)) == (2, "", len(parts)), ended.stderr
    for line, part in zip(lines, parts, strict=True):
        assert line.startswith("headway: ")
        assert part in line


LIMITS = {
    "files: 1073741824": "process_limits.files: 1073741824 cannot be had here: ",
    "files: 1": "process_limits.files: 1 are too few for a worker process. Raise it",
    "memory: 1000": "process_limits.memory: 1000 bytes are too few for a worker process. Raise it",
}


@pytest.mark.parametrize("arguments", [["--check"], []], ids=["check", "start"])
@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_of_processes_that_cannot_be_kept_ends_the_start(
    tmp_path: Path, limit: str, arguments: list[str]
) -> None:
    (tmp_path / "heavy.py").write_text(MODULES["heavy.py"])
    (tmp_path / "config.yaml").write_text(f"tasks: [heavy]\nprocess_limits: {{{limit}}}")
    ended = headway(tmp_path, "serve", "--port", "0", *arguments)
    (line,) = ended.stderr.splitlines()
    assert (ended.returncode, line.startswith("headway: a worker process cannot start: ")) == (2, True)
    assert LIMITS[limit] in line
    assert "retrying" not in ended.stdout


def test_a_lifespan_that_raises_in_worker_processes_alone_ends_the_start(tmp_path: Path) -> None:
    text = "import sys\n@headway.lifespan\nasync def life():\n"
    text += "    if 'headway.core.processes.child' in sys.modules: raise OSError('no database')\n    yield\n"
    (tmp_path / "heavy.py").write_text(MODULES["heavy.py"] + text)
    ended = headway(tmp_path, "serve", "--port", "0", "--tasks", "heavy")
    (line,) = ended.stderr.splitlines()
    assert (ended.returncode, line.endswith("raised OSError: no database")) == (2, True)


@pytest.mark.parametrize("arguments", [["--check"], []], ids=["check", "start"])
@pytest.mark.parametrize("source", ["import os; os._exit(0)", "raise KeyboardInterrupt"])
def test_a_task_module_that_ends_the_program_is_a_fault(tmp_path: Path, source: str, arguments: list[str]) -> None:
    (tmp_path / "ends.py").write_text(source)
    ended = headway(tmp_path, "serve", "--tasks", "ends", "--port", "0", *arguments)
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 2
    assert line.startswith("headway: tasks: 'ends' cannot be imported: ")


@pytest.mark.parametrize("arguments", [["--check"], []], ids=["check", "start"])
def test_more_statuses_than_there_is_memory_for_are_refused_by_the_name_of_the_setting(
    tmp_path: Path, arguments: list[str]
) -> None:
    command = [sys.executable, "-m", "headway", "serve", "--port", "0", *arguments]
    ended = subprocess.run(
        ["sh", "-c", 'ulimit -v 4000000; exec "$@"', "sh", *command],
        cwd=tmp_path,
        env=os.environ | {"HEADWAY_RETENTION__JOBS": "100000000"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert line.startswith("headway: retention and queue.size: the statuses of 100010")
    assert line.endswith("GiB of memory: Cannot allocate memory. Keep fewer (retention.jobs)")


def test_the_check_of_a_deploy_looks_at_the_open_socket(tmp_path: Path) -> None:
    """Its address may be another than that of the settings, which count at the next start alone."""
    ended = headway(tmp_path, "serve", "--check", _HEADWAY_HOST="0.0.0.0", HEADWAY_SERVER__PORT="0")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "0.0.0.0 lets other machines in, and there are no tokens" in ended.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run processes as another user")
def test_check_imports_the_tasks_as_the_user_of_worker_processes(tmp_path: Path) -> None:
    """That one may not read all that the server may."""
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    (hidden / "heavy.py").write_text(MODULES["heavy.py"])
    settings = {"HEADWAY_TASKS": "[heavy]", "HEADWAY_SERVER__PORT": "0", "PYTHONPATH": f"{hidden}:{ROOT}"}
    ended = headway(tmp_path, "serve", "--check", **settings)
    assert ended.returncode == 0, ended.stderr
    ended = headway(tmp_path, "serve", "--check", **settings, HEADWAY_PROCESSES_AS__USER="nobody")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "a worker process cannot start: tasks: 'heavy' cannot be imported" in ended.stderr


def test_check_begins_no_lifespan_in_its_worker_process(tmp_path: Path) -> None:
    text = "import pathlib\n@headway.lifespan\nasync def life():\n"
    text += "    pathlib.Path('begun').touch()\n    yield\n"
    (tmp_path / "heavy.py").write_text(MODULES["heavy.py"] + text)
    ended = headway(tmp_path, "serve", "--check", "--tasks", "heavy", HEADWAY_SERVER__PORT="0")
    assert (ended.returncode, ended.stdout) == (0, "the configuration is good\n"), ended.stderr
    assert not (tmp_path / "begun").exists()


def test_check_looks_at_the_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = headway(tmp_path, "serve", "--check", HEADWAY_SERVER__PORT=port)
    assert (ended.returncode, port in ended.stderr, "in use" in ended.stderr) == (2, True, True)


def test_check_says_what_a_server_starts_with_all_the_same(tmp_path: Path) -> None:
    settings = {"HEADWAY_SERVER__PORT": "0", "HEADWAY_SERVER__HOST": "0.0.0.0", "HEADWAY_AUTH": "none"}
    ended = headway(tmp_path, "serve", "--check", **settings)
    none, anyone = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (0, "the configuration is good\n")
    assert "no tasks" in none
    assert "anyone who can reach 0.0.0.0" in anyone
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "beyond"),
    [
        *((host, False) for host in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "localhost")),
        *((host, True) for host in ("0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "example.org")),
    ],
)
def test_which_addresses_others_can_reach(host: str, beyond: bool) -> None:
    assert is_loopback(host) is not beyond


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_a_server_that_others_can_reach_says_so_in_one_line(tmp_path: Path, host: str) -> None:
    server = Server(tmp_path, {"server__port": 0, "server__host": host, "auth": "none"})
    try:
        server.wait_for_line(f"serving http://{host}:")
        lines = [line for line in server.said if "may submit jobs, read and cancel" in line]
        assert len(lines) == (host == "0.0.0.0")
    finally:
        server.kill()


def test_a_file_of_tokens_that_other_users_can_read_is_said(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "headway-tokens.yaml"
    TokenFile(path).add("a", ["view"])
    assert [line for line in start().said if "chmod" in line] == []
    path.chmod(0o644)
    (line,) = (line for line in start().said if "chmod" in line)
    assert f"{path.name} has mode 0644, so other users can read or change it: chmod 600" in line
    ended = headway(tmp_path, "serve", "--check", HEADWAY_SERVER__PORT="0")
    assert (ended.returncode, "chmod 600" in ended.stderr) == (0, True)


def test_a_file_without_a_token_is_said_at_a_start_that_lets_everyone_in(tmp_path: Path, start: Start) -> None:
    (tmp_path / "headway-tokens.yaml").write_text("[]\n")
    (line,) = (line for line in start().said if "has no token" in line)
    assert "so everyone on this machine is let in" in line
    ended = headway(tmp_path, "serve", "--check", HEADWAY_SERVER__PORT="0")
    assert (ended.returncode, "has no token" in ended.stderr) == (0, True)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Ended]]]:
    """What comes of each row of LATER; two at a time."""

    def run(name: str) -> Ended:
        folder = tmp_path_factory.mktemp(name)
        settings, variables, _ = LATER[name]
        (folder / "config.yaml").write_text(settings)
        for module, text in MODULES.items():
            (folder / module).write_text(text)
        return headway(folder, "serve", **({"HEADWAY_SERVER__PORT": "0"} | variables))

    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(run, name) for name in LATER}


@pytest.mark.parametrize("name", LATER)
def test_what_cannot_be_used_is_said_in_one_line(outcomes: dict[str, Future[Ended]], name: str) -> None:
    ended = outcomes[name].result()
    assert ended.stdout == ""
    check_line(ended.returncode, ended.stderr, LATER[name][2])


@pytest.mark.parametrize("command", [("journal", "stats"), ("engine", "stats"), ("simulate",), ("token", "list")])
def test_each_command_reads_the_file_that_the_variable_names(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "headway.yaml").write_text("workers: 1\n")
    (tmp_path / "named.yaml").write_text("workers: none\n")
    ended = headway(tmp_path, *command, HEADWAY_CONFIG="named.yaml")
    assert (ended.returncode, ended.stderr.startswith("headway: named.yaml: workers: ")) == (2, True), ended.stderr


@pytest.mark.parametrize("variable", [False, True], ids=["option", "variable"])
def test_missing_file_is_said(tmp_path: Path, variable: bool) -> None:
    if variable:
        ended = headway(tmp_path, "serve", HEADWAY_CONFIG="nowhere.yaml")
    else:
        ended = headway(tmp_path, "serve", "--config", "nowhere.yaml")
    assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (2, "", 1)
    assert "nowhere.yaml" in ended.stderr


def test_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = headway(tmp_path, "serve", HEADWAY_SERVER__PORT=port)
    line = ended.stderr.splitlines()
    assert (ended.returncode, len(line)) == (2, 1)
    assert port in line[0]
    assert "in use" in line[0]


def test_file_environment_and_own_module(tmp_path: Path) -> None:
    """The file is read, a variable goes over it, and a module in the current directory is found."""
    (tmp_path / "own.yaml").write_text("server: {port: 1}\nworkers: 3\nqueue: {size: 7}\ntasks: [mine]\n")
    (tmp_path / "mine.py").write_text("import headway\n@headway.task\nasync def own(payload):\n    return payload\n")
    server = Server(tmp_path, {"server__port": 0, "workers": 5}, "--config", "own.yaml")
    try:
        server.wait_until_serving()
        assert server.get(server.run("own", 4) + "/result").json == 4
        said = server.stats()
        assert (said["workers"]["count"], said["queue_size"]) == (5, 7)
        server.process.terminate()
        assert server.wait() == 0
    finally:
        server.kill()


def test_config_yaml_in_the_current_directory_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("queue:\n  size: 9\nserver:\n")
    with launch(tmp_path, {}) as server:
        assert server.stats()["queue_size"] == 9


def test_our_own_config_yaml_is_good(tmp_path: Path) -> None:
    ended = headway(tmp_path, "serve", "--check", "--config", str(ROOT / "config.yaml"), HEADWAY_SERVER__PORT="0")
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(("arguments", "named"), [("--help", "serve"), ("serve --help", "--config"), ("-h", "serve")])
def test_help(tmp_path: Path, arguments: str, named: str) -> None:
    ended = headway(tmp_path, *arguments.split())
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Usage:" in ended.stdout
    assert named in ended.stdout


def test_script_is_installed(tmp_path: Path) -> None:
    script = Path(sys.executable).parent / "headway"
    said = subprocess.run(
        [script, "--version"], capture_output=True, text=True, check=True, cwd=tmp_path, env=os.environ
    )
    assert said.stdout.startswith("headway 0.")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_all_addresses_of_both_families_are_served(start: Start) -> None:
    server = start(server__host="::", auth="none")
    for address in ("127.0.0.1", "::1"):
        with socket.create_connection((address, server.port), 5) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
