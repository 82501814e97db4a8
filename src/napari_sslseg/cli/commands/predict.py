"""Command: segment scans with a fine-tuned network."""

import json
from pathlib import Path
from typing import Annotated

import typer

from napari_sslseg.cli.console import fail, follow, say
from napari_sslseg.cli.exit_codes import USER_ERROR
from napari_sslseg.cli.options import ClassNames, Device, Json, ModalityOption, Out
from napari_sslseg.cli.values import parse_label_format, parse_modality
from napari_sslseg.core.common.events import StopFlag
from napari_sslseg.core.common.text import count_phrase


def predict(
    run: Annotated[Path, typer.Argument(help="Fine-tuning run.")],
    images: Annotated[list[Path], typer.Argument(help="Scans, or folders of scans.")],
    out: Out,
    sequence: Annotated[
        str | None,
        typer.Option(
            "--sequence",
            metavar="END",
            help="End of the names of the scans to segment if a patient has several, such as T1w; "
            "that of the training if not set.",
        ),
    ] = None,
    modality: ModalityOption = None,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option(help="Replace existing files.")] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue an interrupted prediction with the same run and options: keep its "
            "complete files.",
        ),
    ] = False,
    as_format: Annotated[
        str, typer.Option("--format", help="nii.gz, nii, nrrd, mha, or dcm for DICOM SEG.")
    ] = "nii.gz",
    class_names: ClassNames = None,
    tta: Annotated[
        bool,
        typer.Option(
            "--tta",
            help="Average over slightly rotated and scaled copies (test-time augmentation); takes "
            "up to five times as long.",
        ),
    ] = False,
    least_part: Annotated[
        float,
        typer.Option(
            metavar="FRACTION",
            help="Remove connected components smaller than this fraction of the largest component "
            "of their structure, such as 0.1. Not for structures with many components, such as "
            "lesions.",
        ),
    ] = 0.0,
    as_json: Json = False,
) -> None:
    """Segment scans; the labels lie on the grid of each scan."""
    from napari_sslseg.core.results.predict_files import iter_predict
    from napari_sslseg.core.scans.classes.class_list import read_class_names

    stop = StopFlag()
    events = iter_predict(
        run,
        images,
        out=out,
        sequence=sequence,
        suffix=parse_label_format(as_format),
        classes=read_class_names(class_names) if class_names else None,
        device=device,
        modality=parse_modality(modality),
        overwrite=overwrite,
        tta=tta,
        least_part=least_part,
        stop=stop,
        resume=resume,
    )
    written, failed = follow(events, stop, resumable=True)
    if as_json:
        print(json.dumps({"predictions": [str(path) for path in written]}))
    elif written:
        say(f"{count_phrase(len(written), 'prediction')} in {out}.")
    for message in failed:
        fail(message)
    if failed:
        raise typer.Exit(USER_ERROR)
