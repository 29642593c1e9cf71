"""The table of routes as an OpenAPI 3.1 document.

A code of an operation has one description, made of all its kinds of answers with that code, and of
all reasons to refuse with it. A header field that only some of them have is not required.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from headway.core.errors import HeadwayError
from headway.core.job import State
from headway.protocol.access.scopes import READ, SCOPES, VIEW
from headway.protocol.access.sites import SAFE
from headway.protocol.api.answers import ANY_REQUEST
from headway.protocol.api.fields import ASKED, SENT, Schema
from headway.protocol.api.operation import Operation, Route, Says
from headway.protocol.api.page import version
from headway.protocol.api.schemas import (
    CHANGES,
    SCHEMAS,
    TYPE,
    allows_null,
    changing,
    members_of,
    ref,
    required_of,
    submission,
)
from headway.protocol.api.service import Service
from headway.protocol.http.problems import REFUSALS
from headway.protocol.http.responses import JSON, PROBLEM

VERSION = "3.1.0"
# Headway in a line.
WORDS = "POST a job, get 202 and a URL, read its state off a HEAD."
EVERYWHERE = ("Date", "Cache-Control")
# Further header fields of refusals, by reason. Those in the second tuple come if they apply.
RETRY = ("Retry-After", "Retry-After-Ms")
REFUSED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    **dict.fromkeys(
        (
            *("draining", "journal-full", "engine-away", "engine-full", "recovering", "task-closed"),
            *("connections", "connections-of-address", "half-sent", "streams"),
        ),
        (RETRY, ()),
    ),
    **dict.fromkeys(("queue-full", "rate"), ((*RETRY, "RateLimit", "RateLimit-Policy"), ())),
    "media-type": ((), ("Accept", "Accept-Encoding")),
    "not-implemented": ((), ("Allow",)),
    "token": (("WWW-Authenticate",), ()),
    # Without tokens on the server no token would do.
    "scope": ((), ("WWW-Authenticate",)),
}
# The name of the way in which clients say who they are, and its description.
SCHEME = "token"
BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token of headway token add. The names in `security` are its scopes, of which one is enough.",
}
# Reasons of which the document names each fault.
WITH_FAULTS = frozenset({"invalid", "unknown-task", "invalid-payload"})
# Operations on the job or batch that another has made.
FOLLOWING = {
    "submitJob": ("readJob", "cancelJob", "readResult", "retryJob"),
    "submitContent": ("readJob", "cancelJob", "readResult", "retryJob"),
    "submitBatch": ("readBatch", "cancelBatch"),
}


def reasons() -> dict[str, tuple[int, str]]:
    """Return the code and the title of each reason to refuse."""
    return REFUSALS | {kind.reason: (kind.status, kind.title) for kind in _kinds(HeadwayError)}


def _kinds(kind: type[HeadwayError]) -> Iterator[type[HeadwayError]]:
    for below in kind.__subclasses__():
        yield below
        yield from _kinds(below)


def refusals(operation: Operation, limited: bool) -> list[str]:
    """Return the reasons for which an operation may refuse a request."""
    changes = operation.method.encode() not in SAFE
    return [
        *(*ANY_REQUEST, *operation.refuses),
        *(["rate"] if limited else []),
        *(["origin", "precondition"] if changes else []),
        *(["token", "scope"] if operation.needs.scopes else []),
    ]


def code_of(said: Says, codes: Sequence[int]) -> int:
    """Return the code of an answer. ``codes`` has that of each state."""
    return codes[said.code] if isinstance(said.code, State) else said.code


def document(routes: Sequence[Route], service: Service, payloads: Mapping[str, Schema]) -> dict[str, Any]:
    """Return the document. ``payloads`` has the schema of the payloads of each task."""
    builder = _Builder(service, payloads)
    return {
        "openapi": VERSION,
        "info": {
            "title": "Headway",
            "version": version(),
            "description": WORDS,
        },
        "servers": [{"url": service.config.http.base or "/"}],
        "paths": {route.path: builder.path(route) for route in routes},
        "components": builder.components,
    }


def security(operation: Operation, *, ids_tell: bool) -> list[dict[str, list[str]]]:
    """Return the ways in which a request may be allowed: with one of some scopes, and maybe without a token."""
    scopes = operation.needs.scopes
    # Who may read may view.
    named = [scope for scope in SCOPES if scope in scopes or (scope == READ and VIEW in scopes)]
    alone: list[dict[str, list[str]]] = [{}] if not named or (operation.needs.by_id and ids_tell) else []
    return [*alone, *({SCHEME: [scope]} for scope in named)]


class _Builder:
    """Makes the document. What many operations have in common stands once, in ``components``."""

    def __init__(self, service: Service, payloads: Mapping[str, Schema]) -> None:
        self._codes = service.heads.codes
        self._asks = service.guard.asks
        self._ids_tell = service.config.auth.reads == "id"
        self._reasons = reasons()
        schemas = dict(SCHEMAS)
        names: dict[str, str] = {}
        for number, (task, schema) in enumerate(payloads.items()):
            name = f"task.{task}" if re.fullmatch(r"[A-Za-z0-9._-]+", task) else f"task-{number}"
            names[task] = name
            schemas[name] = _moved(schema, f"#/components/schemas/{name}")
        schemas |= {name: changing(kind) for name, kind in CHANGES.items()}
        schemas["Submission"] = submission(
            names, [task for task, schema in payloads.items() if not allows_null(schema)]
        )
        self.components: dict[str, dict[str, Any]] = {
            "schemas": schemas,
            "headers": {
                f"{name}{'' if required else '.maybe'}": _header(name, required)
                for name in SENT
                for required in (True, False)
            },
            "parameters": {name: _parameter(name) for name in ASKED},
            "responses": {},
        }
        if self._asks:
            self.components["securitySchemes"] = {SCHEME: BEARER}

    def path(self, route: Route) -> dict[str, Any]:
        """Return the description of a path."""
        path: dict[str, Any] = {}
        for operation in route.operations:
            path[operation.method.lower()] = self._operation(route, operation, bodiless=False)
            if operation.method == "GET":
                path["head"] = self._operation(route, operation, bodiless=True)
        path["options"] = {
            "operationId": f"options{route.path.title().translate(dict.fromkeys(map(ord, '/{}.')))}",
            "summary": "name the methods of this path",
            "parameters": _places(route.path, {"type": "string"}),
            "responses": {"204": self._response(["The methods."], (*EVERYWHERE, "Allow"), (), {})},
        }
        return path

    def _operation(self, route: Route, operation: Operation, bodiless: bool) -> dict[str, Any]:
        name = operation.name
        described: dict[str, Any] = {
            "operationId": f"{name}Head" if bodiless else name,
            "summary": operation.summary,
            "parameters": [
                *_places(route.path, operation.place),
                *_query(operation),
                *({"$ref": f"#/components/parameters/{name}"} for name in operation.asks),
            ],
            "responses": self._responses(operation, route.limited, bodiless),
        }
        if self._asks:
            described["security"] = security(operation, ids_tell=self._ids_tell)
        if operation.sends:
            content = {media_type: {"schema": ref(operation.sends)} for media_type in operation.sends_as}
            described["requestBody"] = {"required": operation.sends != "Anything", "content": content}
        if name in FOLLOWING:
            described["responses"]["202"]["links"] = {
                following: {"operationId": following, "parameters": {"id": "$response.body#/id"}}
                for following in FOLLOWING[name]
            }
        return described

    def _responses(self, operation: Operation, limited: bool, bodiless: bool) -> dict[str, Any]:
        said: dict[int, list[Says]] = {}
        for says in operation.says:
            said.setdefault(code_of(says, self._codes), []).append(says)
        names = sorted(refusals(operation, limited), key=lambda name: self._reasons[name][0])
        refused = {code: list(some) for code, some in groupby(names, key=lambda name: self._reasons[name][0])}
        responses = {}
        for code in sorted(said.keys() | refused.keys()):
            response = self._answers(code, said.get(code, []), refused.get(code, []), bodiless)
            # Refusals are the same for many operations.
            responses[str(code)] = response if code in said else self._shared(code, response)
        return responses

    def _answers(self, code: int, said: list[Says], refused: list[str], bodiless: bool) -> dict[str, Any]:
        """Return the description of all answers with one code."""
        content: dict[str, list[Schema]] = {}
        for says in said:
            for media_type, name in says.content:
                _add(content, *_as_sent(code, media_type, name))
        for schema in _refusals(refused):
            _add(content, PROBLEM.decode(), schema)
        kinds = [(set(says.fields), set(says.maybe)) for says in said]
        kinds += [(set(always), set(maybe)) for always, maybe in (REFUSED.get(name, ((), ())) for name in refused)]
        always = set.intersection(*(always for always, _ in kinds))
        some = set().union(*(always | maybe for always, maybe in kinds)) - always
        some |= {"Connection", "Vary"}
        minimal = ["Prefer: return=minimal leaves out the content."] if any(says.minimal for says in said) else []
        texts = [*(says.text for says in said), *minimal, *(f"{name}: {self._reasons[name][1]}." for name in refused)]
        return self._response(texts, (*EVERYWHERE, *sorted(always)), sorted(some), {} if bodiless else content)

    def _response(
        self, texts: Iterable[str], always: Iterable[str], maybe: Iterable[str], content: Mapping[str, list[Schema]]
    ) -> dict[str, Any]:
        headers = {name: {"$ref": f"#/components/headers/{name}"} for name in always}
        headers |= {name: {"$ref": f"#/components/headers/{name}.maybe"} for name in maybe}
        described: dict[str, Any] = {"description": " ".join(dict.fromkeys(texts)), "headers": headers}
        if content:
            described["content"] = {
                media_type: {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}
                for media_type, schemas in content.items()
            }
        return described

    def _shared(self, code: int, response: dict[str, Any]) -> Schema:
        """Return a reference to a response, which stands once in the document."""
        shared = self.components["responses"]
        for name, other in shared.items():
            if other == response:
                return {"$ref": f"#/components/responses/{name}"}
        name = f"Refused{code}.{sum(name.startswith(f'Refused{code}.') for name in shared) + 1}"
        shared[name] = response
        return {"$ref": f"#/components/responses/{name}"}


def _as_sent(code: int, media_type: str, name: str) -> tuple[str, Schema]:
    """Return a media type and schema. A failed job is no problem if the settings give it 200."""
    if code < 400 and name.startswith("Ended"):
        return JSON.decode(), ref(name.removeprefix("Ended"))
    return media_type, ref(name)


def _refusals(names: list[str]) -> Iterator[Schema]:
    """Yield the schemas of problem documents for these reasons."""
    for schema, some in (
        ("Problem", [name for name in names if name not in WITH_FAULTS]),
        ("Faults", [name for name in names if name in WITH_FAULTS]),
    ):
        if some:
            yield {"allOf": [ref(schema)], "properties": {"type": {"enum": [TYPE + name for name in some]}}}


def _add(content: dict[str, list[Schema]], media_type: str, schema: Schema) -> None:
    schemas = content.setdefault(media_type, [])
    if schema not in schemas:
        schemas.append(schema)


def _header(name: str, required: bool) -> dict[str, Any]:
    description, schema = SENT[name]
    return {"description": description, "required": required, "schema": schema}


def _parameter(name: str) -> dict[str, Any]:
    description, schema = ASKED[name]
    return {"name": name, "in": "header", "description": description, "schema": schema}


def _places(path: str, schema: Schema) -> list[dict[str, Any]]:
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in re.findall(r"\{(\w+)\}", path)]


def _query(operation: Operation) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    required = required_of(operation.query)
    return [
        {"name": name, "in": "query", "required": name in required, "schema": schema}
        for name, schema in members_of(operation.query).items()
    ]


def _moved(schema: Any, place: str) -> Any:
    """Return a schema with its references to itself as they are when it stands at ``place``."""
    if isinstance(schema, list):
        return [_moved(item, place) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: _moved_reference(name, item, place) or _moved(item, place) for name, item in schema.items()}


def _moved_reference(name: str, target: Any, place: str) -> Any:
    """Return what a reference to the schema itself becomes at ``place``. None for all that is none."""
    if name == "$ref" and isinstance(target, str) and target.startswith("#"):
        return place + target[1:]
    if name == "discriminator" and isinstance(target, dict) and isinstance(target.get("mapping"), dict):
        moved = {key: _moved_reference("$ref", value, place) or value for key, value in target["mapping"].items()}
        return target | {"mapping": moved}
    return None
