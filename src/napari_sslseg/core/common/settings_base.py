"""Base class of all settings: one-sentence errors, and docstrings that explain every field."""

import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.text import did_you_mean

LIMITS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


class SettingsError(ConfigError, ValueError):
    """An invalid value of a setting."""


class Settings(BaseModel):
    """Base class of all settings: frozen, without unknown fields.

    Raises
    ------
    SettingsError
        If a value is invalid; the message describes the first problem in one sentence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _as_sentence(error, type(self)) from error

    # Settings within settings are validated with them, so that errors name the whole path.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        own = cls.__dict__.get("__doc__") or ""
        if not re.search(r"(Parameters|Attributes)\n\s*---", own):
            cls.__doc__ = f"{own.rstrip()}\n\n{_describe_fields(cls)}"


Model = TypeVar("Model", bound=BaseModel)


def check_settings_class(settings: object, wanted: type[Settings]) -> None:
    """Refuse settings of another class, such as those of another stage; None is right.

    Raises
    ------
    ConfigError
        The message names the class that is needed.
    """
    if settings is None or isinstance(settings, wanted):
        return
    inside = next(
        (
            name
            for name, field in wanted.model_fields.items()
            if isinstance(settings, _settings_in(field.annotation))
        ),
        None,
    )
    example = f"core.{wanted.__name__}({f'{inside}=…' if inside else '…'})"
    raise ConfigError(
        f"The settings are of the class {type(settings).__name__}, but "
        f"{wanted.__name__} is needed; write settings={example}."
    )


def make_settings(model: type[Model], **values: Any) -> Model:
    """Create settings from user values.

    Raises
    ------
    SettingsError
        If a value is invalid; the message describes the first problem in one sentence.
    """
    try:
        return model(**values)
    except ValidationError as error:  # Of a model that is no Settings.
        raise _as_sentence(error, model) from error


def fill_fields(settings: Model, defaults: Mapping[str, Any]) -> Model:
    """Give fields that are not set other defaults than those of the class.

    The fields still count as not set, so that other defaults may replace these.
    """
    missing = {
        name: value
        for name, value in defaults.items()
        if name not in settings.model_fields_set and getattr(settings, name) != value
    }
    if not missing:
        return settings
    copy = settings.model_copy()
    copy.__dict__.update(missing)
    return copy


def _as_sentence(error: ValidationError, model: type[BaseModel]) -> SettingsError:
    """Describe the first problem."""
    first = error.errors()[0]
    # For a field of several types, pydantic adds each type to the location, in brackets.
    where = ".".join(str(part) for part in first["loc"] if "[" not in str(part))
    reason = first["msg"].removeprefix("Value error, ")
    if not where:
        # An error of several fields together: printing all their values would fill a page.
        return SettingsError(f"{reason[0].upper()}{reason[1:]}.")
    given = first["input"]
    if isinstance(given, type):
        name = given.__name__
        return SettingsError(
            f"{where} cannot be the class {name}; write {name}() with parentheses."
        )
    if first["type"] in ("tuple_type", "union_tag_invalid") and "." not in where:
        reason = _wanted_at(model, where, given) or reason
    if first["type"] == "union_tag_invalid" and isinstance(given, dict):
        reason = f"its kind must be one of {first['ctx']['expected_tags']}"
    if first["type"] == "extra_forbidden":
        inside = place_of_setting(model, where, given)
        if inside:
            return SettingsError(
                f"{model.__name__} has no setting {where} itself; write "
                f"{inside.removeprefix(f'core.{model.__name__}(').removesuffix(')')}."
            )
        hint = did_you_mean(str(first["loc"][-1]), _fields_at(model, first["loc"][:-1]))
        return SettingsError(
            f"There is no setting {where}; leave it out, or correct its name. {hint}".rstrip()
        )
    end = "" if reason.endswith("?") else "."
    return SettingsError(f"{where} cannot be {first['input']!r}: {reason}{end}")


def place_of_setting(model: type[BaseModel], name: str, value: object) -> str:
    """Write settings that contain a setting at any depth, such as ``core.Training(steps=5)``.

    Parameters
    ----------
    model : type of Settings
        The settings to search; of settings within settings the least deep are taken.
    name, value : str, object
        The setting.

    Returns
    -------
    str
        A call that makes the settings; empty if no setting has this name.
    """
    text = short_argument(name, value)
    return next((call.format(text) for call, known in _places(model) if known == name), "")


def settings_argument(model: type[BaseModel], name: str, value: object) -> str:
    """Write the argument ``settings=…`` that contains a setting; empty if there is none."""
    place = place_of_setting(model, name, value)
    return f"settings={place}" if place else ""


def short_argument(name: str, value: object) -> str:
    """Write an argument, such as ``steps=5``, without a long value."""
    short = isinstance(value, bool | int | float | str | tuple) and len(repr(value)) <= 40
    return f"{name}={repr(value) if short else '…'}"


def setting_names(model: type[BaseModel]) -> list[str]:
    """Names of all settings at any depth."""
    return [name for _, name in _places(model)]


def _places(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Calls that make settings, with the name of each setting, the least deep first."""
    waiting: list[tuple[type[BaseModel], str]] = [(model, f"core.{model.__name__}({{}})")]
    seen: set[type[BaseModel]] = set()
    for kind, call in waiting:
        if kind in seen:
            continue
        seen.add(kind)
        for inner, field in kind.model_fields.items():
            if inner != "kind":
                yield call, inner
            for other in _types_in(field.annotation):
                if issubclass(other, BaseModel):
                    call_inside = f"{inner}=core.{other.__name__}({{}})"
                    waiting.append((other, call.format(call_inside)))


def _fields_at(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of settings within settings."""
    for part in place:
        field = model.model_fields.get(str(part))
        if field is not None:
            inner = _settings_in(field.annotation)
            if not inner:
                return []
            model = inner[0]
    return [name for name in model.model_fields if name != "kind"]


def _wanted_at(model: type[BaseModel], name: str, given: Any) -> str:
    """Say what a field needs, with an example; empty if it is not a field of the settings."""
    field = model.model_fields.get(name)
    if field is None:
        return ""
    types = _types_in(field.annotation)
    if names := [kind.__name__ for kind in types if issubclass(kind, BaseModel)]:
        return f"write settings, such as {' or '.join(f'{name}(…)' for name in names)}"
    kinds = (field.annotation, *get_args(field.annotation))
    items = next((get_args(kind) for kind in kinds if get_origin(kind) is tuple), ())
    if type(given) in items:
        return f"write {(given,) * (1 if ... in items else len(items))}, in parentheses"
    return ""


def _types_in(annotation: Any) -> list[type]:
    """All types that an annotation names, without those in tuples."""
    if isinstance(annotation, type) and not get_args(annotation):
        return [annotation]
    if get_origin(annotation) in (tuple, Literal):
        return []
    return [kind for part in get_args(annotation) for kind in _types_in(part)]


def _settings_in(annotation: Any) -> tuple[type[BaseModel], ...]:
    """Classes of settings among the types of a field."""
    kinds = get_args(annotation) or (annotation,)
    return tuple(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))


def _describe_fields(model: type[BaseModel]) -> str:
    """List the fields of settings as parameters, for ``help``."""
    lines = ["    Parameters", "    ----------"]
    for name, field in model.model_fields.items():
        if name == "kind":  # Fixed; it says in files which settings these are.
            continue
        default = "" if field.is_required() else f", default {_text_of(field)}"
        lines.append(f"    {name} : {_type_name(field.annotation)}{default}")
        words = (field.description or f"{field.title or name}.").rstrip()
        limits = _limits(field)
        text = words + (f" Values: {limits}." if limits else "")
        lines += textwrap.wrap(
            text, 92, initial_indent=" " * 8, subsequent_indent=" " * 8, break_on_hyphens=False
        )
    return "\n".join(lines) + "\n    "


def _text_of(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=False)
    if field.default_factory is not None:
        return "depends"
    return f"{type(default).__name__}()" if isinstance(default, BaseModel) else repr(default)


def _limits(field: FieldInfo) -> str:
    found = [
        f"{word} {value}"
        for item in field.metadata
        for key, word in LIMITS.items()
        if (value := getattr(item, key, None)) is not None
    ]
    return ", ".join(found)


def _type_name(annotation: Any) -> str:
    """Name of a type without the names of modules."""
    if get_origin(annotation) is Literal:
        return "{" + ", ".join(map(repr, get_args(annotation))) + "}"
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    if get_args(annotation):
        text = str(annotation)
    return re.sub(r"\b(?:[a-z_]\w*\.)+", "", text)
