"""All presets by name; presets from outside the package are added with :func:`register_preset`.

Loads no PyTorch.
"""

from pkgutil import resolve_name

from napari_sslseg.core.common.errors import ConfigError, check_type
from napari_sslseg.core.common.text import did_you_mean
from napari_sslseg.core.settings.presets.preset import (
    Decision as Decision,
    Preset as Preset,
    Stage as Stage,
)

# One line for each preset, in the order of lists.
_PRESETS = (
    "dominic:DOMINIC",
    "umapathy:REGRESSION",
    "umapathy:CONTRASTIVE",
    "polycl:POLYCL_S",
    "polycl:POLYCL_O",
    "polycl:POLYCL_M",
    "dhere:DHERE",
)


class PresetTable(dict[str, Preset]):
    """Presets by name; a wrong name is an error that says which there are."""

    def __missing__(self, name: str) -> Preset:
        hint = did_you_mean(name, self) if isinstance(name, str) else ""
        raise ConfigError(
            f"There is no preset {name}; choose one of {', '.join(self)}. {hint}".rstrip()
        )


PRESETS: dict[str, Preset] = PresetTable()
"""All presets by name; see :func:`register_preset`."""


def register_preset(preset: Preset) -> Preset:
    """Add a preset, so that it can be named on the command line, in the window and in Python.

    Raises
    ------
    ConfigError
        If another preset has this name.
    """
    if PRESETS.get(preset.name, preset) != preset:
        raise ConfigError(f"There is a preset {preset.name} already; choose another name.")
    PRESETS[preset.name] = preset
    return preset


for _name in _PRESETS:
    register_preset(resolve_name(f"napari_sslseg.core.settings.presets.{_name}"))


def preset_named(name: str) -> Preset:
    """Return a preset by its name.

    Raises
    ------
    ConfigError
        If there is none of this name; the message lists all names.
    """
    check_type(name, str, "A preset", "its name, such as 'dominic-2023'")
    return PRESETS[name]
