"""The key of a submission."""

from __future__ import annotations

from headway.core.key import DIGEST_BYTES, Key


def test_a_key_is_its_text_and_a_digest_of_what_it_came_with() -> None:
    key = Key.of("text", b"content")
    assert (key.text, len(key.digest)) == ("text", DIGEST_BYTES)
    assert key == Key.of("text", b"content")
    # A job and a batch with the same body are not the same, nor are two bodies.
    assert len({Key.of("text", body, what).digest for body in (b"content", b"") for what in (b"", b"batch")}) == 4
    assert Key.of("other", b"content").digest == key.digest
