"""Headway installed into a venv of its own, run from folders of all kinds, with a journal and worker processes.

The short tests build one wheel and see the packages that the suite runs with. The long ones take everything from the
package index, as a user does.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from release import dist, lock
from tests.end_to_end.process import ROOT, Server
from tests.test_structure import imports

pytestmark = pytest.mark.long

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
# The packages that a server has to find, and one of the user's that has the name of one of ours.
TASKS = """
import headway
try:
    from core.words import WORD
except ModuleNotFoundError:
    WORD = "none"

@headway.task(run_in="process")
def beside(payload):
    from headway.core.processes import child
    return child.__file__, WORD

@headway.task
def inside(payload):
    from headway.core.local import engine
    return engine.__file__, WORD
"""
# Modules of the user's: packages with the names of ours, and some with names of Python's.
NAMESAKES = ("headway", "core", "protocol", "sim")
HIDING = ("json", "msgspec", "orjson", "logging", "queue", "inspect")


def plain(folder: Path) -> Path:
    """Return a folder with nothing but tasks."""
    (folder / "tasks.py").write_text(TASKS)
    return folder


def namesakes(folder: Path) -> Path:
    """Return a folder with modules that have the names of ours and of Python's."""
    for name in NAMESAKES:
        (folder / name).mkdir()
        (folder / name / "__init__.py").touch()
        (folder / name / "words.py").write_text("WORD = 'theirs'\n")
    for name in HIDING:
        (folder / f"{name}.py").write_text("raise RuntimeError('a module of the user hides one')\n")
    return plain(folder)


def checkout(_: Path) -> Path:
    """Return the checkout itself."""
    return ROOT


def unwritable(folder: Path) -> Path:
    """Return a folder in which nobody can create a file."""
    (folder / "closed").mkdir()
    plain(folder / "closed").chmod(0o555)
    return folder / "closed"


FOLDERS: dict[str, Callable[[Path], Path]] = {
    "plain": plain,
    "namesakes": namesakes,
    "checkout": checkout,
    "unwritable": unwritable,
}
# Root creates files everywhere, unless it gives up the capability.
WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.getuid() == 0 else ()
cannot_give_up = pytest.mark.skipif(
    bool(WITHOUT_RIGHTS) and not shutil.which("setpriv"), reason="root needs setpriv to give up its rights"
)
# The one in which most can go wrong is the short one.
MARKS = {"namesakes": [], "unwritable": [pytest.mark.long, cannot_give_up]}
EACH = [pytest.param(name, marks=MARKS.get(name, pytest.mark.long)) for name in FOLDERS]


class Venv:
    """A venv with Headway in it."""

    def __init__(self, folder: Path, *, pip: bool) -> None:
        venv.EnvBuilder(symlinks=True, with_pip=pip).create(folder)
        self.bin = folder / "bin"
        self.site = next(folder.glob("lib/python*/site-packages"))

    def run(self, *command: str, folder: Path | None = None) -> str:
        """Run a program of the venv, and return what it printed."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("HEADWAY_", "PYTHON"))}
        done = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=folder or self.site,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


def serve(installed: Venv, kind: str, folder: Path, *, module: bool = False) -> None:
    """See that a server from ``installed`` runs jobs in and beside it, deploys, and knows them after a restart.

    It is started by the command, or by ``python -m headway`` if ``module``.
    """
    where = FOLDERS[kind](folder)
    # Of a checkout that cannot have the tasks. A folder of theirs, and in it no namesake.
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    plain(elsewhere)
    settings = {"journal__path": str(folder / "jobs.db"), "drain_linger": 0, "processes": 1}
    paths: list[str] = []
    for life in range(2):
        server = Server(
            where,
            settings,
            *("--tasks", "tasks", "--port", "0"),
            before=WITHOUT_RIGHTS if kind == "unwritable" else (),
            command=[str(installed.bin / "python"), "-m", "headway"] if module else [str(installed.bin / "headway")],
            path=str(elsewhere) if kind == "checkout" else "",
        )
        try:
            server.wait_until_serving()
            for path in paths:
                assert server.get(path + "/result").status == 200
            if life == 0:
                paths = [server.run(task) for task in ("inside", "beside")]
                assert "not deployed" not in server.deploy()
            for path in paths:
                file, word = server.get(path + "/result").json
                # ``python -m`` finds the checkout first, and then all of it. Nothing is of both.
                assert Path(file).is_relative_to(ROOT if module and kind == "checkout" else installed.site)
                assert word == ("theirs" if kind == "namesakes" else "none")
            server.process.terminate()
            assert server.wait() == 0
            assert server.errors == []
            assert server.stderr == []
        finally:
            server.kill()
    if kind == "unwritable":
        assert [file.name for file in where.iterdir()] == ["tasks.py"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built from a copy of it with nothing but what is here."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in {path.split("/")[0] for path in SETUPTOOLS["package-dir"].values()}:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "-w",
        "out",
        ".",
    ]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (made,) = (source / "out").iterdir()
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """The wheel in a venv that sees the packages of this one, without its editable installation."""
    made = Venv(tmp_path_factory.mktemp("installed") / "venv", pip=False)
    unpack(wheel, made)
    return made


def unpack(wheel: Path, target: Venv) -> None:
    """Install a wheel without its dependencies, which are those of this venv."""
    (others,) = {part for part in sys.path if part.endswith("site-packages") and part.startswith(sys.prefix)}
    # Of a folder that a .pth file names, no .pth file is read.
    (target.site / "packages_of_the_suite.pth").write_text(f"{others}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(target.bin / "python"), "install", "--no-deps", "--no-index"]
    done = subprocess.run([*pip, "-q", str(wheel)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", EACH)
def test_a_wheel_serves_from_any_folder(installed: Venv, kind: str, tmp_path: Path) -> None:
    serve(installed, kind, tmp_path)


@pytest.mark.parametrize("kind", ["plain", "checkout"])
def test_as_a_module(installed: Venv, kind: str, tmp_path: Path) -> None:
    serve(installed, kind, tmp_path, module=True)


def test_the_folder_of_a_project_that_began_with_init(installed: Venv, tmp_path: Path) -> None:
    """The two commands that are printed work as they stand, and so does the test."""
    said = installed.run("headway", "init", "my shop", folder=tmp_path)
    serve_it, post = [line.strip() for line in said.splitlines() if line.startswith("    ")]
    assert serve_it == "cd 'my shop' && headway serve"
    again = subprocess.run(
        [installed.bin / "headway", "init", "my shop"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (again.returncode, len(again.stderr.splitlines())) == (2, 1)
    assert "my shop/tasks.py is there already" in again.stderr
    project = tmp_path / "my shop"
    server = Server(
        project, {"server__port": 0, "journal__path": "headway.db"}, command=[str(installed.bin / "headway")], path=""
    )
    try:
        server.wait_until_serving()
        sent = subprocess.run(
            post.replace("curl", "curl -si").replace("localhost:8080", f"localhost:{server.port}"),
            shell=True,
            capture_output=True,
            text=True,
            check=True,
        )
        (path,) = re.findall(r"(?i)^location: (\S+)", sent.stdout, re.MULTILINE)
        server.wait_for(path, "succeeded")
        assert server.get(path + "/result").json == {"greeting": "Hello, Ada!"}
        assert (project / "headway.db").exists()
    finally:
        server.kill()
    installed.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", folder=project)


def test_init_leaves_what_is_there(installed: Venv, tmp_path: Path) -> None:
    (tmp_path / "test_tasks.py").write_text("mine")
    done = subprocess.run(
        [installed.bin / "headway", "init"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (
        2,
        "headway: test_tasks.py is there already: name an empty folder, as in headway init shop\n",
    )
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


# The client by itself.


@pytest.fixture(scope="module")
def client_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of headway-client."""
    folder = tmp_path_factory.mktemp("client")
    source = dist.lay_out_client(folder / "source")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "-w",
        "out",
        ".",
    ]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (made,) = (source / "out").iterdir()
    return made


def test_the_client_needs_what_the_server_takes_for_it() -> None:
    """One HTTP library of the same versions, and Python."""
    client = tomllib.loads((ROOT / "release" / "client" / "pyproject.toml").read_text())["project"]
    (library,) = client["dependencies"]
    assert library in PROJECT["project"]["dependencies"]
    assert client["requires-python"] == PROJECT["project"]["requires-python"]
    imported = {name.split(".")[0] for file in dist.CLIENT.glob("*.py") for name in imports(file)}
    assert imported - sys.stdlib_module_names == {"headway", re.split(r"[<>=]", library)[0]}
    names = {name for file in dist.CLIENT.glob("*.py") for name in imports(file) if name.startswith("headway")}
    assert {name for name in names if not name.startswith("headway.client.")} == set()


def files_of(site: Path, distribution: str) -> set[str]:
    """The files that belong to a distribution."""
    (record,) = site.glob(f"{distribution}-*.dist-info/RECORD")
    return {line.split(",")[0] for line in record.read_text().splitlines()}


WHERE = "import headway.client, headway.client.errors; print(headway.client.__file__, headway.client.Client.__module__)"


def test_the_client_alone_and_beside_the_server(wheel: Path, client_wheel: Path, tmp_path: Path) -> None:
    """No file belongs to both, so each can be removed, whichever came first."""
    there = Venv(tmp_path / "venv", pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(there.bin / "python")]
    unpack(client_wheel, there)
    assert there.run("python", "-c", WHERE).split() == [
        str(there.site / "_headway_client" / "__init__.py"),
        "headway.client.threads",
    ]
    with pytest.raises(AssertionError, match=r"cannot import name 'task' from 'headway'"):
        there.run("python", "-c", "from headway import task")
    unpack(wheel, there)
    assert files_of(there.site, "headway") & files_of(there.site, "headway_client") == set()
    both = there.run("python", "-c", WHERE).split()
    assert both == [str(there.site / "headway" / "client" / "__init__.py"), "headway.client.threads"]
    subprocess.run([*pip, "uninstall", "-qy", "headway-client"], capture_output=True, check=True)
    assert there.run("python", "-c", WHERE).split() == both
    unpack(client_wheel, there)
    subprocess.run([*pip, "uninstall", "-qy", "headway"], capture_output=True, check=True)
    assert there.run("python", "-c", WHERE).split()[0] == str(there.site / "_headway_client" / "__init__.py")


def test_type_checkers_see_the_client_alone(client_wheel: Path, tmp_path: Path) -> None:
    there = Venv(tmp_path / "venv", pip=False)
    unpack(client_wheel, there)
    (tmp_path / "program.py").write_text("from headway.client import Client, JobFailed\nreveal_type(Client().submit)\n")
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(there.bin / "python"), "program.py"]
    done = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "_headway_client.jobs.Job" in done.stdout


# From the package index.


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with all that ``make dist`` makes."""
    out = tmp_path_factory.mktemp("made") / "dist"
    tools = Venv(tmp_path_factory.mktemp("tools") / "venv", pip=True)
    locks = [word for name in ("dist", "lock") for word in ("-r", str(ROOT / "requirements" / f"{name}.txt"))]
    tools.run("python", "-m", "pip", "install", "-q", "--require-hashes", *locks)
    tools.run("python", str(ROOT / "release" / "dist.py"), str(out))
    return out


def test_all_that_is_made_is_of_the_same_version(made: Path) -> None:
    version = dist.version_of(ROOT)
    assert {path.name for path in made.iterdir()} == {
        f"{name}-{version}{ending}"
        for name in ("headway", "headway_client")
        for ending in (".tar.gz", "-py3-none-any.whl")
    } | {f"headway-{version}.cdx.json"}


def test_the_parts_of_a_release_are_those_of_the_lock_file(made: Path) -> None:
    (file,) = made.glob("*.cdx.json")
    parts = json.loads(file.read_text())
    assert parts["bomFormat"] == "CycloneDX"
    assert parts["metadata"]["component"]["name"] == "headway"
    listed = {part["name"]: part["version"] for part in parts["components"]}
    assert listed == {pin.name: pin.release for pin in lock.pins(lock.SERVER)}
    assert all(part["externalReferences"][0]["hashes"] for part in parts["components"])


@pytest.fixture(scope="module")
def fresh(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Venv]:
    """Installs one of the files into a fresh venv, with all that it needs."""

    def install(ending: str) -> Venv:
        there = Venv(tmp_path_factory.mktemp("fresh") / "venv", pip=True)
        (file,) = made.glob(f"headway-*{ending}")
        there.run("python", "-m", "pip", "install", "-q", str(file))
        return there

    return install


@pytest.mark.parametrize("ending", [".whl", ".tar.gz"])
def test_a_fresh_venv(fresh: Callable[[str], Venv], ending: str, tmp_path: Path) -> None:
    """The first result, from a server that has been deployed and restarted, comes within a minute."""
    begun = time.monotonic()
    there = fresh(ending)
    for kind in FOLDERS:
        if kind != "unwritable" or not WITHOUT_RIGHTS or shutil.which("setpriv"):
            (tmp_path / kind).mkdir()
            serve(there, kind, tmp_path / kind)
        assert kind != "plain" or time.monotonic() - begun < 60
    # watchfiles comes with the extra.
    with pytest.raises(
        AssertionError, match=r"headway: --reload: watchfiles is not installed: pip install 'headway\[reload\]'"
    ):
        there.run("headway", "serve", "--reload")


def test_uv_adds_it_to_a_project(made: Path, tmp_path: Path) -> None:
    tools = Venv(tmp_path / "venv", pip=True)
    tools.run("python", "-m", "pip", "install", "-q", "uv")
    project = tmp_path / "project"
    (wheel,) = made.glob("headway-*.whl")
    uv = ["uv", "--no-progress", "--no-python-downloads"]
    tools.run(*uv, "init", "--bare", "--python", sys.executable, str(project))
    tools.run(*uv, "add", str(wheel), folder=project)
    tools.run(*uv, "run", "headway", "init", folder=project)
    assert "the configuration is good" in tools.run(
        *uv, "run", "headway", "serve", "--check", "--port", "0", folder=project
    )
