"""Values of options: which were given, and what their text means."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, get_args

import typer

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.sizes import Plane
from napari_sslseg.core.common.text import did_you_mean
from napari_sslseg.core.scans.formats.registry import label_suffixes

PLANES = get_args(Plane)
MODALITIES = ("MR", "CT")


def given(**options: Any) -> dict[str, Any]:
    """Drop the options that are None, so that the defaults of the core apply."""
    return {name: value for name, value in options.items() if value is not None}


def given_options(context: typer.Context) -> dict[str, str]:
    """Find the options on the command line.

    Returns
    -------
    dict
        Names on the command line by parameter, such as ``{"batch_size": "--batch-size"}``;
        without flags that are switched off.
    """
    found = {}
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        # By name, since newer versions of Typer have their own copy of click.
        on_command_line = source is not None and source.name == "COMMANDLINE"
        if on_command_line and context.params.get(name) is not False:
            found[name] = parameter.opts[0]
    return found


def refuse_options(context: typer.Context, refused: Collection[str], reason: str) -> None:
    """Raise a ConfigError that names the given options among ``refused``, by parameter."""
    wrong = [option for name, option in given_options(context).items() if name in refused]
    if wrong:
        raise ConfigError(f"{reason}; leave out {' and '.join(wrong)}.")


def parse_modality(name: str | None) -> Any:
    """``MR`` or ``CT``, in upper or lower case; None stays None."""
    if name is None:
        return None
    if name.upper() not in MODALITIES:
        raise ConfigError(f"There is no modality {name}; choose {' or '.join(MODALITIES)}.")
    return name.upper()


def parse_plane(name: str | None) -> Any:
    """Check the name of a plane; ``axial`` if it is None."""
    if name is not None and name not in PLANES:
        raise ConfigError(f"There is no plane {name}; choose {', '.join(PLANES)}.")
    return name or PLANES[0]


def parse_label_format(name: str) -> str:
    """Suffix of a label format, such as ``.nii.gz``."""
    plain = name.lower().removeprefix(".")
    known = [suffix.removeprefix(".") for suffix in label_suffixes()]
    if plain not in known:
        raise ConfigError(f"There is no label format {name}; choose {', '.join(known)}.")
    return f".{plain}"


def split_numbers(text: str, kind: Callable[[str], Any]) -> list[Any]:
    """Numbers separated by commas; an empty list if one of them is not a number."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        return []


def parse_integers(text: str | None, what: str = "classes") -> tuple[int, ...] | None:
    """Integers separated by commas; None stays None.

    Raises
    ------
    ConfigError
        If one is not an integer; the message calls them ``what``.
    """
    if text is None:
        return None
    found = tuple(split_numbers(text, int))
    if not found:
        raise ConfigError(f"The {what} {text} are not integers, such as 1,2.")
    return found


def parse_classes(
    text: str | None, names: Mapping[int, str], option: str
) -> tuple[int, ...] | None:
    """Label values separated by commas, or names of classes; None stays None.

    Raises
    ------
    ConfigError
        If one is neither a number nor a name; the message names the ``option``.
    """
    if text is None:
        return None
    from napari_sslseg.core.scans.classes.segment import fold_class

    values = {fold_class(name): value for value, name in names.items()}
    parts = [fold_class(part) for part in text.split(",")]
    if any(part not in values and not part.isdecimal() for part in parts):
        known = f"; the masks have {', '.join(names.values())}" if names else ""
        raise ConfigError(
            f"The label values ({option}) {text} are not integers, such as 1,2, or names of "
            f"classes{known}."
        )
    return tuple(values.get(part, 0) or int(part) for part in parts)


def parse_annotated(text: str | None, plane: Any = "axial") -> Any:
    """Annotated slices: the words ``labelled`` and ``all``, or those that a file names."""
    from napari_sslseg.core.scans.slices.annotated import WORDS, read_annotated

    if text is None or text in WORDS:
        return text
    hint = did_you_mean(text, WORDS)
    if hint and not Path(text).exists():
        raise ConfigError(
            f"--annotated {text} is neither a file nor one of the words {' and '.join(WORDS)}. "
            f"{hint}"
        )
    return read_annotated(text, plane)
