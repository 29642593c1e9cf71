"""The command line: ``headway simulate``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from headway.cli.settings import address, named_address, settings
from headway.sim.command import command


def _simulation(file: Path | None) -> Mapping[str, object]:
    """Return the settings of ``simulation:``, with the URL that HEADWAY_URL names, or that of these settings."""
    import msgspec

    config = settings(file)
    simulation: dict[str, object] = msgspec.to_builtins(config.simulation)
    return simulation | {"url": config.simulation.url or named_address() or address(config)}


simulate = command(_simulation)
