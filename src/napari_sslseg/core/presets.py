"""The methods of the papers by name. Loads no PyTorch."""

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.paper_presets.dhere import DHERE
from napari_sslseg.core.paper_presets.dominic import DOMINIC
from napari_sslseg.core.paper_presets.polycl import POLYCL_M, POLYCL_O, POLYCL_S
from napari_sslseg.core.paper_presets.umapathy import CONTRASTIVE, REGRESSION
from napari_sslseg.core.preset_settings import (
    Decision as Decision,
    Preset as Preset,
    Stage as Stage,
)

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
