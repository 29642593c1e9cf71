"""Build a wheel and an sdist of ``headway`` and of ``headway-client`` into a folder, and check them.

The client is one folder of the tree, ``headway/client``. The distribution ``headway`` has it there.
``headway-client`` has the same files under ``_headway_client``, with imports of each other that are
relative, and one file that makes ``headway.client`` of them. The reasons are in docs/adr/0020.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLIENT = ROOT / "headway" / "client"
OURS = re.compile(r"^(\s*from )headway\.client(?:\.(\w+))?(?= import )", re.MULTILINE)


def main(out: Path) -> None:
    """Build and check all that is published."""
    if out.exists():
        shutil.rmtree(out)
    build(ROOT, out)
    with tempfile.TemporaryDirectory() as folder:
        build(lay_out_client(Path(folder) / "client"), out)
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *sorted(out.iterdir())], check=True)
    list_parts(out / f"headway-{version_of(ROOT)}.cdx.json")
    for wheel in sorted(out.glob("*.whl")):
        print(f"pip install {wheel}")


def build(source: Path, out: Path) -> None:
    """Build the sdist of a project, and its wheel from that sdist."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}headway: {source} could not be built, see above")


def list_parts(file: Path) -> None:
    """Write the libraries of a server with their hashes, as CycloneDX has them (ECMA-424)."""
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", "requirements/headway.txt"]
    options = ["--pyproject", "pyproject.toml", "--output-reproducible", "--output-file", str(file)]
    subprocess.run([*command, *options], cwd=ROOT, check=True)
    print(file)


def version_of(root: Path) -> str:
    """Return the version that pyproject.toml names."""
    version: str = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    return version


def lay_out_client(target: Path) -> Path:
    """Write the project ``headway-client`` into ``target``, and return it."""
    shutil.copytree(ROOT / "release" / "client", target, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "LICENSE", target)
    (target / "VERSION").write_text(version_of(ROOT) + "\n")
    package = target / "_headway_client"
    package.mkdir()
    (package / "py.typed").touch()
    for file in CLIENT.glob("*.py"):
        (package / file.name).write_text(OURS.sub(r"\1.\2", file.read_text()))
    return target


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist")
