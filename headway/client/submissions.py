"""Tasks, payloads and options to the content of a request."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import date, time
from decimal import Decimal
from itertools import count, islice, repeat
from typing import Any, Literal, TypeAlias, TypedDict
from urllib.parse import quote, urlencode
from uuid import UUID, uuid4

Durability: TypeAlias = Literal["disk", "process", "memory"]

BATCH_MOST = 1000
# The names of orders about many jobs stand where a key would.
ORDERS = {"retry", "cancel", "delete"}
JSON = "application/json"
BYTES = "application/octet-stream"
# An id or a key in the path of a job or batch.
_ID = re.compile(r"[A-Za-z0-9._~-]{1,200}")
KEY_MOST = 200
# The longest key of ``submit_many``, which adds the number of each batch to it.
KEY_OF_MANY_MOST = 190
# The ids of jobs and of batches. No key may have their form.
_FORM_OF_ID = re.compile(r"[0-9A-Fa-f]{36}|[0-9A-Fa-f]{40}")
# A media type of RFC 9110, 8.3.1, of the characters that the server takes.
_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+([ \t]*;([\t -~]*[!-~])?)?")


class Options(TypedDict, total=False):
    """The options of a job. Times are in seconds."""

    priority: int | None
    delay: float | None
    timeout: float | None
    deadline: float | None
    retries: int | None
    durability: Durability | None
    tags: Sequence[str]
    keep: float | None


@dataclass(frozen=True, slots=True)
class Submission:
    """A job of a batch. None leaves an option to the task and the server. Times are in seconds."""

    # The name of a task, or the function that ``headway.task`` has declared.
    task: object
    payload: object = None
    priority: int | None = None
    delay: float | None = None
    timeout: float | None = None
    deadline: float | None = None
    retries: int | None = None
    # The least that the server has to promise when it accepts the job, else the call raises Refused.
    durability: Durability | None = None
    # At most 8 labels, such as "customer:42", by which the job is found.
    tags: Sequence[str] = ()
    # Seconds for which the server keeps the job when it has finished.
    keep: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.tags, str):
            raise TypeError(f"tags={self.tags!r} is not allowed: expected a list of texts")
        for name in ("delay", "timeout", "deadline", "keep"):
            seconds = getattr(self, name)
            if seconds is not None and not isinstance(seconds, int | float):
                raise TypeError(f"{name}={seconds!r} is not allowed: expected seconds, as a number")

    def options(self) -> dict[str, object]:
        """Return the options that are set."""
        found = {name: getattr(self, name) for name in Options.__annotations__}
        found["tags"] = list(self.tags) or None
        return {name: value for name, value in found.items() if value is not None}

    def members(self) -> dict[str, object]:
        """Return the members of a submission."""
        if isinstance(self.payload, bytes | bytearray | memoryview):
            raise TypeError("bytes are a payload of submit() alone: a batch is JSON")
        return {"task": name_of(self.task), "payload": self.payload, **self.options()}


def name_of(task: object) -> str:
    """Return the name of a task.

    ``headway.task`` returns its function unchanged, so the name that a task was given stands in the
    registry alone. It is there if the function was declared in this process.
    """
    if isinstance(task, str):
        return task
    registry: Any = sys.modules.get("headway.core.tasks.registry")
    if registry is not None:
        for declared in registry.REGISTRY.tasks:
            if declared.function == task:
                return str(declared.name)
    for attribute in ("name", "__name__"):
        name = getattr(task, attribute, None)
        if isinstance(name, str):
            return name
    raise TypeError(f"{task!r} is no task: pass its name, or the function that headway.task has declared")


def encoded(value: object) -> bytes:
    """Return JSON. Raises TypeError or ValueError, also for NaN, which JSON does not have."""
    try:
        text = json.dumps(value, default=_plain, allow_nan=False, separators=(",", ":"))
        if "\\ud" in text:
            # Perhaps half of a pair, which UTF-8 does not have.
            json.dumps(value, default=_plain, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise _no_text("the submission", error) from None
    except RecursionError:
        raise ValueError("the payload is nested too deeply for JSON") from None
    return text.encode()


def _no_text(place: str, error: UnicodeEncodeError) -> ValueError:
    """Return the error for text that UTF-8 does not have: half of a surrogate pair."""
    return ValueError(f"{place} has {error.object[error.start]!a}, which is no character: send text, or bytes")


def _plain(value: Any) -> object:
    """Return what ``json`` can encode: members of typed payloads, and texts."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "__struct_fields__"):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, UUID | Decimal):
        return str(value)
    raise TypeError(f"a payload of {type(value).__name__} is not JSON")


def content(submission: Submission, media_type: str | None) -> tuple[str, str, bytes]:
    """Return path, media type and content of the request that submits a job.

    Bytes, and everything with a media type, go to the route of the task as they are.
    """
    payload = submission.payload
    if media_type is not None and not _MEDIA_TYPE.fullmatch(media_type):
        raise ValueError(
            f"media_type={media_type!r} is not allowed: expected one such as text/csv, of ASCII characters"
        )
    if isinstance(payload, bytes | bytearray | memoryview):
        data = bytes(payload)
    elif media_type is None:
        return "/jobs", JSON, encoded(submission.members())
    elif isinstance(payload, str):
        try:
            data = payload.encode()
        except UnicodeEncodeError as error:
            raise _no_text("the payload", error) from None
    else:
        raise TypeError(f"media_type={media_type!r} needs bytes or str as the payload, not {type(payload).__name__}")
    query = urlencode(submission.options(), doseq=True)
    try:
        path = f"/tasks/{quote(name_of(submission.task), safe='')}/jobs"
    except UnicodeEncodeError as error:
        raise _no_text("the name of the task", error) from None
    return f"{path}?{query}" if query else path, media_type or BYTES, data


def parts(payloads: Iterable[object], size: int) -> Iterator[list[object]]:
    """Yield the payloads in lists of up to ``size``."""
    left = iter(payloads)
    while part := list(islice(left, size)):
        yield part


def batch_content(submissions: Sequence[Submission]) -> bytes:
    """Return the content of the request that submits a batch."""
    if not 1 <= len(submissions) <= BATCH_MOST:
        raise ValueError(f"a batch has 1 to {BATCH_MOST} jobs, not {len(submissions)}")
    return encoded([submission.members() for submission in submissions])


def new_key() -> str:
    """Return an idempotency key that nobody has used."""
    return str(uuid4())


def checked_key(key: str, most: int = KEY_MOST) -> str:
    """Return an idempotency key. Raises ValueError if the server would not take it."""
    fault = f"idempotency_key={key!r} is not allowed: expected"
    if len(key) > most or not _ID.fullmatch(key):
        raise ValueError(f"{fault} 1 to {most} of the characters A-Z a-z 0-9 . _ ~ -")
    if _FORM_OF_ID.fullmatch(key):
        raise ValueError(f"{fault} another form than that of an id, for instance with a dash in it")
    if key in {".", ".."}:
        raise ValueError(f"{fault} a name that can stand in a path")
    if key in ORDERS:
        raise ValueError(f"{fault} another name than that of a route")
    return key


def keys_of_many(key: str | None) -> Iterator[str | None]:
    """Return the idempotency key of each batch of ``submit_many``. Raises ValueError as checked_key does."""
    if key is None:
        return repeat(None)
    return map(f"{checked_key(key, KEY_OF_MANY_MOST)}.{{}}".format, count())


def id_in(id_or_url: str, kind: str, origin: str) -> str:
    """Return the id in an id, a path or a URL of the server at ``origin``. ``kind``: jobs or batches."""
    text = id_or_url
    if "://" in text:
        if not text.startswith(f"{origin}/"):
            raise ValueError(f"{text!r} is not on this client's server, {origin}")
        text = text.removeprefix(origin)
    if "/" in text:
        _, slash, text = text.rpartition(f"/{kind}/")
        if not slash:
            raise ValueError(f"{id_or_url!r} is no URL of {kind}: expected …/{kind}/{{id}}")
    if not _ID.fullmatch(text):
        raise ValueError(f"{id_or_url!r} is neither an id nor a URL of {kind}")
    return text
