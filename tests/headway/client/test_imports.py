"""The client needs its HTTP library and nothing of the server."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]
# Modules that only the server needs.
SERVER = (
    *("headway.core", "headway.protocol", "headway.sim", "apsw", "click", "httptools", "msgspec"),
    *("orjson", "prometheus_client", "rich", "uvloop", "yaml"),
)


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_the_client_works_without_the_server() -> None:
    without = "; ".join(f"sys.modules[{name!r}] = None" for name in SERVER)
    said = python(f"import sys; {without}; import headway.client; from headway import Client; print(Client())")
    assert said == "Client('http://127.0.0.1:8080')\n"


def test_headway_imports_the_client_at_its_first_use() -> None:
    said = python(
        "import sys, headway; print('httpx2' in sys.modules); headway.AsyncClient; print('httpx2' in sys.modules)"
    )
    assert said == "False\nTrue\n"


def test_the_http_library_is_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert any(line.startswith("httpx2") for line in project["dependencies"])
