"""Look for known faults in the releases of the lock files, by pip-audit and the advisories of PyPI.

Exit codes: 1 if there are any. 0 if there are none, and also where the advisories cannot be had, which
one line says.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# What a server needs, and what a developer has. The benches run on machines of their own.
FILES = ("headway.txt", "dev.txt")
COMMAND = ("--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json")
# The errors of a source that cannot be reached.
AWAY = re.compile(r"ConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError")


def main() -> int:
    """Look into each file, and tell."""
    tool = Path(sys.executable).with_name("pip-audit")
    wanted = [word for name in FILES for word in ("--requirement", f"requirements/{name}")]
    done = subprocess.run([tool, *COMMAND, *wanted, *sys.argv[1:]], cwd=ROOT, capture_output=True, text=True)
    return told(done.stdout, done.stderr)


def told(answer: str, errors: str) -> int:
    """Print what pip-audit has found in a line each. Return the exit code."""
    try:
        found: list[dict[str, Any]] = json.loads(answer)["dependencies"]
    except ValueError:
        last = errors.strip().rpartition("\n")[2] or "it said nothing"
        away = AWAY.search(errors)
        print(f"audit: {'not run, the advisories cannot be reached' if away else 'pip-audit failed'}: {last}")
        return 0 if away else 1
    looked = [one for one in found if "skip_reason" not in one]
    if not looked:
        print("audit: not run, the advisories of PyPI cannot be reached from here")
        return 0
    faults = [(one, fault) for one in looked for fault in one["vulns"]]
    for one, fault in faults:
        mended = ", ".join(fault["fix_versions"]) or "none yet"
        print(f"audit: {one['name']} {one['version']}: {fault['id']}. Mended in: {mended}")
    missed = f", {len(found) - len(looked)} could not be looked for" if len(looked) < len(found) else ""
    print(f"audit: {len(looked)} releases have {len(faults)} known faults{missed}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
