"""The layout of a store is that of its first start."""

from __future__ import annotations

import pytest

from tests.core.valkey.stores import reached


async def test_another_number_of_partitions_than_at_the_first_start_is_told(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with reached(f"{store_url}?partitions=3") as one:
        assert one.store.partitions == 3
    assert "partitions" not in caplog.text
    async with reached(f"{store_url}?partitions=2") as other:
        assert other.store.partitions == 3
    assert "the store has 3 partitions, as at its first start" in caplog.text
