"""Fields that take settings of any registered class, distinguished by their ``kind``."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import PlainValidator, SerializeAsAny

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.settings_base import Settings


def kind_of(settings_class: type[Settings]) -> str:
    """Return the value of the field ``kind`` of a class of settings.

    Raises
    ------
    TypeError
        If the class has no such field, or its default is not a name.
    """
    field = settings_class.model_fields.get("kind")
    if field is None or not isinstance(field.default, str) or not field.default:
        raise TypeError(
            f'{settings_class.__name__} needs a field kind: Literal["name"] = "name"; add it.'
        )
    return field.default


def by_kind(
    base: type[Settings],
    classes: Callable[[], Iterable[type[Settings]]],
    named: Callable[[str], Settings] | None = None,
) -> tuple[PlainValidator, SerializeAsAny]:
    """Make the annotations of a field of any registered class.

    Parameters
    ----------
    base : type of Settings
        Base of all classes; instances of it are accepted as they are.
    classes : callable
        Returns the classes that are registered when a value is validated.
    named : callable, optional
        Returns the settings of a name; a name is no value if not given.
    """

    def validate(value: Any) -> Settings:
        if isinstance(value, base):
            return value
        if named is not None and isinstance(value, str):
            try:
                return named(value)
            except ConfigError as error:
                raise ValueError(str(error).rstrip(".")) from error
        kind = value.get("kind") if isinstance(value, Mapping) else None
        known = {kind_of(one): one for one in classes()}
        if not isinstance(kind, str) or kind not in known:
            raise ValueError(f"'kind' must be one of {', '.join(known)}")
        return known[kind].model_validate(value)

    return PlainValidator(validate), SerializeAsAny()
