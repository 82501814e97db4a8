"""Unlabelled samples of a fine-tuning: which ones are used, and how they enter its batches."""

import filecmp
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.errors import PATH, DataError, check_type
from napari_sslseg.core.samples.middle_slices import middle_mask
from napari_sslseg.core.samples.store import content_hash
from napari_sslseg.core.scans.find import as_series
from napari_sslseg.core.scans.labelled import LabelledScan, Scan, scan_geometry, scan_subject
from napari_sslseg.core.scans.matching.patients import guess_together
from napari_sslseg.core.scans.reader import ScanReader
from napari_sslseg.core.scans.series import Series, Source
from napari_sslseg.core.scans.sources import CollectedScan, collect_scans, without_labels
from napari_sslseg.core.scans.volume import Volume

if TYPE_CHECKING:
    from napari_sslseg.core.samples.store import SampleStore
    from napari_sslseg.core.training.sampler import Sampler
    from napari_sslseg.core.training.weight_average import AveragedNetwork

SELF_TRAINING_COST = 2.0
"""Time of a step with unlabelled samples over that of one without; 1.5 to 2 was measured."""

UNLABELLED = "unlabelled"
"""Role of a scan in the record of a run: its labels, if it has any, were not used."""


def unlabelled_scans(
    scans: str | Path | Iterable[Scan | str],
    labelled: Sequence[LabelledScan],
    validation: Sequence[LabelledScan],
) -> list[Volume | Series]:
    """Scans to use without labels, except those that are given with labels.

    Parameters
    ----------
    scans : path-like, Volume, Series, or several
        Scans. Labelled ones among them are left out here, since their slices that are not
        annotated are used anyway. So are scans of a subject of ``validation``, which would make
        its Dice too high.
    labelled, validation : sequence of LabelledScan
        Scans with labels.

    Returns
    -------
    list of Volume or Series
        Sorted by name.

    Raises
    ------
    SslsegError
        If there is no scan at a path.
    """
    known = {_identity(item.scan) for item in (*labelled, *validation)}
    check_type(scans, (*PATH, Iterable), "unlabelled", "a folder of scans, or a list of scans")
    if not isinstance(scans, str | Path):
        scans = list(scans)
        if not scans:
            return []
    found: list[Volume | Series] = []
    given = map(without_labels, collect_scans(scans))
    others = [as_series(scan) if isinstance(scan, Path) else scan for scan in given]
    # Among all names, since some are of one patient only together.
    everyone = guess_together([*validation, *labelled, *others])
    held_out = {scan_subject(item) for item in everyone[: len(validation)]}
    for scan in everyone[len(validation) + len(labelled) :]:
        assert not isinstance(scan, LabelledScan)
        if _identity(scan) not in known and scan_subject(scan) not in held_out:
            known.add(_identity(scan))
            found.append(scan)
    return sorted(found, key=lambda scan: scan.name)


def _identity(scan: Volume | Source) -> object:
    """Key that is equal for the same scan, as a path or as a series."""
    if isinstance(scan, Volume):
        return id(scan)
    series = as_series(scan)
    return series.path.absolute(), series.name


def remove_same_files(
    scans: Sequence[CollectedScan], labelled: Sequence[LabelledScan]
) -> tuple[list[CollectedScan], list[str]]:
    """Leave out scans that are given with labels too, and files that are copies of theirs.

    Scans are compared byte by byte; :func:`remove_copies` finds copies in other formats.

    Parameters
    ----------
    scans : sequence of Volume, Series or LabelledScan
        Scans to use without labels.
    labelled : sequence of LabelledScan
        Scans with labels.

    Returns
    -------
    list of Volume, Series or LabelledScan, list of str
        The scans that are left, and the names of the copies.
    """
    known = {_identity(item.scan) for item in labelled}
    files = [_files(item.scan) for item in labelled]
    left, copies = [], []
    for scan in scans:
        plain = without_labels(scan)
        if _identity(plain) in known:
            continue
        own = _files(plain)
        if own and any(_are_equal(own, others) for others in files):
            copies.append(scan.name)
        else:
            left.append(scan)
    return left, copies


def _files(scan: Volume | Source) -> tuple[Path, ...]:
    """The files of a scan that is not loaded; a volume of a file with several has none."""
    if isinstance(scan, Volume):
        return ()
    series = as_series(scan)
    return () if series.frame else tuple(sorted(series.files))


def _are_equal(files: Sequence[Path], others: Sequence[Path]) -> bool:
    """Whether files have the same bytes, in the order of their names."""
    sizes = [[path.stat().st_size for path in paths] for paths in (files, others)]
    return sizes[0] == sizes[1] and all(
        filecmp.cmp(one, other, shallow=False) for one, other in zip(files, others, strict=True)
    )


def remove_copies(
    scans: Sequence[Volume | Series],
    labelled: Sequence[LabelledScan],
    reader: ScanReader | None = None,
) -> tuple[list[Volume | Series], list[str]]:
    """Leave out scans whose values equal those of a labelled scan in another file.

    Only scans whose shape and voxel size equal those of a labelled scan are read.

    Parameters
    ----------
    scans : sequence of Volume or Series
        Unlabelled scans.
    labelled : sequence of LabelledScan
        Training and validation scans.
    reader : ScanReader, optional
        Reads the scans and keeps them.

    Returns
    -------
    list of Volume or Series, list of str
        The scans that are left, and the names of the copies.
    """
    reader = reader or ScanReader()
    grids = [_grid(scan) for scan in scans]
    with_labels = [(_grid(item.scan), item.scan) for item in labelled] if grids else []
    shared = {grid for grid, _ in with_labels}.intersection(grids)
    known = {_values(scan, reader) for grid, scan in with_labels if grid in shared}
    left: list[Volume | Series] = []
    copies: list[str] = []
    for scan, grid in zip(scans, grids, strict=True):
        if grid in shared and _values(scan, reader) in known:
            copies.append(scan.name)
        else:
            left.append(scan)
    return left, copies


def _grid(scan: Volume | Source) -> object:
    """Shape and voxel size, from the header alone."""
    geometry = scan_geometry(scan)
    return geometry.display_shape, tuple(round(mm, 3) for mm in geometry.spacing)


def _values(scan: Volume | Source, reader: ScanReader) -> str:
    """Hash of the values, independent of their type and order in the file."""
    return content_hash(b"", reader.volume(scan).data.astype(np.float32))


def unlabelled_samples(
    store: "SampleStore", held_out: Iterable[int], middle_share: float
) -> np.ndarray:
    """Samples that are not annotated, or only partly, of all scans but the validation scans.

    Voxels and classes that are unknown in annotated samples get pseudo labels, too.

    Parameters
    ----------
    store : SampleStore
        The samples.
    held_out : iterable of int
        Numbers of the validation scans.
    middle_share : float
        Fraction of each scan, around its middle, to use.

    Returns
    -------
    ndarray of int
        Indices.

    Raises
    ------
    DataError
        If there is none.
    """
    excluded = store.annotated & ~store.partial | np.isin(store.scan_index, list(held_out))
    found = np.flatnonzero(~excluded & middle_mask(store, middle_share))
    if not found.size:
        raise DataError(
            f"There is no unlabelled {store.noun} to use; add unlabelled scans, or leave out the "
            "self-training (--unlabelled on the command line)."
        )
    return found


def count_used(teacher: "AveragedNetwork", labelled: int, batch: np.ndarray) -> int:
    """Number of samples of a batch that a step uses: before the first round, the labelled ones."""
    return len(batch) if teacher.round else labelled


def with_unlabelled(labelled: "Sampler", indices: np.ndarray, batch_size: int) -> "Sampler":
    """Append as many unlabelled samples to each batch as it has labelled ones.

    Parameters
    ----------
    labelled : Sampler
        Draws the first half, of ``batch_size`` samples.
    indices : ndarray of int
        Unlabelled samples; each is drawn once before any is drawn again.
    batch_size : int
        Unlabelled samples per batch.
    """
    from napari_sslseg.core.training.sampler import shuffled_batches

    def draw(rng: np.random.Generator) -> Iterator[np.ndarray]:
        # The order of the labelled samples does not depend on the unlabelled ones.
        others = shuffled_batches(indices, batch_size)(rng.spawn(1)[0])
        for batch in labelled(rng):
            yield np.concatenate([batch, next(others)])

    return draw
