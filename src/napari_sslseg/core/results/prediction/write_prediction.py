"""Write a prediction as a label file, with the names of its classes and a line in the journal."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from napari_sslseg.core.common.atomic import TemporaryFolder
from napari_sslseg.core.results.prediction.journal import PredictionJournal
from napari_sslseg.core.runs.lineage import Use
from napari_sslseg.core.scans.classes.write_class_list import listed_classes
from napari_sslseg.core.scans.formats.registry import stores_classes
from napari_sslseg.core.scans.labels import save_labels
from napari_sslseg.core.scans.volume import HasLabels


def write_prediction(
    prediction: HasLabels,
    target: Path,
    journal: PredictionJournal,
    staging: TemporaryFolder,
    *,
    stamp: str,
    names: Mapping[int, str],
    values: Sequence[int],
    files: Sequence[Path],
    use: Use | None = None,
    overwrite: bool = False,
) -> None:
    """Write a prediction.

    The label file is complete before the names of its classes and the journal are changed, so that
    a full disk changes nothing, and it gets its name last.

    Parameters
    ----------
    prediction : Prediction
        The prediction.
    target : Path
        Its file.
    journal : PredictionJournal
        The journal of the folder.
    staging : TemporaryFolder
        Folder for files that are not complete, on the same disk.
    stamp : str
        What identifies the scan, see :meth:`PredictionJournal.write`.
    names : mapping of int to str
        Names of the classes.
    values : sequence of int
        Label values of all classes.
    files : sequence of Path
        All label files that are written to the folder.
    use, overwrite
        As in :meth:`PredictionJournal.write`.

    Raises
    ------
    StorageError
        If a file cannot be written or replaced, or the folder gives the classes other names.
    """
    own = stores_classes(target)
    # Without classes, so that no list of them is written to the other folder.
    file = save_labels(prediction, staging.path / target.name, classes=names if own else {})
    with listed_classes(
        target.parent, {} if own else names, files, values=values, overwrite=overwrite
    ) as write_names:
        journal.write(file, target, stamp, write_names, use=use, overwrite=overwrite)
