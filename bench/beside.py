"""The checkout of another commit, beside which a benchmark runs this one."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.measure import ROOT, BenchError


def name_of(commit: str) -> str:
    """Return the short name of a commit. Raises BenchError if there is none."""
    return _git("rev-parse", "--short", "--verify", f"{commit}^{{commit}}").decode().strip()


def checkout(name: str) -> Path:
    """Return a folder with the files of the commit ``name``. The Python of this checkout runs them."""
    folder = ROOT / "tmp" / "beside" / name
    if not folder.exists():
        packed = _git("archive", name)
        made = folder.with_name(f"{name}.new")
        made.mkdir(parents=True, exist_ok=True)
        # The module tarfile has no filter before Python 3.11.4, and warns without one from 3.12 on.
        subprocess.run(["tar", "-x", "-C", made], input=packed, check=True)
        made.rename(folder)
    return folder


def _git(*arguments: str) -> bytes:
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        told = getattr(error, "stderr", b"") or str(error).encode()
        raise BenchError(f"git {' '.join(arguments)}: {told.decode(errors='replace').strip()}") from None
