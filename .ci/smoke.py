"""Begin a project, serve it with a worker process and a journal, run its jobs, deploy, and end.

Python's standard library only. Run it with the Python that has Headway installed.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HEADWAY = [sys.executable, "-m", "headway"]
BESIDE = """

@headway.task(run_in="process")
def beside(payload):
    import sys
    return [payload, list(sys.version_info[:3])]
"""


def run(url: str, task: str, payload: object) -> object:
    """Return the result of a job."""
    content = json.dumps({"task": task, "payload": payload}).encode()
    post = urllib.request.Request(f"{url}/jobs", content, {"Content-Type": "application/json"})
    with urllib.request.urlopen(post) as answer:
        job = url + answer.headers["Location"]
    waiting = urllib.request.Request(job, headers={"Prefer": "wait=20"})
    with urllib.request.urlopen(waiting) as answer:
        assert answer.headers["Job-State"] == "succeeded", answer.read()
    with urllib.request.urlopen(f"{job}/result") as answer:
        return json.load(answer)


def main(folder: Path) -> None:
    """See that everything works."""
    subprocess.run([*HEADWAY, "init", str(folder)], check=True, stdout=subprocess.DEVNULL)
    with (folder / "tasks.py").open("a") as file:
        file.write(BESIDE)
    begun = time.monotonic()
    serve = [*HEADWAY, "serve", "--port", "0"]
    server = subprocess.Popen(serve, cwd=folder, stdout=subprocess.PIPE, text=True)
    lines = iter(server.stdout)
    urls = (found[0] for line in lines if (found := re.findall(r"serving (http://[\d.:]+)", line)))
    try:
        for life in range(2):
            url = next(urls)
            assert run(url, "greet", {"name": "Ada"}) == {"greeting": "Hello, Ada!"}
            assert run(url, "beside", life) == [life, list(sys.version_info[:3])]
            if life == 0:
                server.send_signal(signal.SIGHUP)
        server.terminate()
        assert server.wait(60) == 0
    finally:
        server.kill()
    print(f"headway works on Python {'.'.join(map(str, sys.version_info[:3]))}: {time.monotonic() - begun:.1f} s")


if __name__ == "__main__":
    # A server that hangs fails, instead of the whole run. Under nohup a deploy is asked for all the same.
    signal.alarm(120)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.environ.pop("HEADWAY_CONFIG", None)
    with tempfile.TemporaryDirectory() as made:
        main(Path(made) / "project")
