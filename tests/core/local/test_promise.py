"""The settings of a journal, and the promise that follows from them."""

from pathlib import Path

import msgspec
import pytest
from headway.core.config import Config
from headway.core.config_sources import load
from headway.core.durability import Durability
from headway.core.errors import NotDurableError
from headway.core.job import Submission
from headway.core.open import open_engine
from headway.core.recovering import Recovering
from headway.core.tasks.registry import Options, Registry

from tests.core.engines import double, settings

PROMISED: list[tuple[dict[str, object], Durability]] = [
    ({"path": None}, "memory"),
    ({"path": None, "sync": "full"}, "memory"),
    ({"sync": "normal"}, "process"),
    ({}, "disk"),
]


@pytest.mark.parametrize(("journal", "promised"), PROMISED)
async def test_the_promise_follows_from_the_settings(
    tmp_path: Path, journal: dict[str, object], promised: Durability
) -> None:
    config = settings(journal={"path": str(tmp_path / "jobs")} | journal)
    registry = Registry()
    registry.add(double, Options())
    engine = open_engine(config, registry, lambda _: None)
    try:
        assert (engine.durability, Recovering(config).durability) == (promised, promised)
        if promised != "disk":
            with pytest.raises(NotDurableError):
                engine.submit(Submission("double", msgspec.Raw(b"1"), durability="disk"))
    finally:
        await engine.close()
    assert (tmp_path / "jobs").exists() == (promised != "memory")


@pytest.mark.parametrize(
    ("path", "folder", "file"),
    [
        ("headway.db", None, "headway.db"),
        ("headway.db", "", "headway.db"),
        ("headway.db", "/var/lib/headway", "/var/lib/headway/headway.db"),
        ("headway.db", "/var/lib/one:/var/lib/two", "/var/lib/one/headway.db"),
        ("jobs/own.db", "/var/lib/headway", "/var/lib/headway/jobs/own.db"),
        ("/srv/own.db", "/var/lib/headway", "/srv/own.db"),
        (None, "/var/lib/headway", None),
    ],
)
def test_where_the_journal_is(path: str | None, folder: str | None, file: str | None) -> None:
    environment = {} if folder is None else {"STATE_DIRECTORY": folder}
    found = settings(journal={"path": path}).journal.file(environment)
    assert found == (None if file is None else Path(file))


def test_jobs_are_on_disk_unless_a_setting_says_otherwise() -> None:
    assert (load(None, {}).journal.path, Config().journal.durability) == ("headway.db", "disk")
    assert load(None, {"HEADWAY_JOURNAL__PATH": "null"}).journal.durability == "memory"
