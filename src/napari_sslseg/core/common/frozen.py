"""Base of all settings, and how user values become settings or one clear sentence."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from napari_sslseg.core.common.errors import ConfigError


class Settings(BaseModel):
    """Base of all settings: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=BaseModel)


def make_settings(model: type[Model], **values: Any) -> Model:
    """Make settings, or raise a ConfigError with the first problem in one sentence."""
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        # Of a field that takes several types, each of them is a part of the place, in brackets.
        where = ".".join(str(part) for part in first["loc"] if "[" not in str(part))
        reason = first["msg"].removeprefix("Value error, ")
        if not where:
            # What is wrong with several fields together; they would be a page.
            raise ConfigError(f"{reason[0].upper()}{reason[1:]}.") from error
        raise ConfigError(f"{where} cannot be {first['input']!r}: {reason}.") from error
