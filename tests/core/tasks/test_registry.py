"""Declaring tasks, and functions that cannot be one."""

import decimal
import functools
from pathlib import Path
from typing import Any

import pytest
from headway.core.errors import ConfigError, TaskError
from headway.core.task import Lane
from headway.core.tasks.context import Context
from headway.core.tasks.registry import Options, Registry, load


async def coroutine(payload: object) -> None: ...


def plain(payload: object, context: object) -> None: ...


def test_a_task_runs_where_its_function_belongs() -> None:
    registry = Registry()
    registry.add(coroutine, Options(timeout=5.0, retries=2))
    registry.add(plain, Options(name="named"))
    one, two = registry.tasks
    assert (one.name, one.lane, one.takes_context, one.timeout_s, one.retries) == (
        "coroutine",
        Lane.LOOP,
        False,
        5.0,
        2,
    )
    assert (two.name, two.lane, two.takes_context, two.index) == ("named", None, True, 1)


def with_default(payload: object, limit: int = 3) -> None: ...


def test_a_second_parameter_with_a_default_is_not_the_context() -> None:
    registry = Registry()
    registry.add(with_default, Options())
    assert not registry.tasks[0].takes_context


class CallableTask:
    async def __call__(self, payload: object) -> None: ...


def test_an_object_with_an_async_call_runs_on_the_loop() -> None:
    registry = Registry()
    registry.add(CallableTask(), Options(name="object"))
    assert registry.tasks[0].lane is Lane.LOOP


def no_parameters() -> None: ...
def three(a: object, b: object, c: object) -> None: ...
def keyword(payload: object, *, needed: object) -> None: ...
def generator(payload: object) -> Any:
    yield payload


async def async_generator(payload: object) -> Any:
    yield payload


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        ("text", {}, "not a function"),
        (int, {}, "not a function"),
        (no_parameters, {}, r"takes \(payload\) or \(payload, context\)"),
        (three, {}, r"takes \(payload\) or \(payload, context\)"),
        (keyword, {}, r"takes \(payload\) or \(payload, context\)"),
        (generator, {}, "generator"),
        (async_generator, {}, "generator"),
        (coroutine, {"name": ""}, "1 to 200 characters"),
        (coroutine, {"name": "x" * 201}, "1 to 200 characters"),
        (coroutine, {"timeout": 0}, "timeout=0 is not allowed"),
        (coroutine, {"timeout": "5"}, "timeout='5' is not allowed"),
        (coroutine, {"retries": -1}, "retries=-1 is not allowed"),
        (coroutine, {"retries": 1.5}, "retries=1.5 is not allowed"),
        (coroutine, {"deadline": -1}, "deadline=-1 is not allowed"),
        (coroutine, {"max_concurrent": 0}, "max_concurrent=0 is not allowed"),
        (coroutine, {"run_in": "process"}, "a coroutine runs on the loop"),
        (plain, {"run_in": "cloud"}, "run_in='cloud' is not allowed: expected one of process, thread"),
        (coroutine, {"retry_on": "OSError"}, "retry_on='OSError' is not allowed"),
    ],
)
def test_what_cannot_be_a_task_is_refused_where_it_is_declared(
    function: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TaskError, match=message):
        Registry().add(function, Options(**options))


def test_a_name_taken_twice_names_both_places() -> None:
    registry = Registry()
    registry.add(coroutine, Options(name="same"))
    with pytest.raises(TaskError, match=r"test_registry.py:\d+\).* taken by .*test_registry.py:\d+"):
        registry.add(plain, Options(name="same"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_module_of_anyone", "ModuleNotFoundError: No module named 'no_such_module_of_anyone'"),
        ("x = (", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero .*broken_tasks.py:1"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import headway\n@headway.task\ndef f(): ...", "takes"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(
    source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_tasks.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=message) as error:
        load(["broken_tasks"])
    assert "\n" not in str(error.value)


def with_context_default(payload: object, context: Context | None = None) -> None: ...
def annotated(payload: object, about: Context | None = None) -> None: ...
def annotated_in_text(payload: object, about: "NotThere | None" = None, *more: object) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def written(payload: object, about: "headway.Context" = None) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def defaults(payload: object = None, context: object = None) -> None: ...
def of_decimals(payload: object, about: decimal.Context | None = None) -> None: ...
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
        (annotated_in_text, False),
        (written, True),
        (defaults, True),
        (of_decimals, False),
        (any_name, True),
        (with_default, False),
        (coroutine, False),
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
def test_the_context_goes_to_who_asks_for_it_whatever_its_default(function: Any, takes_context: bool) -> None:
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


@pytest.mark.parametrize("function", [classmethod(plain), functools.partial(generator), type])
def test_what_cannot_be_called_as_a_task_is_refused(function: Any) -> None:
    with pytest.raises(TaskError) as error:
        Registry().add(function, Options(name="named"))
    assert "\n" not in str(error.value)
