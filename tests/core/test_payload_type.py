"""Annotations as types of payloads, and the places of the faults of a payload that does not fit."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, NotRequired, TypeVar
from uuid import UUID

import msgspec
import pydantic
import pytest
from headway.core.errors import InvalidPayloadError
from headway.core.faults import FAULTS_MOST
from headway.core.payload_type import LISTED_MOST, PayloadType, payload_type
from msgspec import Meta
from typing_extensions import TypedDict

from tests.each import each


class Part(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """A Struct that refuses unknown members."""

    size: int
    paper_kind: str = "plain"


class Cat(msgspec.Struct, tag="cat"):
    """One of two."""

    lives: int


class Dog(msgspec.Struct, tag="dog"):
    """The other one."""

    age: int


@dataclass
class Order:
    """A dataclass of Structs."""

    parts: list[Part]
    pet: Cat | Dog | None = None
    prices: dict[str, Decimal] = field(default_factory=dict)
    pair: tuple[int, str] = (1, "")


class Shelf(TypedDict):
    """A TypedDict."""

    name: str
    width: NotRequired[Annotated[int, Meta(gt=0)]]


class Even(msgspec.Struct):
    """A Struct with a rule of its own."""

    number: int

    def __post_init__(self) -> None:
        """Refuse odd numbers, and fail for 13 and 15."""
        if self.number == 13:
            raise LookupError("thirteen\n\x1b[31m")
        if self.number == 15:
            raise SystemExit(15)
        if self.number % 2:
            raise ValueError("is odd")


class Model(pydantic.BaseModel):
    """A model of pydantic."""

    size: int
    rows: list[dict[str, float]] = []


class Holder(TypedDict):
    """A TypedDict with a model."""

    model: Model


class Mixed(msgspec.Struct):
    """A Struct with a model, which neither of the two can read."""

    model: Model


@pydantic.dataclasses.dataclass
class Checked:
    """A dataclass of pydantic."""

    size: Annotated[int, pydantic.Field(ge=3)]


class Image:
    """A class that is no type of JSON."""


def type_of(annotation: Any) -> PayloadType:
    found = payload_type(annotation)
    assert found is not None
    return found


def faults(annotation: Any, payload: bytes) -> dict[str, str]:
    with pytest.raises(InvalidPayloadError) as refused:
        type_of(annotation).check(payload)
    with pytest.raises(InvalidPayloadError):
        type_of(annotation).decode(payload)
    return dict(refused.value.faults)


@each(
    "annotation, payload",
    [
        (int, b'"1"'),
        (int, b"1.5"),
        (int, b"true"),
        (float, b'"1"'),
        (bool, b"1"),
        (bool, b'"true"'),
        (str, b"1"),
        (None, b'"null"'),
        (datetime, b"1790000000"),
        (list[int], b'["1"]'),
        (Part, b'{"size":"1"}'),
        (Cat | Dog, b'{"type":"cat","lives":"9"}'),
        (Order, b'{"parts":[{"size":"1"}]}'),
    ],
)
def test_a_value_of_another_type_of_json_is_not_taken_for_it(annotation: Any, payload: bytes) -> None:
    assert len(faults(annotation, payload)) == 1


@pytest.mark.parametrize("annotation", [Any, object, TypeVar("T"), Any | None, object | None])
def test_what_allows_anything_is_no_type(annotation: Any) -> None:
    assert payload_type(annotation) is None


@each(
    "annotation, payload, value",
    [
        (Part, b'{"size":1,"paperKind":"x"}', Part(1, "x")),
        (list[Part], b'[{"size":1}]', [Part(1)]),
        (Order, b'{"parts":[],"pet":{"type":"dog","age":3},"pair":[2,"b"]}', Order([], Dog(3), {}, (2, "b"))),
        (Shelf, b'{"name":"a"}', {"name": "a"}),
        (int, b"123456789012345678901234567890", 123456789012345678901234567890),
        (float, b"1", 1.0),
        (dict[int, str], b'{"1":"a"}', {1: "a"}),
        (set[int], b"[1,1,2]", {1, 2}),
        (datetime, b'"2026-11-29T00:00:00Z"', datetime.fromisoformat("2026-11-29T00:00:00+00:00")),
        (UUID, b'"00000000-0000-0000-0000-000000000007"', UUID(int=7)),
        (bytes, b'"AP8="', b"\x00\xff"),
        (None, b"null", None),
        (Model, b'{"size":"7"}', Model(size=7)),
        (list[Model] | None, b'[{"size":7}]', [Model(size=7)]),
        (Holder, b'{"model":{"size":7}}', {"model": Model(size=7)}),
        (Checked, b'{"size":3}', Checked(3)),
        (pydantic.PositiveInt, b"1", 1),
    ],
)
def test_a_payload_becomes_the_annotated_type(annotation: Any, payload: bytes, value: object) -> None:
    kind = type_of(annotation)
    kind.check(payload)
    kind.check(msgspec.Raw(payload))
    decoded = kind.decode(msgspec.Raw(payload))
    assert (decoded, type(decoded)) == (value, type(value))


ANY = {"dict": dict, "members": dict[str, object], "mapping": Mapping[str, Any], "none": dict[str, Any] | None}


@pytest.mark.parametrize("name", ANY)
def test_an_annotation_that_asks_for_an_object_looks_at_the_first_byte(name: str) -> None:
    kind = type_of(ANY[name])
    kind.check(b' \n{"a":[1,2]}')
    # No JSON, so nobody reads further.
    kind.check(b"{")
    assert kind.schema.get("type", "object") == "object"
    for wrong, named in ((b"[1]", "array"), (b"1", "number"), (b'"a"', "str"), (b"true", "bool")):
        (text,) = faults(ANY[name], wrong).values()
        assert text.startswith("Expected `object")
        assert text.endswith(f"got `{named}`")


def test_items_of_any_type_in_an_array_are_not_looked_at() -> None:
    assert type_of(list).firsts == type_of(list[object]).firsts == b"["
    assert faults(list, b"null") == {"payload": "Expected `array`, got `null`"}
    # These say more.
    for annotation in (list[int], Annotated[list, Meta(max_length=1)], dict[int, object], dict[str, int]):
        assert type_of(annotation).firsts == b""


@pytest.mark.parametrize(
    ("annotation", "payload", "expected"),
    [
        (Part, b'{"size":1,"colour":2}', {"payload.colour": "unknown; allowed here: size, paperKind"}),
        (Part, b"{}", {"payload.size": "is required"}),
        (
            list[Part],
            b'[{"size":1},{"size":2},{"size":3},{"size":"x"},7]',
            {"payload[3].size": "Expected `int`, got `str`", "payload[4]": "Expected `object`, got `int`"},
        ),
        (
            Order,
            b'{"parts":[{"size":1,"paperKind":2}],"pet":{"type":"dog"},"prices":{"a":1,"b":"x"},"pair":["x",2]}',
            {
                "payload.parts[0].paperKind": "Expected `str`, got `int`",
                "payload.pet": "Object missing required field `age`",
                "payload.prices.b": "Invalid decimal string",
                "payload.pair[0]": "Expected `int`, got `str`",
                "payload.pair[1]": "Expected `str`, got `int`",
            },
        ),
        (
            Shelf | None,
            b'{"width":0}',
            {"payload.width": "Expected `int` >= 1", "payload.name": "is required"},
        ),
        (dict[str, list[int]], b'{"a":[1,"x"],"b":[]}', {"payload.a[1]": "Expected `int`, got `str`"}),
        (list[Even], b'[{"number":2},{"number":3}]', {"payload[1]": "is odd"}),
        (list[Even], b'[{"number":3},{"number":15}]', {"payload[0]": "is odd", "payload[1]": "SystemExit: 15"}),
        (Even, b'{"number":13}', {"payload": r"LookupError: thirteen\n\x1b[31m"}),
        (
            Model,
            b'{"rows":[{},{"a":"x"}]}',
            {
                "payload.size": "Field required",
                "payload.rows[1].a": "Input should be a valid number, unable to parse string as a number",
            },
        ),
        (Checked, b'{"size":2}', {"payload.size": "Input should be greater than or equal to 3"}),
    ],
)
def test_each_fault_has_its_place(annotation: Any, payload: bytes, expected: dict[str, str]) -> None:
    found = faults(annotation, payload)
    assert found.keys() == expected.keys()
    assert {place: text for place, text in found.items() if expected[place] not in text} == {}


def test_of_many_faults_some_are_named() -> None:
    assert len(faults(list[int], b"[%b]" % b",".join([b'"x"'] * 1000))) == FAULTS_MOST
    assert len(faults(list[pydantic.PositiveInt], b"[%b]" % b",".join([b'"x"'] * 1000))) == FAULTS_MOST
    many = LISTED_MOST + 1
    assert faults(list[pydantic.PositiveInt], b"[%b]" % b",".join([b'"x"'] * many)) == {"payload": f"{many} faults"}


def test_of_a_long_payload_the_first_fault_is_named() -> None:
    payload = b"[%b]" % b",".join([b'{"size":1}'] * 5000 + [b'{"size":"x"}'] * 2)
    assert faults(list[Part], payload) == {"payload[5000].size": "Expected `int`, got `str`"}


class Nest(msgspec.Struct):
    """A type that contains itself."""

    inner: list["Nest"]


def test_a_payload_that_is_deeper_than_python_is_refused() -> None:
    payload = b'{"inner":[' * 3000 + b"]}" * 3000
    assert list(faults(Nest, payload)) == ["payload"]


def test_long_names_and_texts_are_cut() -> None:
    ((place, text),) = faults(dict[str, int], b'{"%b":"x"}' % (b"n" * 5000)).items()
    assert len(place) < 100
    assert text == "Expected `int`, got `str`"


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (Image, "JSON cannot be decoded as .*Image"),
        (list[Image], "JSON cannot be decoded as .*Image"),
        (Iterable[int], "JSON cannot be decoded as .*Iterable"),
        (Mixed, "Model of pydantic is in a type of msgspec: use one of the two for both"),
        (Part | Order, "Type unions may not contain more than one dict-like type"),
        (list[Model | Image], "schema"),
        (7, "Type '7' is not supported"),
        (Annotated[Decimal, Meta(ge=0)], "Can only set `ge` on a numeric type"),
    ],
)
def test_what_json_cannot_be_checked_against_is_refused_in_one_line(annotation: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message) as refused:
        payload_type(annotation)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("annotation", [Part, Order, Shelf, list[Part] | None, dict[str, object], Model, Checked])
def test_the_schema_is_json(annotation: Any) -> None:
    schema = type_of(annotation).schema
    assert msgspec.json.decode(msgspec.json.encode(schema)) == schema
    assert schema


def test_a_struct_that_forbids_unknown_members_says_so_in_its_schema() -> None:
    assert type_of(Part).schema["$defs"]["Part"] == {
        "title": "Part",
        "description": "A Struct that refuses unknown members.",
        "type": "object",
        "properties": {"size": {"type": "integer"}, "paperKind": {"type": "string", "default": "plain"}},
        "required": ["size"],
        "additionalProperties": False,
    }


def test_pydantic_is_not_imported_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pydantic")
    type_of(Part).check(b'{"size":1}')
    assert "pydantic" not in sys.modules
