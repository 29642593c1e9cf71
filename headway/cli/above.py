"""An output of a command while a bar is drawn below it."""

from __future__ import annotations

from typing import IO

from rich.console import Console
from rich.file_proxy import FileProxy
from rich.text import Text


class Above(FileProxy):
    """Writes lines above what is drawn."""

    # click writes past a stream without these, onto the bar.
    encoding = "utf-8"
    errors = "replace"

    def __init__(self, console: Console, file: IO[str]) -> None:
        super().__init__(console, file)
        self._console = console

    def write(self, text: str) -> int:
        """Write whole lines, as click does, and leave their width to the terminal."""
        if not isinstance(text, str):
            # click finds out by this that the stream is one of text.
            raise TypeError(f"expected text, got {type(text).__name__}")
        if text:
            self._console.print(Text(text), soft_wrap=True, end="")
        return len(text)
