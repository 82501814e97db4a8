"""The methods of the papers by name. Loads no PyTorch."""

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.settings.presets.dhere import DHERE
from napari_sslseg.core.settings.presets.dominic import DOMINIC
from napari_sslseg.core.settings.presets.polycl import POLYCL_M, POLYCL_O, POLYCL_S
from napari_sslseg.core.settings.presets.preset import (
    Decision as Decision,
    Preset as Preset,
    Stage as Stage,
)
from napari_sslseg.core.settings.presets.umapathy import CONTRASTIVE, REGRESSION

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (DOMINIC, REGRESSION, CONTRASTIVE, POLYCL_S, POLYCL_O, POLYCL_M, DHERE)
}
"""All presets by name."""


def preset_named(name: str) -> Preset:
    """Find a preset.

    Raises
    ------
    ConfigError
        If there is none of this name; the message lists all names.
    """
    if name not in PRESETS:
        raise ConfigError(f"There is no preset {name}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]
