"""Inputs for Hypothesis: seeds of a target, with pieces of them replaced, removed, doubled and mixed."""

from __future__ import annotations

import ast
import importlib
from functools import cache
from pathlib import Path
from typing import Protocol, cast

from hypothesis import strategies as st

FOLDER = Path(__file__).parent
SEEDS = FOLDER / "seeds"
TARGETS = sorted(path.name for path in SEEDS.iterdir())
EDITS_MOST = 6
# Bytes that an edit replaces.
SPAN_MOST = 24


class Target(Protocol):
    """A module with a target."""

    def fuzz_one(self, data: bytes) -> None:
        """Check all that must hold for an input. Raises AssertionError."""


def target_of(name: str) -> Target:
    """Return a target by its name."""
    return cast(Target, importlib.import_module(f"tests.fuzz.{name}"))


def seed_files(name: str) -> list[Path]:
    """Return the seeds of a target."""
    return sorted((SEEDS / name).iterdir())


def dictionary(name: str) -> Path:
    """Return the file with the words of a target, in the form that libFuzzer reads."""
    return FOLDER / f"{name}.dict"


@cache
def words(name: str) -> list[bytes]:
    """Return the words of a target."""
    path = dictionary(name)
    lines = path.read_text().splitlines() if path.exists() else []
    return [ast.literal_eval(f"b{line}") for line in lines if line.startswith('"')] or [b"\0"]


@cache
def seeds(name: str) -> list[bytes]:
    """Return the seeds of a target, as bytes."""
    return [path.read_bytes() for path in seed_files(name)]


@st.composite
def inputs(draw: st.DrawFn, name: str) -> bytes:
    """An input of a target."""
    whole = st.sampled_from(seeds(name))
    data = draw(whole)
    for _ in range(draw(st.integers(0, EDITS_MOST))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, SPAN_MOST)))
        put = draw(st.sampled_from(words(name)) | st.binary(max_size=8) | st.just(data[at:end] * 2) | whole)
        data = data[:at] + put + data[end:]
    return data
