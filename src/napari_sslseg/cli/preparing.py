"""From options of the command line to the network and to how scans are prepared for it."""

from typing import Any

from napari_sslseg.cli.options import given, split_numbers
from napari_sslseg.core.common.errors import ConfigError


def preprocessing_for(
    scan: Any,
    modality: Any,
    dimensions: Any,
    plane: str | None,
    spacing: str | None,
    size: str | None,
    neighbours: int | None = None,
) -> Any:
    """Preprocessing by modality, of slices or volumes, with the fields that options give."""
    from napari_sslseg.core.common.frozen import make_settings
    from napari_sslseg.core.common.sizes import PLANE_AXIS
    from napari_sslseg.core.samples.build import default_preprocessing
    from napari_sslseg.core.scans.labelled import as_volume, scan_geometry

    changes = preprocessing_changes(plane, spacing, size, dimensions, neighbours)
    # A plane that there is not is refused with all else that is wrong in the changes.
    known: Any = plane if plane in PLANE_AXIS else "axial"
    base: Any = default_preprocessing(
        modality or as_volume(scan).modality,
        dimensions,
        spacing=scan_geometry(scan).spacing,
        plane=known,
    )
    return make_settings(type(base), **base.model_dump() | changes)


def preprocessing_changes(
    plane: str | None,
    spacing: str | None,
    size: str | None,
    dimensions: int,
    neighbours: int | None = None,
) -> dict[str, Any]:
    """Fields of the preprocessing that options give a value."""
    if dimensions == 3 and plane is not None:
        raise ConfigError("A network of volumes sees all planes at once; leave the plane out.")
    changes: dict[str, Any] = given(plane=plane, spacing=spacing)
    if neighbours is not None and dimensions == 3:
        raise ConfigError("A network of volumes sees all slices at once; leave --neighbours out.")
    changes |= given(neighbours=neighbours)
    if spacing is not None and spacing not in ("keep", "isotropic"):
        mm = tuple(split_numbers(spacing, float))
        if len(mm) != (3 if dimensions == 3 else 1):
            choice = "keep or three of them" if dimensions == 3 else "one, keep or isotropic"
            raise ConfigError(f"The spacing {spacing} is no number of mm; choose {choice}.")
        changes["spacing"] = mm if dimensions == 3 else mm[0]
    if size == "whole" and dimensions == 3:
        changes["size"] = size
    elif size is not None:
        sides = tuple(split_numbers(size, int))
        sides = sides * 2 if len(sides) == 1 and dimensions == 2 else sides
        if len(sides) != dimensions:
            such = "64,96,96 for volumes" if dimensions == 3 else "256 or 256,192"
            raise ConfigError(f"The size {size} is no number of pixels, such as {such}.")
        changes["size"] = sides
    return changes


def network_and_preprocessing(
    init: object,
    scan: Any,
    modality: Any,
    network: str | None,
    plane: str | None,
    spacing: str | None,
    size: str | None,
    neighbours: int | None = None,
) -> tuple[str | None, Any]:
    """Network and preprocessing from scratch, or None of both where ``init`` names a run."""
    from napari_sslseg.core.settings.networks import named_network

    if init is None:
        name = network or "small"
        dimensions = named_network(name).dimensions
        changes = plane, spacing, size, neighbours
        return name, preprocessing_for(scan, modality, dimensions, *changes)
    return None, None


def refuse_with_start(init: object, *chosen: object) -> None:
    """Refuse network, plane, spacing, size and neighbours where a run to start from brings them."""
    if any(option is not None for option in chosen):
        raise ConfigError(
            f"Network, plane, spacing, size and neighbours come from the pretraining {init}; leave "
            "them out."
        )
