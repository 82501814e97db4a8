"""Scans of a demonstration: found or made, split by patient, and checked before any training."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from napari_sslseg.core.common.errors import DataError, StorageError
from napari_sslseg.core.common.events import Event, Progress
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.demo.phantom.patient import write_dataset
from napari_sslseg.core.demo.plan import DemoPlan
from napari_sslseg.core.results.prediction.journal import PredictionJournal
from napari_sslseg.core.samples.store import hash_scan
from napari_sslseg.core.scans.classes.class_list import CLASS_LIST, read_class_names
from napari_sslseg.core.scans.classes.scan_classes import find_classes
from napari_sslseg.core.scans.classes.write_class_list import check_class_list
from napari_sslseg.core.scans.find import find_scans
from napari_sslseg.core.scans.labelled import LabelledScan, scan_subject
from napari_sslseg.core.scans.matching.pair_scans import pair_scans
from napari_sslseg.core.scans.matching.patients import Patients, guess_together, with_patients
from napari_sslseg.core.scans.names import volume_files
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.stages.split import hold_out

LEAST_SUBJECTS = 3


def write_phantoms(out: Path, plan: DemoPlan, seed: int) -> Generator[Event, None, Path]:
    """Write phantom patients, and return their folder."""
    # A folder for each number and seed, since all files in it are used.
    data = out / f"phantom-{plan.patients}-seed{seed}"
    for number in range(plan.patients):
        write_dataset(data, 1, "MR", seed=seed + number, overwrite=True)
        yield Progress("Making phantom patients", number + 1, plan.patients)
    return data


@dataclass(frozen=True)
class DemoScans:
    """The scans of a demonstration.

    Attributes
    ----------
    folder : Path
        Folder with ``images/`` and ``labels/``.
    images : list
        All scans.
    classes : tuple of int
        Values in any of the labels, so that all arms have the same classes.
    names : dict
        Names of the classes.
    test, pool : list of LabelledScan
        Held-out scans, and scans that the labelled ones are drawn from; split by subject.
    """

    folder: Path
    images: list[Series]
    classes: tuple[int, ...]
    names: dict[int, str]
    test: list[LabelledScan]
    pool: list[LabelledScan]

    @classmethod
    def read(
        cls, folder: Path, plan: DemoPlan, seed: int, patients: Patients | None
    ) -> "DemoScans":
        """Find the scans in a folder and split them."""
        _check_folder(folder)
        images = find_scans(folder / "images")
        pairs = pair_scans(folder / "images", folder / "labels", every_image=False)
        # All together, as names of one patient may be recognised only among the others.
        everything: list[Series | LabelledScan] = [*images, *pairs]
        named = with_patients(everything, patients) if patients else guess_together(everything)
        images = [item for item in named if isinstance(item, Series)]
        pairs = [item for item in named if isinstance(item, LabelledScan)]
        listed = folder / CLASS_LIST
        names = read_class_names(listed) if listed.exists() else {}
        for item in pairs:
            names |= item.class_names or {}
        classes = find_classes(pairs, "axial")
        subjects = {scan_subject(item) for item in pairs}
        if len(subjects) < LEAST_SUBJECTS:
            raise DataError(
                f"A comparison needs labelled scans of at least {LEAST_SUBJECTS} subjects, but "
                f"there are {len(subjects)}; add some."
            )
        share = min(plan.test_share, plan.test_most / len(subjects))
        pool, test = hold_out(pairs, share, seed)
        return cls(folder, images, classes, names, test, pool)


def _check_folder(folder: Path) -> None:
    """Refuse a folder without a folder of scans and one of labels.

    Raises
    ------
    DataError
        If one is missing.
    """
    missing = [name for name in ("images", "labels") if not (folder / name).is_dir()]
    if missing:
        raise DataError(
            f"{folder} has no folder {' and no folder '.join(missing)}; give a folder with the "
            "scans in images/ and their labels in labels/."
        )


def prediction_file(folder: Path, name: str) -> Path:
    """File of the prediction of a scan."""
    return folder / f"{name}.nii.gz"


def refuse_other_predictions(folder: Path, scans: DemoScans) -> None:
    """Refuse earlier predictions before the trainings, unless this demonstration made them.

    Raises
    ------
    StorageError
        If there are predictions of other scans or classes, or predictions that were changed since,
        such as by hand.
    """
    files = [prediction_file(folder, item.name) for item in scans.test]
    other = [path for path in volume_files(folder) if path not in files]
    if other:
        raise StorageError(
            f"{folder} has predictions of other scans, such as {printable(other[0].name, 100)}; "
            "choose a new or an empty folder for these scans."
        )
    journal = PredictionJournal(folder, {})
    for path, item in zip(files, scans.test, strict=True):
        reason = journal.why_not_of_scan(path, hash_scan(item)) if path.exists() else None
        if reason is not None:
            raise StorageError(
                f"{path} {reason}, so it is not replaced; move it away, or choose a new or an "
                "empty folder."
            )
    names: dict[int, str] = {}
    for item in scans.pool:
        names |= item.class_names or {}
    names = {value: name for value, name in names.items() if value in scans.classes}
    # As they will be saved, one by one.
    check_class_list(folder, names, files[:1], values=scans.classes, overwrite=files[0].exists())
