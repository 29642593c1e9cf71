"""Tables of cases in one test. A test by itself costs milliseconds to run, and more to collect in each worker."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from typing import Any

import pytest

PARAM = type(pytest.param())
# Characters of the name of a case that are told.
MOST = 100
# Cases whose tracebacks are shown.
SHOWN = 5
Test = Callable[..., None]
Ids = Sequence[str] | Callable[[Any], object]


def each(names: str, table: Iterable[Any], ids: Ids = repr) -> Callable[[Test], Test]:
    """Do as pytest.mark.parametrize, in one test: it goes on behind a case that fails, and tells each by its id.

    Its cases share what its fixtures give. So it is for those that leave that as it was. A case may be a
    pytest.param with an id.
    """
    values = list(table)
    arguments = [name.strip() for name in names.split(",")]
    assert values, f"there is no case of {names}"

    def given_of(value: Any) -> dict[str, Any]:
        if isinstance(value, PARAM):
            assert value.id
            assert not value.marks
            return dict(zip(arguments, value.values, strict=True))
        return dict(zip(arguments, value if len(arguments) > 1 else [value], strict=True))

    def name_of(at: int) -> str:
        value = values[at]
        name = value.id if isinstance(value, PARAM) else ids(value) if callable(ids) else ids[at]
        return f"{at}: {str(name)[:MOST]}"

    def of(test: Test) -> Test:
        @wraps(test)
        def through_all(**fixtures: Any) -> None:
            if wrong := list(faults(fixtures)):
                told = ", ".join(error.__notes__[-1] for error in wrong)
                raise BaseExceptionGroup(f"{len(wrong)} of {len(values)} cases are wrong: {told}", wrong[:SHOWN])

        def faults(fixtures: dict[str, Any]) -> Iterator[BaseException]:
            for at, value in enumerate(values):
                try:
                    test(**fixtures, **given_of(value))
                except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001
                    error.add_note(name_of(at))
                    yield error

        signature = inspect.signature(test)
        rest = [parameter for name, parameter in signature.parameters.items() if name not in arguments]
        through_all.__dict__["__signature__"] = signature.replace(parameters=rest)
        return through_all

    return of
