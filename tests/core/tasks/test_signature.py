"""How functions of all kinds are called as tasks."""

import decimal
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from headway.core.errors import TaskError
from headway.core.task import Lane, Task
from headway.core.tasks.context import Context
from headway.core.tasks.registry import Options, Registry

if TYPE_CHECKING:
    from pathlib import Path as OnlyForTypes


def declared(function: Any, **options: Any) -> Task:
    registry = Registry()
    registry.add(function, Options(**{"name": "named"} | options))
    return registry.tasks[0]


async def coroutine(payload: object) -> None: ...


def with_context_default(payload: object, context: Context | None = None) -> None: ...
def annotated(payload: object, about: Context | None = None) -> None: ...
def annotated_in_text(payload: object, about: "NotThere | None" = None, *more: object) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def written(payload: object, about: "headway.Context" = None) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def defaults(payload: object = None, context: object = None) -> None: ...
def of_decimals(payload: object, about: decimal.Context | None = None) -> None: ...
def with_default(payload: object, limit: int = 3) -> None: ...
def variadic(payload: object, *more: object, **named: object) -> None: ...
def keyword_default(payload: object, *, limit: int = 3) -> None: ...
def any_name(payload: object, whatever: object) -> None: ...
def bound(tenant: object, payload: object, context: object = None) -> None: ...


class Methods:
    def method(self, payload: object, context: object = None) -> None: ...

    @staticmethod
    def static(payload: object, context: object = None) -> None: ...

    @classmethod
    def of_class(cls, payload: object, context: object = None) -> None: ...

    def __call__(self, payload: object, context: object = None) -> None: ...


@pytest.mark.parametrize(
    ("function", "takes_context"),
    [
        (with_context_default, True),
        (annotated, True),
        (annotated_in_text, True),
        (written, True),
        (defaults, True),
        (of_decimals, True),
        (any_name, True),
        (with_default, True),
        (coroutine, False),
        (variadic, False),
        (keyword_default, False),
        (functools.partial(with_default, limit=3), False),
        (functools.partial(bound, "acme"), True),
        (functools.partial(with_context_default), True),
        (functools.partial(any_name, "acme"), False),
        (Methods().method, True),
        (Methods.static, True),
        (Methods.of_class, True),
        (staticmethod(Methods.static), True),
        (Methods(), True),
    ],
)
def test_a_second_parameter_gets_the_context_whatever_its_default(function: Any, takes_context: bool) -> None:
    registry = Registry()
    registry.add(function, Options(name="named"))
    assert registry.tasks[0].takes_context is takes_context
    assert registry.tasks[0].lane is (Lane.LOOP if function is coroutine else None)


def keyword_context(payload: object, *, context: object = None) -> None: ...
def third(payload: object, limit: int = 3, context: object = None) -> None: ...
def twice(payload: object, about: Context, context: object = None) -> None: ...


@pytest.mark.parametrize("function", [keyword_context, third, twice, functools.partial(defaults, context=1)])
def test_a_context_that_nobody_would_give_is_refused(function: Any) -> None:
    with pytest.raises(TaskError, match=r"takes \(payload\) or \(payload, context\)") as error:
        Registry().add(function, Options(name="named"))
    assert "\n" not in str(error.value)


class AsyncMethods:
    async def method(self, payload: object) -> None: ...

    @staticmethod
    async def static(payload: object) -> None: ...

    @classmethod
    async def of_class(cls, payload: object) -> None: ...

    async def __call__(self, payload: object) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        functools.partial(coroutine),
        functools.partial(functools.partial(coroutine)),
        functools.partial(AsyncMethods()),
        AsyncMethods().method,
        AsyncMethods.static,
        AsyncMethods.of_class,
        staticmethod(AsyncMethods.static),
        functools.partial(AsyncMethods().method),
    ],
)
def test_whatever_leads_to_a_coroutine_function_runs_on_the_loop(function: Any) -> None:
    registry = Registry()
    registry.add(function, Options(name="named"))
    assert registry.tasks[0].lane is Lane.LOOP
    with pytest.raises(TaskError, match="a coroutine runs on the loop"):
        registry.add(function, Options(name="other", run_in="process"))


def test_an_object_with_an_async_call_runs_on_the_loop() -> None:
    registry = Registry()
    registry.add(AsyncMethods(), Options(name="object"))
    assert registry.tasks[0].lane is Lane.LOOP


def generator(payload: object) -> Any:
    yield payload


@pytest.mark.parametrize("function", [classmethod(with_default), functools.partial(generator), type])
def test_what_cannot_be_called_as_a_task_is_refused(function: Any) -> None:
    with pytest.raises(TaskError) as error:
        Registry().add(function, Options(name="named"))
    assert "\n" not in str(error.value)


# Decorators around a function.


def plainly(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*given: object) -> object:
        return function(*given)

    return wrapper


def asynchronously(function: Callable[..., Awaitable[object]]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*given: object) -> object:
        return await function(*given)

    return wrapper


class Photo(msgspec.Struct):
    """A payload."""

    size: int


async def scale(photo: Photo, context: Context) -> None:
    """Scale a photo.

    And more.
    """


def crop(photo: "Photo", about: "object" = 1) -> None:
    """Crop a photo."""


class Studio:
    """A studio of one's own."""

    async def scale(self, photo: Photo) -> None:
        """Scale it here."""

    def __call__(self, photo: Photo, context: object = 0) -> None: ...


@pytest.mark.parametrize(
    ("function", "lane", "takes_context", "description"),
    [
        (scale, Lane.LOOP, True, "Scale a photo."),
        (crop, None, True, "Crop a photo."),
        # A plain decorator: its coroutine is made in a thread, whatever jobs.run_in says.
        (plainly(scale), Lane.THREAD, True, "Scale a photo."),
        (asynchronously(scale), Lane.LOOP, True, "Scale a photo."),
        (plainly(crop), None, True, "Crop a photo."),
        (functools.partial(plainly(scale)), Lane.THREAD, True, "Scale a photo."),
        (functools.lru_cache(crop), None, True, "Crop a photo."),
        (Studio().scale, Lane.LOOP, False, "Scale it here."),
        (plainly(Studio().scale), Lane.THREAD, False, "Scale it here."),
        (Studio(), None, True, "A studio of one's own."),
        (functools.partial(Studio()), None, True, "A studio of one's own."),
    ],
)
def test_a_function_keeps_its_type_through_whatever_is_around_it(
    function: Any, lane: Lane | None, takes_context: bool, description: str
) -> None:
    task = declared(function)
    assert (task.lane, task.takes_context, task.description) == (lane, takes_context, description)
    assert task.payload_type is not None
    assert task.payload_type.decode(b'{"size":1}') == Photo(1)


def untyped(payload, context=None):  # type: ignore[no-untyped-def]
    pass


@pytest.mark.parametrize("function", [untyped, functools.partial(untyped), lambda payload: payload, coroutine])
def test_a_function_without_an_annotation_takes_anything(function: Any) -> None:
    task = declared(function)
    assert (task.payload_type, task.description) == (None, "")


def of_a_name_for_types(payload: "OnlyForTypes") -> None: ...
def of_nothing(payload: "NotThere") -> None: ...  # type: ignore[name-defined]  # noqa: F821
def of_a_class(payload: Studio) -> None: ...
def of_a_parameter(payload: inspect.Parameter | None) -> None: ...


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (of_a_name_for_types, {}, "payload: 'OnlyForTypes' cannot be evaluated: .*Define or import it in the module"),
        (of_nothing, {}, "payload: 'NotThere' cannot be evaluated: .*not defined"),
        (of_a_class, {}, "payload: .*Studio cannot be the type of a payload: JSON cannot be decoded as .*Any takes"),
        (of_a_parameter, {}, "cannot be the type of a payload"),
        (plainly(scale), {"run_in": "process"}, "it wraps a coroutine function. Leave run_in out"),
        (Studio.scale, {}, r"is a method of Studio without an object. Declare .*: headway.task\(Studio\(\).scale\)"),
    ],
)
def test_what_cannot_be_typed_or_called_is_refused_in_one_line(
    function: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TaskError, match=message) as refused:
        declared(function, **options)
    assert "\n" not in str(refused.value)


def test_a_method_is_refused_while_its_class_is_made() -> None:
    registry = Registry()
    with pytest.raises(TaskError, match=r"is a method of .*Shop without an object.*task\(Shop\(\).sell\)"):

        class Shop:
            def sell(self, payload: object) -> None: ...

            registry.add(sell, Options())

    # By itself a function may call its payload as it likes.
    def work(self: object) -> None: ...

    registry.add(work, Options())
