"""Servers to test against. Each is a process of its own; what ends badly fails the test that used it."""

from __future__ import annotations

import atexit
import gc
import importlib
import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import settings

# Tests import each other as tests.…, whether it was ``pytest`` or ``python -m pytest`` that began.
ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.end_to_end.process import BYTECODE, Gate, Server, launch  # noqa: E402
from tests.valkey_servers import DATABASES, HOST, StoreServer, serving  # noqa: E402

# A process that the server starts has the folder of the server last in its path, behind a package `tests` of
# sniffpy's, which httplint needs. By another name ours stays in front.
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "..")]

# A test imports or starts the same files hundreds of times, and compiles them once.
os.environ.update(BYTECODE)
sys.dont_write_bytecode = False

# ``nohup make test`` has SIGHUP ignored, and every process started from here would inherit that: none could deploy.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# A shell without job control has SIGINT ignored behind an ampersand, and none could be ended by Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A worker of pytest ends when its tests have: to tear down all that they imported takes more than a second. What is
# registered first is called last.
if "PYTEST_XDIST_WORKER" in os.environ:
    atexit.register(os._exit, 0)

Start = Callable[..., Server]

# Of a property with no settings of its own. ``make test-long`` tries twice as many.
settings.register_profile("short", max_examples=50)


def pytest_configure(config: pytest.Config) -> None:
    """Try fewer examples of each property in ``make test``."""
    if config.option.markexpr == "not long":
        settings.load_profile("short")


@pytest.hookimpl(hookwrapper=True)
def pytest_collection() -> Iterator[None]:
    """Have each worker import another part of the tests first: else each compiles all of them in a fresh clone.

    Nothing of what is collected is garbage before the end, so nobody looks for it: a tenth of the CPU.
    """
    gc.disable()
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None:
        files = sorted((ROOT / "tests").rglob("test_*.py"))
        for file in files[int(worker.removeprefix("gw")) :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]:
            # Of a group that is not installed, which is not collected either.
            with suppress(ModuleNotFoundError):
                importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
    yield
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """Let all end as it would have: plugins leave sockets to the collector."""
    gc.unfreeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, obj: object) -> list[pytest.Item] | None:
    """Make no tests of a function that takes long if they would be deselected, since each worker makes all cases."""
    if not inspect.isfunction(obj) or collector.config.option.markexpr != "not long":
        return None
    marks = [*collector.iter_markers(), *getattr(obj, "pytestmark", ())]
    return [] if any(mark.name == "long" for mark in marks) else None


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    """A Valkey that many tests share. Each takes a database of its own: see ``store_url``."""
    with serving(tmp_path_factory.mktemp("store")) as started:
        yield started


# Each database of the shared Valkey is given once.
FRESH = iter(range(1, DATABASES))


def fresh_database(store: StoreServer) -> str:
    """Return the URL of an empty database. Channels of messages are those of all databases."""
    return f"valkey://{HOST}:{store.port}/{next(FRESH)}"


@pytest.fixture
def store_url(store: StoreServer) -> str:
    """The URL of an empty database."""
    return fresh_database(store)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with default limits, that many tests share."""
    settings = {"jobs__backoff": 0.01, "jobs__backoff_max": 0.02}
    with launch(tmp_path_factory.mktemp("server"), settings) as started:
        yield started


@pytest.fixture(scope="session")
def _one_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"workers": 1, "queue__size": 6, "jobs__backoff": 30}
    with launch(tmp_path_factory.mktemp("one_worker"), settings) as started:
        yield started


@pytest.fixture
def one_worker(_one_worker: Server) -> Iterator[Server]:
    """A server with one worker, room for six that wait, and retries half a minute away; empty at the start."""
    yield _one_worker
    _one_worker.clear()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate that jobs wait for; it opens at the end of the test at the latest."""
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.open()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a server with settings of one's own, ``section__key=value``; all end with the test."""
    with ExitStack() as stack:
        yield lambda exit_code=0, **settings: stack.enter_context(launch(tmp_path, settings, exit_code=exit_code))
