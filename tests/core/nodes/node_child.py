"""A node as a process of its own, that tests kill and stop: ``python -m tests.core.nodes.node_child``.

Its tasks write each beginning and each end to a file, which survives the kill.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from headway.core.tasks.context import Context
from headway.core.tasks.registry import Options

from tests.core.engines import settings
from tests.core.nodes.nodes import IDS, Standing, registry_of


def main() -> None:
    url, path, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(what: str, context: Context) -> None:
        sequence, _ = IDS.read(context.id.encode())
        words = (what, sequence, context.attempt, os.getpid(), time.monotonic())
        os.write(file, (" ".join(map(str, words)) + "\n").encode())

    async def waits(seconds: float, context: Context) -> None:
        note("begin", context)
        await asyncio.sleep(seconds)
        note("end", context)

    async def blocks(seconds: float, context: Context) -> None:
        note("begin", context)
        time.sleep(seconds)  # noqa: ASYNC251 — it is what the test is about
        note("end", context)

    async def reports(seconds: float, context: Context) -> None:
        note("begin", context)
        for percent in range(100):
            await asyncio.sleep(seconds / 100)
            context.progress(percent)
            context.log(f"{context.attempt} {percent}")
        note("end", context)

    async def serve() -> None:
        limited = (waits, Options(name="limited", max_concurrent=1))
        tasks = registry_of(waits, limited, blocks, reports)
        node = Standing(url, settings(workers=options.pop("workers", 8)), tasks, **options)
        await node.start()
        print("ready", node.node.name, flush=True)
        # Until the pipe of the test is closed.
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await node.stop()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
