"""Framing: any answers, in any pieces, come out as they went in."""

from itertools import pairwise

import pytest
from headway.sim.answers import HEAD_MOST, Answer, AnswerReader, BadAnswerError
from hypothesis import given
from hypothesis import strategies as st

HEAD_202 = b"HTTP/1.1 202 Accepted\r\nJob-State: running\r\nRetry-After: 2\r\nRetry-After-Ms: 1250\r\n\r\n"
# Of a length that GET would send: no body follows all the same.
HEAD_404 = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\nContent-Length: 123\r\n\r\n"
HEAD_CHUNKED = b"HTTP/1.1 200 OK\r\nJob-State: succeeded\r\nTransfer-Encoding: chunked\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
WITH_LENGTH = b"HTTP/1.1 202 Accepted\r\nLocation: /jobs/Ab\r\nContent-Length: 6\r\n\r\n\r\n\r\nab"
IN_CHUNKS = b"HTTP/1.1 422 Unprocessable Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"

to_head = st.sampled_from([(HEAD_202, 202), (HEAD_404, 404), (HEAD_CHUNKED, 200), (HINTS + HEAD_202, 202)])
to_post = st.sampled_from(
    [(WITH_LENGTH, 202, b"\r\n\r\nab"), (IN_CHUNKS, 422, b"abcde"), (EMPTY, 204, b""), (HINTS + EMPTY, 204, b"")]
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


@given(st.lists(to_head, max_size=5), to_post, st.lists(st.integers(0, 10_000), max_size=8))
def test_answers_come_out_as_they_went_in(
    heads: list[tuple[bytes, int]], last: tuple[bytes, int, bytes], cuts: list[int]
) -> None:
    reader, read = AnswerReader(), list[Answer]()
    for piece in pieces(b"".join(data for data, _ in heads) + last[0], cuts):
        reader.feed(piece)
        while (answer := reader.next(bodiless=len(read) < len(heads))) is not None:
            read.append(answer)
    assert [answer.code for answer in read] == [code for _, code in heads] + [last[1]]
    assert [answer.body for answer in read] == [b""] * len(heads) + [last[2]]
    assert reader.left == b""


def only(data: bytes) -> Answer:
    reader = AnswerReader()
    reader.feed(data)
    answer = reader.next(bodiless=True)
    assert answer is not None
    return answer


def test_fields_are_found_whatever_their_case_and_kept_as_they_are() -> None:
    answer = only(b"HTTP/1.1 202 Accepted\r\nLOCATION:  /jobs/AbC \r\nx-location: no\r\n\r\n")
    assert answer.field(b"location") == b"/jobs/AbC"
    assert answer.field(b"retry-after") is None
    assert not answer.about_job


@pytest.mark.parametrize(
    ("data", "to_head"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", True),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False),
        (b"HTTP/1.1 2x2 Accepted\r\n\r\n", True),
        (b"HTTP/1.1 202 Accepted\r\nno colon\r\n\r\n", True),
        (b"HTTP/1.1 202 Accepted\r\nX: " + b"x" * HEAD_MOST, True),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: x\r\n\r\n", False),
        (WITH_LENGTH + HEAD_202, False),
    ],
)
def test_what_is_not_an_answer_is_malformed(data: bytes, to_head: bool) -> None:
    reader = AnswerReader()
    reader.feed(data)
    with pytest.raises(BadAnswerError):
        reader.next(to_head)


@pytest.mark.parametrize(
    ("lines", "milliseconds", "seconds"),
    [
        (b"Retry-After: 2\r\nRetry-After-Ms: 1250\r\n", True, 1.25),
        (b"Retry-After: 2\r\nRetry-After-Ms: 1250\r\n", False, 2),
        (b"Retry-After: 2\r\nRetry-After-Ms: soon\r\n", True, 2),
        (b"Retry-After: soon\r\n", True, None),
        (b"Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", True, 0),
        (b"", True, None),
    ],
)
def test_when_to_come_back(lines: bytes, milliseconds: bool, seconds: float | None) -> None:
    assert only(b"HTTP/1.1 202 Accepted\r\n" + lines + b"\r\n").told_s(milliseconds) == seconds


def test_an_answer_that_is_the_last() -> None:
    assert only(b"HTTP/1.1 503 Service Unavailable\r\nConnection: Close\r\n\r\n").closes
    assert not only(HEAD_202).closes
