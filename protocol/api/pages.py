"""The page of the routes for a person, ``/docs``.

Plain HTML without scripts, forms, images or requests to anywhere. ``POLICY`` has browsers hold to
that, whatever the name of a task may be.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from headway.core.status import TaskStatus
from headway.protocol.api.fields import ASKED, SENT, Schema
from headway.protocol.api.openapi import WORDS, code_of, reasons, refusals
from headway.protocol.api.operation import Operation, Route
from headway.protocol.api.schemas import CHANGES, CONTENTS, members_of, required_of
from headway.protocol.api.service import Service

STYLE = """
:root{color-scheme:light dark;--line:#8884;--dim:#8882}
body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:0 auto;padding:1rem;overflow-wrap:break-word}
h1{font-size:1.6rem;margin:.5rem 0}
h2{font-size:1.2rem;margin:2rem 0 .5rem;border-top:1px solid var(--line);padding-top:1rem}
code,pre{font:.875rem/1.5 ui-monospace,monospace}
pre{background:var(--dim);padding:.75rem;overflow-x:auto;border-radius:6px}
div{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;border-bottom:1px solid var(--line)}
summary{cursor:pointer;padding:.25rem 0}ul{padding-left:1.25rem}nav ul{columns:18rem;list-style:none;padding:0}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest())
POLICY = (
    b"Content-Security-Policy: default-src 'none'; style-src 'sha256-%b'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'\r\n"
) % _STYLE_HASH


def docs(routes: Sequence[Route], service: Service, tasks: Sequence[TaskStatus]) -> bytes:
    """Return the page at ``/docs``."""
    base = service.config.http.base
    found = [(route, operation) for route in routes for operation in route.operations]
    named = [
        f'<a href="#{operation.name}">{_code(f"{operation.method} {base}{route.path}")}</a>'
        for route, operation in found
    ]
    return _page(
        "Headway: routes",
        [
            f"<h1>Headway</h1><p>{escape(WORDS)} A program reads {_link(f'{base}/openapi.json')}.</p>",
            f"<nav>{_list(named)}</nav>",
            "<p>HEAD works wherever GET does, and OPTIONS names the methods of a path. "
            "Every answer has Date and Cache-Control. Every refusal is a problem document.</p>",
            *(section for route, operation in found for section in _operation(base, route, operation, service)),
            *_payloads(tasks),
            "<h2>Header fields</h2>",
            _table(("field", "meaning"), ((name, text) for name, (text, _) in sorted({**ASKED, **SENT}.items()))),
            "<h2>Refusals</h2>",
            _table(("code", "reason", "meaning"), _reasons(found)),
        ],
    )


def _operation(base: str, route: Route, operation: Operation, service: Service) -> Iterator[str]:
    yield f'<h2 id="{operation.name}">{_code(f"{operation.method} {base}{route.path}")}</h2>'
    yield f"<p>{escape(operation.summary[:1].upper() + operation.summary[1:])}.</p>"
    if operation.query is not None:
        members = members_of(operation.query)
        required = required_of(operation.query)
        yield _table(("query", "value"), ((name, _allowed(members[name], name in required)) for name in members))
    if operation.sends == "Anything":
        yield "<p>Send content of any media type: it is the payload.</p>"
    elif operation.sends:
        intro = "An array of 1 to 1,000 objects with" if operation.sends == "Submissions" else "An object with"
        yield f"<p>Send JSON. {intro}{' some of' if operation.sends in CHANGES else ''} these members:</p>"
        kind = CONTENTS[operation.sends]
        members, required = members_of(kind), required_of(kind)
        yield _table(("member", "value"), ((name, _allowed(members[name], name in required)) for name in members))
    if operation.asks:
        yield f"<p>Fields that it reads: {', '.join(map(_code, operation.asks))}</p>"
    rows = [
        (str(code_of(says, service.heads.codes)), says.text, ", ".join((*says.fields, *says.maybe)))
        for says in operation.says
    ]
    yield _table(("code", "meaning", "fields"), rows)
    yield f"<p>Refusals: {', '.join(map(_code, refusals(operation, route.limited)))}</p>"


def _payloads(tasks: Sequence[TaskStatus]) -> Iterator[str]:
    if tasks:
        yield "<h2>Payloads of tasks</h2>"
    for task in tasks:
        text = json.dumps(task.schema, indent=2, ensure_ascii=False) if task.schema else "any JSON value"
        yield f"<details><summary>{_code(task.name)} {escape(task.description)}</summary>{_pre(text)}</details>"


def _reasons(found: Iterable[tuple[Route, Operation]]) -> list[tuple[str, str, str]]:
    known = reasons()
    names = {name for route, operation in found for name in refusals(operation, route.limited)}
    return sorted((str(known[name][0]), name, known[name][1]) for name in names)


def _allowed(schema: Schema, required: bool) -> str:
    """Return in words the values of a schema, as short as they can be."""
    text = json.dumps({name: value for name, value in schema.items() if name != "default"})
    words = re.sub(r'[{}"]', "", text) or "any JSON value"
    return f"required; {words}" if required else f"{words}; {json.dumps(schema.get('default'))} if left out"


def _page(title: str, sections: Iterable[str]) -> bytes:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{''.join(sections)}</body></html>\n"
    ).encode()


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _list(items: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def _link(path: str) -> str:
    return f'<a href="{escape(path)}">{_code(path)}</a>'


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _pre(text: str) -> str:
    return f"<pre><code>{escape(text)}</code></pre>"
