"""Text of a server on its way to a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.cli.output import one_line, plain_text

# Characters of which sequences for terminals are made.
OBEYED = st.text(alphabet="\x1b\x07\x08\x7f\x9b\x9c\x9d[]()P\\;?019mhKJ \r\n\tAü\u202e\ud800")


@given(st.text() | OBEYED)
def test_a_terminal_gets_nothing_that_it_would_obey(text: str) -> None:
    assert all(char.isprintable() or char in "\n\t" for char in plain_text(text))
    assert one_line(text).isprintable()
    assert plain_text(plain_text(text)) == plain_text(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a \x1b[1;31mred\x1b[0m b", "a red b"),
        ("\x1b[2J\x1b[H\x1b[?25lgone\x1b[K", "gone"),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "alink"),
        ("\x1b(B\x1b=\x1bcreset", "reset"),
        ("10%\r20%\r\n30%\n", "10%\n20%\n30%\n"),
        ("half a sequence \x1b[3", "half a sequence  [3"),
        ("\x1b]0;no end\nthe text", " ]0;no end\nthe text"),
        ("bell\x07 back\x08 C1\x9b31m \u202eleft", "bell  back  C1 31m  left"),
        ("tab\tü 日本 🙂\n", "tab\tü 日本 🙂\n"),
    ],
)
def test_sequences_are_taken_away_and_other_characters_are_spaces(text: str, shown: str) -> None:
    assert plain_text(text) == shown
