"""Base class of all settings, and validation of user values with one-sentence errors."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from napari_sslseg.core.common.errors import ConfigError


class Settings(BaseModel):
    """Base class of all settings: frozen, without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=BaseModel)


def make_settings(model: type[Model], **values: Any) -> Model:
    """Create settings from user values.

    Raises
    ------
    ConfigError
        If a value is invalid; the message describes the first problem in one sentence.
    """
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        # For a field of several types, pydantic adds each type to the location, in brackets.
        where = ".".join(str(part) for part in first["loc"] if "[" not in str(part))
        reason = first["msg"].removeprefix("Value error, ")
        if not where:
            # An error of several fields together: printing all their values would fill a page.
            raise ConfigError(f"{reason[0].upper()}{reason[1:]}.") from error
        raise ConfigError(f"{where} cannot be {first['input']!r}: {reason}.") from error
