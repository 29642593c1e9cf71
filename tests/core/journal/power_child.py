"""What the disk holds at the moments that count: ``python power_child.py WHAT FOLDER``, with DISK for forgetful_disk.

Each program ends with an error where a loss of power at that moment would lose something, or make what is whole look
damaged.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

# Twice: see conftest.py.
sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / ".."))
sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.core.journal import forgetful_disk

# Before SQLite opens a file.
system = forgetful_disk.install()

from headway.core.job import State  # noqa: E402
from headway.core.journal import schema, watermark  # noqa: E402
from headway.core.journal.startup import Found  # noqa: E402

DISK = Path(os.environ["DISK"])
# What comes back is its owner's alone, as it was.
os.umask(0o077)


def submit(found: Found, sequence: int) -> None:
    change = (sequence, "sleep", State.QUEUED, None, b"x" * 9000, 5, b"{}", 0, None, 1.0, None, None, None)
    assert found.file.commit([change], sequence)


def kill(found: Found) -> None:
    """Leave the files as a kill does."""
    found.connection.close()
    found.mark.close()


def after_an_outage(path: Path, jobs: int) -> None:
    """See what is found when the power is back."""
    into = path.parent.parent / f"back-{len(list(path.parent.parent.iterdir()))}"
    forgetful_disk.lose_power(DISK, path.parent, into, "synced")
    found = Found(into / path.name, "full")
    assert len(found.unfinished()) == jobs
    found.close()


def synced_mark(path: Path) -> watermark.Marked:
    """What the mark on the disk says."""
    marked = watermark.read(DISK / str(watermark.beside(path).stat().st_ino))
    assert marked is not None
    return marked


def start(path: Path) -> None:
    """What a start shows is on the disk, though the last process did not sync it; and so are the names of the files."""
    schema.create(path)
    assert path.name in json.loads((DISK / "names").read_bytes())
    found = Found(path, "normal")
    submit(found, 1)
    kill(found)
    found = Found(path, "normal")
    assert len(found.unfinished()) == 1
    after_an_outage(path, 1)
    found.close()
    # A copy that was closed needs no mark; from the start on it has one.
    watermark.beside(path).unlink()
    found = Found(path, "full")
    submit(found, found.next_sequence)
    after_an_outage(path, 2)
    kill(found)


def mark(path: Path) -> None:
    """A mark that has begun is on the disk, and so is its name."""
    name = watermark.beside(path)
    begun, marked = watermark.Mark(name), watermark.Marked(journal=7, commits=5, begun=3, frames=2)
    begun.begin(marked)
    assert name.name in json.loads((DISK / "names").read_bytes())
    assert synced_mark(path) == marked
    begun.close()


def any_moment(path: Path) -> None:
    """Whenever the power goes in a start, the next one finds all there is."""
    found = Found(path, "full")
    submit(found, 1)
    found.close()
    # A copy that was closed needs no mark.
    copy = path.parent.parent / "copy" / path.name
    copy.parent.mkdir()
    with copy.open("w+b") as file:
        file.write(path.read_bytes())
        file.flush()
        os.fsync(file.fileno())
    watermark.sync_folder(copy)
    backs: list[Path] = []
    sync = forgetful_disk.File.xSync

    def watched(self: forgetful_disk.File, flags: int) -> None:
        sync(self, flags)
        backs.append(copy.parent.parent / f"back-{len(backs)}")
        forgetful_disk.lose_power(DISK, copy.parent, backs[-1], "synced")

    forgetful_disk.File.xSync = watched  # type: ignore[method-assign]
    found = Found(copy, "full")
    forgetful_disk.File.xSync = sync  # type: ignore[method-assign]
    kill(found)
    assert backs
    for back in backs:
        found = Found(back / path.name, "full")
        assert len(found.unfinished()) == 1
        found.close()


def checkpoint(path: Path) -> None:
    """While the log is copied into the file the mark on the disk says so, and how long the log is."""
    found = Found(path, "full")
    for sequence in range(1, 6):
        submit(found, sequence)
    frames, seen = found.file.frames(), []
    write = forgetful_disk.File.xWrite

    def watched(self: forgetful_disk.File, data: bytes, offset: int) -> None:
        if self._path == path:
            seen.append(synced_mark(path).frames)
        write(self, data, offset)

    forgetful_disk.File.xWrite = watched  # type: ignore[assignment, method-assign]
    found.file.checkpoint()
    assert seen, "nothing was copied"
    assert set(seen) == {frames}
    kill(found)


def end(path: Path) -> None:
    """When the log is emptied the mark on the disk says that it is not needed any more."""
    found = Found(path, "full")
    submit(found, 1)
    log, seen = path.with_name(f"{path.name}-wal"), []
    truncate = forgetful_disk.File.xTruncate

    def watched(self: forgetful_disk.File, size: int) -> None:
        if self._path == log:
            seen.append(synced_mark(path).frames)
        truncate(self, size)

    forgetful_disk.File.xTruncate = watched  # type: ignore[assignment, method-assign]
    found.close()
    assert seen == [0]


if __name__ == "__main__":
    folder = Path(sys.argv[2]) / "here"
    folder.mkdir()
    globals()[sys.argv[1]](folder / "j")
    print("ok")
