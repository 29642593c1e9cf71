"""The journal's clock never goes backwards, and only a start of the machine makes it look at the time of day."""

from __future__ import annotations

import time
from pathlib import Path

import apsw
import pytest
from headway.core.journal import clock, schema
from headway.core.journal.schema import Meta

HOUR_S = 3600.0
NEAR_S = 1.0


def now_after(meta: Meta, latest: float, this_boot: str = "this start") -> float:
    """What the clock says in a server that opens a journal with ``meta`` whose last time is ``latest``."""
    return time.monotonic() + clock.epoch(meta, latest, this_boot)


def meta(boot: str, epoch: float, skew: float) -> Meta:
    """What stands in a journal, as far as the clock goes."""
    connection = apsw.Connection(":memory:")
    connection.execute(schema.TABLES)
    connection.execute("INSERT INTO meta VALUES (1, 1, x'00', 0, 0, 1, ?, ?, ?, 0)", (boot, epoch, skew))
    return Meta(connection)


def test_in_one_start_of_the_machine_it_goes_on_whatever_the_time_of_day() -> None:
    epoch = 1e9 - time.monotonic()
    assert clock.epoch(meta("this start", epoch, HOUR_S), 1e9 - HOUR_S, "this start") == epoch


@pytest.mark.parametrize("boot", ["this start", "another", ""])
def test_it_is_never_before_the_last_time_in_the_journal(boot: str) -> None:
    """Also where the boot id is the same and the monotonic clock is not, as in a copied container."""
    latest = time.time() + HOUR_S
    found = meta(boot, time.time() - time.monotonic(), 0.0)
    # But for rounding.
    assert latest - 1e-3 <= now_after(found, latest) < latest + NEAR_S


def test_across_a_start_of_the_machine_it_goes_on_by_as_much_as_the_time_of_day() -> None:
    for boot in ("another", ""):
        said = now_after(meta(boot, 12345.0, HOUR_S), 0.0)
        assert abs(said - (time.time() - HOUR_S)) < NEAR_S


def test_where_no_start_of_the_machine_is_known_it_goes_by_the_time_of_day() -> None:
    said = now_after(meta("", time.time() - time.monotonic() + HOUR_S, HOUR_S), 0.0, "")
    assert abs(said - (time.time() - HOUR_S)) < NEAR_S


def test_a_start_of_the_machine_has_an_id_where_the_system_gives_one(tmp_path: Path) -> None:
    assert clock.boot(tmp_path / "boot_id") == ""
    (tmp_path / "boot_id").write_text("this start\n")
    assert clock.boot(tmp_path / "boot_id") == "this start"
