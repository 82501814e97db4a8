"""What the commands ``pretrain`` and ``finetune`` have in common."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from napari_sslseg.cli.console import say
from napari_sslseg.cli.values import given, given_options, refuse_options
from napari_sslseg.core.common.compute.distributed import is_first

if TYPE_CHECKING:
    from napari_sslseg.core.scans.matching.patients import AnyScan

CORRECTION = "If that is wrong, give --patients FILE.csv with the columns scan,patient."

ALLOWED_WITH_RESUME = {
    *("images", "labels", "some_labelled", "sequence", "masks", "class_map", "unlabelled"),
    *("out", "init", "cache", "device", "devices", "nodes", "threads", "resume", "as_json"),
}
"""Parameters of a resumed run that are not part of its saved settings."""


def refuse_settings_with_resume(context: typer.Context) -> None:
    """Refuse options that a resumed run takes from its own record."""
    refused = set(given_options(context)) - ALLOWED_WITH_RESUME
    refuse_options(context, refused, "With --resume the run uses its own settings")


def claim_output(out: Path, *, overwrite: bool) -> None:
    """Refuse an output folder that cannot be used, before scans are read."""
    if is_first():  # The others may be late, when the run of the first one is in the folder.
        from napari_sslseg.core.runs.run_files import claim

        claim(out, overwrite=overwrite)


def name_patients(scans: "Iterable[AnyScan]", patients: Path | None) -> "list[AnyScan]":
    """Set the patients of scans by a table, or guess them, and print who was taken for one."""
    from napari_sslseg.core.scans.matching.patients import guess_together, with_patients

    found = with_patients(scans, patients) if patients else guess_together(scans)
    say_patients(found, patients)
    return found


def say_patients(scans: "Sequence[AnyScan]", patients: Path | None) -> None:
    """Print how many patients the scans are of, and how to correct a guess."""
    from napari_sslseg.core.scans.matching.patients import describe_patients

    if is_first():
        correction = "" if patients or len(scans) < 2 else f" {CORRECTION}"
        say(describe_patients(scans) + correction)


def training_fields(
    steps: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    seed: int | None,
    compiled: bool,
) -> dict[str, Any]:
    """Fields of the training settings that are given by options."""
    return given(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        compile=compiled or None,
    )


def report_run(run: Any, as_json: bool, following: str) -> None:
    """Print the run as JSON, or its folder and the command to run next."""
    if not is_first():
        return
    if as_json:
        print(json.dumps({"run": str(run.folder), **run.record}))
    else:
        say(f"Run: {run.folder}. Next: napari-sslseg {following}")
