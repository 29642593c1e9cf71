"""A crowd to put on servers."""

from pathlib import Path

import pytest

from tests.sim.scripted import Simulate


@pytest.fixture
def simulate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Simulate:
    """Run the simulator and see what it says."""
    return Simulate(tmp_path, monkeypatch, capsys)
