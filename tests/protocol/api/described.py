"""Answers against the description of the API: code, header fields and content, to the letter."""

from __future__ import annotations

import json
from typing import Any

from openapi_schema_validator import OAS31Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.protocol.wire import Answer

# Said of content or of its absence, by HTTP itself.
OF_CONTENT = {"content-type", "content-length"}
URI = "urn:test:openapi"


class Description:
    """An OpenAPI document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        resource = DRAFT202012.create_resource(document)
        self._registry: Registry[Any] = Registry().with_resource(URI, resource)

    def faults(self, method: str, path: str, answer: Answer) -> list[str]:
        """Return the reasons why ``answer`` is none that an operation describes."""
        responses = self.document["paths"][path][method.lower()]["responses"]
        where = f"{method} {path} {answer.status}"
        described = self._followed(responses.get(str(answer.status)))
        if described is None:
            return [f"{where}: not among {', '.join(responses)}"]
        found = [*self._fields(described, answer), *self._content(described, answer)]
        minimal = answer.headers.get("preference-applied") == "return=minimal"
        if "content" in described and not (answer.body or method == "HEAD" or minimal):
            found.append("has no content")
        return [f"{where}: {fault}" for fault in found]

    def _fields(self, described: dict[str, Any], answer: Answer) -> list[str]:
        headers = {name.lower(): self._followed(header) for name, header in described["headers"].items()}
        sent = answer.headers.keys() - OF_CONTENT
        missing = [name for name, header in headers.items() if header["required"] and name not in answer.headers]
        wrong = [
            f"{name}: {fault.message}"
            for name in sent & headers.keys()
            for fault in self.validated(headers[name]["schema"], as_schema_has(headers[name], answer[name]))
        ]
        return [
            *wrong,
            *(f"has {name}" for name in sorted(sent - headers.keys())),
            *(f"has no {name}" for name in missing),
        ]

    def _content(self, described: dict[str, Any], answer: Answer) -> list[str]:
        if not answer.body:
            return []
        media_type = answer["content-type"]
        content = described.get("content", {})
        found = content.get(media_type) or content.get("*/*")
        if found is None:
            return [f"{media_type} is not among {', '.join(content)}"]
        said = json.loads(answer.body) if media_type.endswith("json") else answer.body.decode()
        return [f"{list(fault.path)}: {fault.message}" for fault in self.validated(found["schema"], said)]

    def _followed(self, described: Any) -> Any:
        """Return a part of the document, or the one that it refers to."""
        if not (described and "$ref" in described):
            return described
        found = self.document
        for name in described["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return found

    def validated(self, schema: dict[str, Any], value: object) -> list[Any]:
        """Return the reasons why ``value`` does not fit a schema."""
        absolute = json.loads(json.dumps(schema).replace('"#/', f'"{URI}#/'))
        validator = OAS31Validator(absolute, registry=self._registry, format_checker=OAS31Validator.FORMAT_CHECKER)
        return list(validator.iter_errors(value))


def as_schema_has(header: dict[str, Any], value: str) -> object:
    """Return the value of a header field as the type of its schema."""
    return int(value) if header["schema"].get("type") == "integer" else value
