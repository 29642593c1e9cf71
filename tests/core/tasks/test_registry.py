"""Declaring tasks, and functions that cannot be one."""

import functools
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from headway.core.errors import ConfigError, TaskError
from headway.core.task import Lane
from headway.core.tasks.registry import Options, Registry, load

from tests.each import each


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


class Unreadable:
    """An object with a call that cannot be read."""

    __signature__ = 5

    def __call__(self, payload: object) -> None: ...


def no_parameters() -> None: ...
def three(a: object, b: object, c: object) -> None: ...
def keyword(payload: object, *, needed: object) -> None: ...
def generator(payload: object) -> Any:
    yield payload


async def async_generator(payload: object) -> Any:
    yield payload


@each(
    "function, options, message",
    [
        ("text", {}, "not a function"),
        (int, {}, r"not a function. A class can have one: task\(Class\(\).method\)"),
        (classmethod(plain), {}, r"has no class yet. Declare it below the class: task\(Class.method\)"),
        (functools.partial(plain), {}, r"has no name of its own. Give it one: task\(name='…'\)"),
        (lambda payload: payload, {}, r"has no name of its own. Give it one: task\(name='…'\)"),
        (coroutine, {"name": "a\nb"}, r"name='a\\nb' is not allowed: .*printable"),
        (coroutine, {"name": "\x1b[31mred"}, r"name='\\x1b\[31mred' is not allowed: .*printable"),
        (coroutine, {"name": "a\u202eb"}, r"name='a\\u202eb' is not allowed: .*printable"),
        (coroutine, {"name": "a\udce9"}, r"name='a\\udce9' is not allowed: .*printable"),
        (coroutine, {"name": " a"}, "no space at either end"),
        (coroutine, {"name": ".."}, "not . or .. alone"),
        (Unreadable(), {"name": "x"}, "its parameters cannot be read"),
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


@each("name", ["with / and é", "a b", "<b>", "lambda", "...", "%00"])
def test_a_name_that_a_url_can_have_is_taken(name: str) -> None:
    registry = Registry()
    registry.add(lambda payload: payload, Options(name=name))
    assert registry.by_name[name].name == name


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
        ("raise KeyboardInterrupt", r"KeyboardInterrupt: .*broken_tasks.py:1"),
        ("import os\nos._exit(0)", r"os\._exit\(0\), which would end the program .*broken_tasks.py:2"),
        ("from os import _exit\ntry: _exit(1)\nexcept Exception: pass", r"os\._exit\(1\), which .*broken_tasks.py:2"),
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


def test_a_sigint_during_an_import_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_tasks.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)")
    monkeypatch.syspath_prepend(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        load(["slow_tasks"])
    assert signal.getsignal(signal.SIGINT) is before


def test_a_module_may_end_a_process_that_it_forks_and_end_this_one_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os._exit
    (tmp_path / "forking_tasks.py").write_text(
        "import os\nfrom os import _exit as leave\npid = os.fork()\nif not pid: leave(3)\ncode = os.waitpid(pid, 0)[1]"
    )
    monkeypatch.syspath_prepend(tmp_path)
    load(["forking_tasks"])
    assert os.waitstatus_to_exitcode(sys.modules["forking_tasks"].code) == 3
    assert os._exit is real
    later = os.fork()
    if not later:
        sys.modules["forking_tasks"].leave(4)
        real(5)
    assert os.waitstatus_to_exitcode(os.waitpid(later, 0)[1]) == 4
