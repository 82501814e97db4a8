"""Settings of the core from the options of a command."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import typer

from napari_sslseg.cli.values import (
    given,
    parse_classes,
    parse_integers,
    parse_plane,
    refuse_options,
    split_numbers,
)
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.settings.preprocessing import Clipping


@dataclass(frozen=True)
class NetworkOptions:
    """Options of the network and the preprocessing, as text; None where they are not given.

    A run to start from has a network and preprocessing of its own, a preset has defaults for them.
    """

    network: str | None = None
    plane: str | None = None
    spacing: str | None = None
    size: str | None = None
    neighbours: int | None = None
    clip: str | None = None

    def refuse(self, context: typer.Context, init: object) -> None:
        """Refuse all of them if the run ``init`` is to be started from."""
        fields = type(self).__dataclass_fields__
        reason = f"Network and preprocessing come from the pretraining {init}"
        refuse_options(context, tuple(fields), reason)

    def chosen_network(self) -> Any:
        """Settings of the network, or None if it is not named."""
        from napari_sslseg.core.settings.networks import named_network

        return named_network(self.network) if self.network else None

    def stage_fields(
        self, stage: Any, start: Any, scan: Any, modality: Any, training: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Give network, preprocessing and training for the settings of a stage.

        Parameters
        ----------
        stage : {"pretrain", "finetune"}
            The stage.
        start : Run or None
            Run to start from, whose network and preprocessing are used.
        scan, modality
            As in :meth:`preprocessing`.
        training : mapping
            Fields of the training to set.
        """
        from napari_sslseg.core.settings.stages import PretrainSettings
        from napari_sslseg.core.settings.training import default_training

        fields: dict[str, Any] = {"training": default_training(stage, **training)}
        if start is None:
            network = self.chosen_network() or PretrainSettings.model_fields["network"].default
            fields["network"] = network
            fields["preprocessing"] = self.preprocessing(scan, modality, network.dimensions)
        return fields

    def preprocessing(self, scan: Any, modality: Any, dimensions: Any) -> Any:
        """Default preprocessing of the modality, with these options.

        Parameters
        ----------
        scan : Volume or Source
            A scan, whose spacing the defaults depend on.
        modality : {"MR", "CT"} or None
            None is the modality of the scan.
        dimensions : {2, 3}
            2 for slices, 3 for volumes.
        """
        from napari_sslseg.core.common.settings_base import make_settings
        from napari_sslseg.core.samples.build import default_preprocessing
        from napari_sslseg.core.scans.labelled import as_volume, scan_geometry

        changes = self.preprocessing_changes(dimensions)
        modality = modality or as_volume(scan).modality
        if modality == "CT" and self.clip is not None:
            raise ConfigError("--clip is for MR; CT values are clipped to windows. Leave it out.")
        defaults: Any = default_preprocessing(
            modality,
            dimensions,
            spacing=scan_geometry(scan).spacing,
            plane=parse_plane(self.plane),
        )
        return make_settings(type(defaults), **defaults.model_dump() | changes)

    def preprocessing_changes(self, dimensions: int) -> dict[str, Any]:
        """Fields of the preprocessing that options give a value.

        Raises
        ------
        ConfigError
            If an option is not a value, or is for slices only and ``dimensions`` is 3.
        """
        if dimensions == 3 and self.plane is not None:
            raise ConfigError("A network of volumes sees all planes at once; leave out --plane.")
        if dimensions == 3 and self.neighbours is not None:
            raise ConfigError(
                "A network of volumes sees all slices at once; leave out --neighbours."
            )
        return given(
            plane=self.plane,
            neighbours=self.neighbours,
            spacing=_parse_spacing(self.spacing, dimensions),
            size=_parse_size(self.size, dimensions),
            **_parse_clip(self.clip),
        )


def _parse_spacing(text: str | None, dimensions: int) -> Any:
    """``planned``, ``keep``, ``isotropic``, or mm: one number for slices, three for volumes."""
    if text in (None, "planned", "keep", "isotropic"):
        return text
    mm = tuple(split_numbers(str(text), float))
    if len(mm) != (3 if dimensions == 3 else 1):
        choices = (
            "keep or three numbers" if dimensions == 3 else "planned, keep, isotropic or one number"
        )
        raise ConfigError(f"The spacing {text} is not in mm; choose {choices}.")
    return mm if dimensions == 3 else mm[0]


def _parse_clip(text: str | None) -> dict[str, Any]:
    """``soft``, ``hard``, ``none``, or two percentiles, which one of these words may follow."""
    if text is None:
        return {}
    if text == "none":
        return {"clip_percentiles": (0.0, 100.0), "clipping": "hard"}
    *numbers, last = text.split(",")
    how = {"clipping": last} if last in get_args(Clipping) else {}
    percentiles = tuple(split_numbers(",".join(numbers if how else [*numbers, last]), float))
    if len(percentiles) != 2 and not (how and not numbers):
        raise ConfigError(
            f"--clip {text} is no way to clip; choose soft, hard, none, or two percentiles, such "
            "as 1,99 or 1,99,hard."
        )
    return how | ({"clip_percentiles": percentiles} if percentiles else {})


def _parse_size(text: str | None, dimensions: int) -> Any:
    """Sides in pixels or voxels, one number for square slices; ``whole`` for volumes."""
    if text is None or (text == "whole" and dimensions == 3):
        return text
    sides = tuple(split_numbers(text, int))
    sides = sides * 2 if len(sides) == 1 and dimensions == 2 else sides
    if len(sides) != dimensions:
        example = "64,96,96 for volumes" if dimensions == 3 else "256 or 256,192"
        raise ConfigError(f"The size {text} is not a number of pixels, such as {example}.")
    return sides


def scans_and_task_options(
    images: Sequence[Path],
    tasks: Sequence[str],
    *,
    plane: str | None,
    masks: Path | None,
    organ_slices: Path | None,
    labels: Mapping[str, str | None],
    class_map: Path | None = None,
    crop: str | None,
    **others: Any,
) -> tuple[list[Any], dict[str, Any]]:
    """Find the scans, with masks if there are any, and the given options of the pretext tasks.

    Parameters
    ----------
    images : sequence of Path
        Scans, or folders of scans.
    tasks : sequence of str
        Names of the pretext tasks.
    plane : str or None
        Plane along which ``organ_slices`` and the slices of masks are numbered.
    masks, organ_slices : Path or None
        Folder of masks, and JSON file of slices.
    labels : mapping
        Label values or names of classes in the masks as text, by option: organ, left, right.
    class_map : Path or None
        Which structure in the masks is which class.
    crop : str or None
        Size of a crop as text.
    **others
        Options that need no conversion.
    """
    from napari_sslseg.core.scans.labelled import LabelledScan
    from napari_sslseg.core.scans.slices.annotated import read_annotated
    from napari_sslseg.core.scans.sources import (
        collect_scans,
        organ_slices as slices_in_masks,
        with_masks,
    )
    from napari_sslseg.core.settings.pretext.registry import TASKS, task_class

    scans = collect_scans(images)
    classes = [task_class(name) for name in tasks]
    if masks and not any(kind.uses_masks for kind in classes):
        using = " or ".join(name for name, kind in TASKS.items() if kind.uses_masks)
        raise ConfigError(
            f"The pretext task {tasks[0]} does not use masks; leave out --masks, or choose {using}."
        )
    if class_map and not masks:
        raise ConfigError(
            "--class-map says which structure in masks is which class; give --masks, or leave it "
            "out."
        )
    slices = read_annotated(organ_slices, parse_plane(plane)) if organ_slices else None
    if masks:
        scans = with_masks(scans, masks, class_map)
    names = [scan.class_names or {} for scan in scans if isinstance(scan, LabelledScan)]
    known = {value: name for found in names for value, name in found.items()}
    values = {option: parse_classes(text, known, option) for option, text in labels.items()}
    by_slices = any("organ_slices" in kind.model_fields for kind in classes)
    if masks and slices is None and by_slices:
        slices = slices_in_masks(scans, parse_plane(plane), values.pop("organ", None))
    sides = parse_integers(crop, "numbers of voxels")
    return scans, given(organ_slices=slices, crop=sides, **values, **others)
