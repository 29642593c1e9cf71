"""The forms of what stands in a head: hosts, targets, and lists of preferences.

llhttp takes more than the RFCs allow, and leaves targets and values as they came.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address

from headway.protocol.http.problems import Refusal

# RFC 3986, 3.2.2 and 3.2.3: a name, an address of IPv6 or of a later IP, and a port. RFC 9112, 3.2
# allows an empty Host.
_HOST = re.compile(
    rb"""(?: (?: [\w.~!$&'()*+,;=-] | %[0-9A-Fa-f]{2} )*
           | \[ (?: (?P<ipv6> [0-9A-Fa-f:.]+ ) | v[0-9A-Fa-f]+\.[\w.~!$&'()*+,;=:-]+ ) \] ) (?: :\d* )?""",
    re.ASCII | re.VERBOSE,
)
ABSOLUTE = re.compile(rb"https?://([^/?]*)", re.IGNORECASE)
# A percent-encoded octet, a wrong one, and an octet that need not be encoded (RFC 3986, 2.1 and
# 2.3).
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_NO_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(rb"[A-Za-z0-9._~-]")
# A part of a list, where a quoted text may have what stands between parts (RFC 9110, 5.6).
_PART = rb'(?:[^%b"]|"(?:[^"\\]|\\.?)*(?:"|\Z))'
_between_commas = re.compile(_PART % b"," + b"+").findall
_before_semicolon = re.compile(_PART % b";" + b"*").match


def is_host(value: bytes) -> bool:
    """Whether ``value`` is a host, with a port or without, or empty (RFC 3986, 3.2)."""
    matched = _HOST.fullmatch(value)
    if matched is None or matched["ipv6"] is None:
        return matched is not None
    try:
        IPv6Address(matched["ipv6"].decode())
    except ValueError:
        return False
    return True


def normalized(target: bytes) -> bytes:
    """Return ``target`` with the path in usual form, without needless escapes (RFC 3986, 6.2.2).

    Raises Refusal if a percent sign is not followed by two hex digits, or there is a fragment.
    """
    if b"#" in target:
        raise Refusal("bad-request", "a request target has no fragment (RFC 9112, 3.2)", close=True)
    path, mark, query = target.partition(b"?")
    if _NO_ESCAPE.search(path):
        raise Refusal(
            "bad-request",
            "a percent sign in the path is not followed by two hex digits (RFC 3986, 2.1)",
            close=True,
        )
    return _ESCAPE.sub(_unescaped, path) + mark + query


def _unescaped(escape: re.Match[bytes]) -> bytes:
    byte = bytes.fromhex(escape[1].decode())
    return byte if _UNRESERVED.fullmatch(byte) else escape[0].upper()


# Clients repeat a few lines. All preferences of a line would take up to fifty times its bytes.
@lru_cache(maxsize=64)
def preference(line: bytes, name: bytes) -> bytes | None:
    """Return the value of the first preference of this name in a line of Prefer (RFC 7240).

    It is empty if the preference has none, and None if there is none of this name.
    """
    for preference in _between_commas(line):
        first = _before_semicolon(preference)
        key, _, value = (first[0] if first else b"").partition(b"=")
        if key.strip().lower() == name:
            return value.strip().strip(b'"')
    return None
