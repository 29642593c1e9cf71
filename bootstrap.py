"""Make .venv and install Headway into it, with nothing but Python's standard library.

`make` runs this before each target. When all is in place it compares a stamp and returns. The stamp is
written last, so an install that was cut short starts afresh. The file must parse on old Pythons too, to turn
them away in one line.

What is installed is in LOCK, each release with its hashes. `make lock` writes it.

Debian's python3 can make a venv but has no pip to put in it (that is in python3-venv). There the wheel of pip
that is in LOCK is taken from the package index, checked against its hashes, and installs itself.
"""

import fcntl
import hashlib
import html
import http.client
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import venv
from collections.abc import Sequence
from pathlib import Path

NAMED = len(sys.argv) > 1  # PYTHON=… was given: that interpreter and no other
VERSION = "{}.{}".format(*sys.version_info)

if sys.version_info < (3, 11):  # noqa: UP036
    found = [] if NAMED else [shutil.which("python3." + str(minor)) for minor in range(19, 10, -1)]
    for newer in filter(None, found):
        # It may be a shim of pyenv, for a Python that is not installed.
        if subprocess.call([newer, "-c", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0:
            os.execv(newer, [newer, __file__])
    sys.stderr.write(
        f"headway: needs Python 3.11 or newer and this one is {VERSION}: install it (apt install python3, "
        "brew install python) or name one, as in PYTHON=python3.12 make test\n"
    )
    sys.exit(2)

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "headway-stamp"
LOCK = ROOT / "requirements" / "dev.txt"
OFFLINE = "cannot reach the package index: check the network, https_proxy, PIP_INDEX_URL and PIP_CERT, and try again"


def main() -> None:
    """Bring .venv up to date."""
    if usable() and up_to_date():
        return
    # Of two `make` at once the second waits. Each pip holds the lock too, so one that outlives a killed
    # `make` is waited for as well.
    with Path(__file__).open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not usable():
            print("Making .venv and installing into it: once, about a minute.", flush=True)
            make_venv(lock.fileno())
        if not up_to_date():
            install(lock.fileno())


def usable() -> bool:
    """Tell whether .venv was finished, has not moved (its paths would be stale) and its Python still runs."""
    if read_stamp()[:1] != [str(ROOT)]:
        return False
    show = "import sys; print('{}.{}'.format(*sys.version_info))"
    try:
        version = subprocess.run([PYTHON, "-IS", "-c", show], capture_output=True, text=True).stdout.strip()
    except OSError:
        return False
    return (VENV / "lib" / f"python{version}").is_dir() and (version == VERSION or not NAMED)


def up_to_date() -> bool:
    """Tell whether pyproject.toml and the lock file are those that were installed."""
    return read_stamp()[1:] == [digest()]


def read_stamp() -> list[str]:
    """Return the root and the digest of the last install that was finished."""
    try:
        return STAMP.read_text().splitlines()
    except OSError:
        return []


def digest() -> str:
    """Return the digest of the files that decide what is installed."""
    return hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + LOCK.read_bytes()).hexdigest()


def make_venv(lock: int) -> None:
    """Make .venv anew, with a pip in it."""
    if VENV.is_symlink() and any(VENV.iterdir()):
        # That of another checkout, maybe.
        sys.exit(f"headway: .venv is a link to {VENV.resolve()}, which would be emptied: remove the link and try again")
    STAMP.unlink(missing_ok=True)
    venv.EnvBuilder(clear=True, symlinks=True).create(VENV)
    if subprocess.run([PYTHON, "-m", "ensurepip", "--default-pip"], capture_output=True).returncode == 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        wheel = download_pip(Path(folder))
        pip(lock, ["install", "--no-deps", "--no-index", str(wheel)], program=[str(wheel / "pip")])


def install(lock: int) -> None:
    """Install Headway, what its examples need and the developer tools."""
    wanted = digest()
    STAMP.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        # Alone, since it is the faster one for all the others.
        alone = Path(folder) / "pip.txt"
        alone.write_text(locked_pip()[0])
        pip(lock, ["install", "--require-hashes", "--requirement", str(alone)])
    pip(lock, ["install", "--require-hashes", "--requirement", str(LOCK)])
    # Built by the setuptools of LOCK, not by one that is fetched for it.
    pip(lock, ["install", "--no-deps", "--no-build-isolation", "--editable", "."])
    STAMP.write_text(f"{ROOT}\n{wanted}\n")


def pip(lock: int, arguments: Sequence[str], program: Sequence[str] = ("-m", "pip")) -> None:
    """Run pip, silent unless it fails."""
    env = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    done = subprocess.run(
        [PYTHON, *program, *arguments], cwd=ROOT, env=env, pass_fds=[lock], capture_output=True, text=True
    )
    if done.returncode:
        offline = re.search(r"connection broken by|ConnectionError|Could not fetch URL", done.stderr)
        sys.exit(f"headway: {OFFLINE}" if offline else f"{done.stderr}headway: pip failed, see above")


def locked_pip() -> tuple[str, str]:
    """Return the lines of LOCK about pip, and its release."""
    found = re.search(r"^pip==([\d.]+)(?: \\\n +--hash=sha256:\w+)+\n", LOCK.read_text(), re.MULTILINE)
    if not found:
        sys.exit(f"headway: {LOCK} has no pip: take the file of the last commit")
    return found[0], found[1]


def download_pip(folder: Path) -> Path:
    """Put the wheel of pip that LOCK names into folder."""
    locked, release = locked_pip()
    index = (os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple").rstrip("/") + "/pip/"
    wheel = folder / f"pip-{release}-py3-none-any.whl"
    link = re.search(rf'href="([^"#]*{re.escape(wheel.name)})', fetch(index).decode())
    if not link:
        sys.exit(f"headway: the package index has no {wheel.name}: install python3-venv and try again")
    data = fetch(urllib.parse.urljoin(index, html.unescape(link[1])))
    if hashlib.sha256(data).hexdigest() not in locked:
        sys.exit(f"headway: the pip that came is not the one of {LOCK}: try again")
    wheel.write_bytes(data)
    return wheel


def fetch(url: str) -> bytes:
    """Return what url holds; trust what pip would."""
    request = urllib.request.Request(url, headers={"Accept": "text/html"})
    try:
        trust = ssl.create_default_context(cafile=os.environ.get("PIP_CERT") or None)
        with urllib.request.urlopen(request, timeout=30, context=trust) as answer:
            return bytes(answer.read())
    except (OSError, http.client.HTTPException) as error:
        sys.exit(f"headway: {OFFLINE} ({getattr(error, 'reason', error)})")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f"headway: {error}")
