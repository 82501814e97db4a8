"""From the words of the command line to the settings of the core."""

from typing import Any

from napari_sslseg.core.errors import ConfigError


def modality_of(name: str | None) -> Any:
    """``MR`` or ``CT`` in either case, or None."""
    if name is not None and name.upper() not in ("MR", "CT"):
        raise ConfigError(f"There is no modality {name}; choose MR or CT.")
    return name.upper() if name else None


def preprocessing_for(scan: Any, plane: str, spacing: str, modality: Any) -> Any:
    """Preprocessing by modality with the plane and spacing asked for."""
    from napari_sslseg.core.config import checked
    from napari_sslseg.core.labelled import as_volume
    from napari_sslseg.core.pretrain import default_preprocessing

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
        if network not in config.NETWORK_WIDTHS:
            raise ConfigError(
                f"There is no network {network}; choose {', '.join(config.NETWORK_WIDTHS)}."
            )
        fields["network"] = config.Network.preset(network)
    fields["training"] = config.checked(
        config.Training,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    return config.checked(getattr(config, kind), **fields)


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers between commas."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"The classes {text} are no whole numbers, such as 1,2.") from None
