"""From the words of the command line to the settings of the core."""

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_sslseg.core.errors import ConfigError

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0, max=2**31 - 1)]
PlaneOption = Annotated[str, typer.Option(help="Slicing plane: axial, coronal or sagittal.")]
ModalityOption = Annotated[
    str | None, typer.Option(help="MR or CT, where the guess from the values is wrong.")
]
# A run to start from brings its network, plane and spacing.
NetworkOption = Annotated[
    str | None,
    typer.Option(help="From scratch: tiny, small (default), paper, umapathy, multimix or dynunet."),
]
ScratchPlane = Annotated[
    str | None, typer.Option(help="From scratch: axial (default), coronal or sagittal.")
]
Spacing = Annotated[
    str | None, typer.Option(help="From scratch: keep (default), isotropic, or mm.")
]
Cache = Annotated[
    Path | None, typer.Option(help="Folder to keep preprocessed slices in, for later runs.")
]

TASK_NAMES = (
    "context-restoration, context-prediction, masked-pixels, mae, spark, models-genesis, "
    "volume-fusion, global-contrast, local-contrast or polycl"
)
"""All pretext tasks, for the help; written out, since help must not wait for their settings."""

TaskOption = Annotated[str, typer.Option(help=f"Pretext task: {TASK_NAMES}.")]
PatchSize = Annotated[
    int | None, typer.Option(help="Side of the patches in pixels; by slice size if unset.")
]
Selection = Annotated[
    str | None, typer.Option(help="Examples of polycl: scan, organ or scan+organ.")
]
OrganSlices = Annotated[
    Path | None,
    typer.Option(help='JSON of slices that hold the organ, {"scan": [3, 4]}; for polycl.'),
]
Sampling = Annotated[
    str | None,
    typer.Option(help="Places of the patches: poisson-disc (default) or uniform."),
]


def modality_of(name: str | None) -> Any:
    """``MR`` or ``CT`` in either case, or None."""
    if name is not None and name.upper() not in ("MR", "CT"):
        raise ConfigError(f"There is no modality {name}; choose MR or CT.")
    return name.upper() if name else None


def preprocessing_for(scan: Any, plane: str, spacing: str, modality: Any) -> Any:
    """Preprocessing by modality with the plane and spacing asked for."""
    from napari_sslseg.core.config import checked
    from napari_sslseg.core.labelled import as_volume
    from napari_sslseg.core.samples import default_preprocessing

    if spacing not in ("keep", "isotropic"):
        try:
            float(spacing)
        except ValueError:
            raise ConfigError(
                f"The spacing {spacing} is no number of mm; choose one, keep or isotropic."
            ) from None
    base = default_preprocessing(modality or as_volume(scan).modality)
    value = spacing if spacing in ("keep", "isotropic") else float(spacing)
    return checked(type(base), **base.model_dump() | {"plane": plane, "spacing": value})


def network_and_preprocessing(
    init: object,
    scan: Any,
    network: str | None,
    plane: str | None,
    spacing: str | None,
    modality: Any,
) -> tuple[str | None, Any]:
    """Network and preprocessing from scratch, or None of both where ``init`` names a run."""
    if init is None:
        preprocessing = preprocessing_for(scan, plane or "axial", spacing or "keep", modality)
        return network or "small", preprocessing
    if network or plane or spacing:
        raise ConfigError(
            f"Network, plane and spacing come from the pretraining {init}; leave them out."
        )
    return None, None


def settings_for(
    kind: str,
    network: str | None,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    preprocessing: Any,
    **others: Any,
) -> Any:
    """Settings of a stage, by the name of their class; a network of None is left unset."""
    from napari_sslseg.core import config

    fields: dict[str, Any] = {"preprocessing": preprocessing, **others}
    if network is not None:
        fields["network"] = config.named_network(network)
    fields["training"] = config.checked(
        config.Training,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    return config.checked(getattr(config, kind), **fields)


def task_options(**options: Any) -> dict[str, Any]:
    """Options of a pretext task that were given; the task itself refuses those it does not have."""
    return {name: value for name, value in options.items() if value is not None}


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers between commas."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"The classes {text} are no whole numbers, such as 1,2.") from None
