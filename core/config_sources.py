"""The sources of the settings: a file, then HEADWAY_* variables, then options of a command.

An unusable setting raises ConfigError with one line that names the key, the value and the values
allowed.

A variable overrides the file: section and key joined by two underscores, the value read as YAML
(``HEADWAY_SERVER__PORT=9001``, ``HEADWAY_TASKS='[my.tasks]'``), and so is a section within a section
(``HEADWAY_RETENTION__FAILED__JOBS=500``). A text is taken as it stands, unless it is quoted or null:
``HEADWAY_SERVER__HOST=::``. A variable without two underscores that is
no name of a top-level setting is not ours: beside a Kubernetes service called ``headway`` there is
``HEADWAY_PORT=tcp://…``. An option overrides both, its value read in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard, TypeVar, get_type_hints

import msgspec
from headway.core.config import DEFAULT_JOURNAL, SHORT, Config, Section
from headway.core.errors import ConfigError
from headway.core.faults import allowed, faults, member_types
from msgspec import inspect

PREFIX = "HEADWAY_"
# The path of the file. It is no setting: the command line reads it.
CONFIG_VARIABLE = "HEADWAY_CONFIG"
# The setting of each option.
OPTIONS = {
    "--tasks": "tasks",
    "--host": "server.host",
    "--port": "server.port",
    "--workers": "workers",
    "--engine": "engine",
}
# May have a password: no message shows its value.
UNSHOWN = "engine"
# Null in YAML.
NULLS = frozenset({"", "~", "null", "Null", "NULL"})
# A list of texts. None is quoted, and none is a list itself.
_PLAIN_LIST = re.compile(r"""\[([^\[\]{}'"#\n]*)\]""")

Of = TypeVar("Of", bound=Section)


def load(
    path: Path | None, environment: Mapping[str, str], options: Mapping[str, Sequence[str]] | None = None
) -> Config:
    """Read the settings from ``path`` (None: defaults only), then from ``environment`` and ``options``.

    An option is a name of OPTIONS with its values: a list takes all of them, else the last counts.
    Raises ConfigError, one line, at the first setting that cannot be used.
    """
    config = Config()
    if path is not None:
        config = _merge(config, _read(path), str(path))
    for name, section, key, text in _variables(environment):
        config = _merge(config, _set(name, Config, section, key, text), name)
    for name, texts in (options or {}).items():
        if texts:
            config = _merge(config, _option(name, texts), name)
    return config if config.engine is None else _shared(config)


def _shared(config: Config) -> Config:
    """Return the settings of a node whose jobs are in a shared store: it has no journal.

    Raises ConfigError if they name one.
    """
    if config.journal.path not in (None, DEFAULT_JOURNAL):
        raise ConfigError(
            f"journal.path: {config.journal.path!r} is not used beside engine, whose store keeps the jobs: "
            "leave one of the two out"
        )
    return msgspec.structs.replace(config, journal=msgspec.structs.replace(config.journal, path=None))


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not YAML: {_one_line(error)}") from None
    settings = _yaml(text, f"{path}:")
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: must be a mapping of sections, as config.yaml is")
    return settings


def ignored(environment: Mapping[str, str]) -> list[str]:
    """Return the names of variables that begin like settings but are none."""
    ours = {name for name, *_ in _variables(environment)} | {CONFIG_VARIABLE}
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in ours)


def _variables(environment: Mapping[str, str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield (name, section, key, text) of each variable that is, or is meant as, a setting."""
    for name in sorted(environment):
        section, joint, key = name.removeprefix(PREFIX).lower().partition("__")
        if name.startswith(PREFIX) and name != CONFIG_VARIABLE and (joint or section in Config.__struct_fields__):
            yield name, section, key, environment[name]


def _set(name: str, within: type[Section], field: str, rest: str, text: str) -> dict[str, Any]:
    """Return ``field`` of a section with its new value, from the variable ``name``.

    ``rest`` is the place within the field if that is a section itself, else empty.
    """
    kind = get_type_hints(within, include_extras=True).get(field)
    if rest:
        if not _is_section(kind):
            # No such setting. The fault names the place as it was written.
            return {field: {rest: _read_variable(name, None, text)}}
        inner, joint, more = rest.partition("__")
        if joint and not _is_section(get_type_hints(kind).get(inner)):
            inner, more = rest, ""
        return {field: _set(name, kind, inner, more, text)}
    if not _is_section(kind):
        return {field: _read_variable(name, kind, text, is_secret=field == UNSHOWN)}
    value = _read_variable(name, None, text)
    if not isinstance(_spelled_out(kind, value), dict):
        names = ", ".join(f"{name}__{inner.upper()}" for inner in get_type_hints(kind))
        raise ConfigError(f"{name}: {text!r} is not allowed: {field} is a section; set {names}")
    return {field: value}


def _spelled_out(kind: type[Section], value: Any) -> Any:
    """Return the value of a section whose one word stands for its first setting: ``auth: none``."""
    return {SHORT[kind]: value} if kind in SHORT and isinstance(value, str) else value


def _is_section(kind: Any) -> TypeGuard[type[Section]]:
    return isinstance(kind, type) and issubclass(kind, Section)


def _option(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """Return the settings that the option ``name`` makes of its values."""
    section, _, key = OPTIONS[name].partition(".")
    if name == "--tasks":
        items = [item.strip() for text in texts for item in text.split(",")]
        if not all(items):
            raise ConfigError(
                f"{name}: {','.join(texts)!r} is not allowed: expected names of modules, with commas between"
            )
        return {section: items}
    return _set(name, Config, section, key, texts[-1])


def _read_variable(name: str, kind: Any, text: str, *, is_secret: bool = False) -> Any:
    """Return the value of a setting of type ``kind``. A text stands as it is, all else is YAML."""
    plain = text.strip()
    if not plain and kind is not None:
        raise ConfigError(f"{name}: is empty: leave the variable out for the default, or write null for none")
    info = inspect.type_info(kind)
    if _is_text(info) and plain[:1] not in ("'", '"') and plain not in NULLS:
        return int(plain) if _is_number(info) and plain.isdecimal() else plain
    if isinstance(info, inspect.VarTupleType) and (found := _PLAIN_LIST.fullmatch(plain)):
        items = [item.strip() for item in found[1].split(",")]
        if all(items):
            return items
    try:
        return _yaml(text, f"{name}: {text!r}")
    except ConfigError:
        if not is_secret:
            raise
        raise ConfigError(f"{name}: is not YAML: write the URL without quotes") from None


def _yaml(text: str, source: str) -> Any:
    """Return the value of a YAML text; raises ConfigError, which begins with ``source``, where it is none."""
    # 5 ms, for nothing where no file and no variable is read.
    import yaml

    try:
        return yaml.load(text, Loader=_loader())  # noqa: S506 — it is a safe one
    # The latter for a variable that is not UTF-8.
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        raise ConfigError(f"{source} is not YAML: {_one_line(error)}") from None


@cache
def _loader() -> Any:
    """Return a safe loader that takes no name twice in a mapping, and numbers such as 1e-3, as YAML 1.2 does."""
    import yaml

    # libyaml, where PyYAML was built with it, reads config.yaml in 1 ms, SafeLoader in 4.
    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc, valid-type]  # which one is not known before
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            names = set()
            for name, _ in node.value:
                if isinstance(name, yaml.ScalarNode) and (name.tag, name.value) in names:
                    raise yaml.constructor.ConstructorError(None, None, f"{name.value!r} stands twice", name.start_mark)
                names.add((name.tag, name.value))
            found: dict[Any, Any] = super().construct_mapping(node, deep)
            return found

    number = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+\Z")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    return Loader


def _is_text(info: inspect.Type) -> bool:
    options = info.types if isinstance(info, inspect.UnionType) else (info,)
    return any(
        isinstance(option, inspect.StrType)
        or (isinstance(option, inspect.LiteralType) and isinstance(option.values[0], str))
        for option in options
    )


def _is_number(info: inspect.Type) -> bool:
    return isinstance(info, inspect.UnionType) and any(isinstance(option, inspect.IntType) for option in info.types)


def _merge(config: Config, settings: dict[str, Any], source: str) -> Config:
    """Return ``config`` with ``settings`` laid over it."""
    for field, fault in _faults(Config, settings):
        told = f"is not allowed: expected {allowed(Config, field)}" if field == UNSHOWN else fault
        raise ConfigError(f"{source}: {field}: {told}")
    return _laid_over(config, settings)


def _faults(kind: type[Section], settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    types = get_type_hints(kind)
    for name, value in settings.items():
        inner = types.get(name)
        if not _is_section(inner):
            yield from faults(kind, {name: value}, prefix)
        elif isinstance(members := _spelled_out(inner, value) or {}, dict):
            yield from _faults(inner, members, f"{prefix}{name}.")
        else:
            allowed = ", ".join(get_type_hints(inner))
            yield f"{prefix}{name}", f"{value!r} is not allowed: expected a section with {allowed}"


def _laid_over(section: Of, settings: dict[str, Any]) -> Of:
    changed: dict[str, Any] = {}
    for name, value in settings.items():
        current = getattr(section, name)
        if isinstance(current, Section):
            changed[name] = _laid_over(current, _spelled_out(type(current), value) or {})
        else:
            changed[name] = msgspec.convert(value, member_types(type(section))[name])
    return msgspec.structs.replace(section, **changed)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
