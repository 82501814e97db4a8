"""Which unlabelled slices a fine-tuning learns from too, and how they come into its batches."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.samples.middle import middle_mask
from napari_sslseg.core.samples.store import content_hash
from napari_sslseg.core.scans.find import as_series
from napari_sslseg.core.scans.labelled import (
    LabelledScan,
    Scan,
    as_volume,
    scan_geometry,
    scan_subject,
)
from napari_sslseg.core.scans.series import Series, Source
from napari_sslseg.core.scans.sources import collect_scans, without_labels
from napari_sslseg.core.scans.volume import Volume

if TYPE_CHECKING:
    from napari_sslseg.core.samples.store import SampleStore
    from napari_sslseg.core.training.sampler import Sampler
    from napari_sslseg.core.training.weight_average import Averaged

UNLABELLED = "unlabelled"
"""Role of a scan in the record of a run: its labels, if it has any, were not looked at."""


def unlabelled_scans(
    scans: str | Path | Iterable[Scan | str],
    labelled: Sequence[LabelledScan],
    validation: Sequence[LabelledScan],
) -> list[Volume | Series]:
    """Scans to learn from without labels: those that are not there with labels already.

    Parameters
    ----------
    scans : path-like, Volume, Series, or several
        Also those with labels may be among them: the slices of these that nobody annotated are
        learnt from anyway. Nothing of a subject of ``validation`` is, or its Dice would be too
        good.
    labelled, validation : sequence of LabelledScan
        Scans with labels.

    Raises
    ------
    SslsegError
        If there is nothing at a path that was given.
    """
    known = {_identity(item.scan) for item in (*labelled, *validation)}
    apart = {scan_subject(item) for item in validation}
    if not isinstance(scans, str | Path):
        scans = list(scans)
        if not scans:
            return []
    found: list[Volume | Series] = []
    for given in map(without_labels, collect_scans(scans)):
        scan = as_series(given) if isinstance(given, Path) else given
        if _identity(scan) not in known and scan_subject(scan) not in apart:
            known.add(_identity(scan))
            found.append(scan)
    return sorted(found, key=lambda scan: scan.name)


def _identity(scan: Volume | Source) -> object:
    """What is the same for the same scan, however it was given."""
    if isinstance(scan, Volume):
        return id(scan)
    series = as_series(scan)
    return series.path.absolute(), series.name


def without_copies(
    scans: Sequence[Volume | Series], labelled: Sequence[LabelledScan]
) -> tuple[list[Volume | Series], list[str]]:
    """Leave out scans that are there with labels as well, in another file.

    Such as those that were copied into a folder of labelled scans. Only scans whose headers tell
    of the same grid are read for that.

    Parameters
    ----------
    scans : sequence of Volume or Series
        Scans to learn from without labels.
    labelled : sequence of LabelledScan
        Those of the training and of the validation.

    Returns
    -------
    list of Volume or Series, list of str
        Those that are left, and the names of the copies.
    """
    grids = [_grid(scan) for scan in scans]
    # Nothing is read of labelled scans either, unless there is something to compare them with.
    with_labels = [(_grid(item.scan), item.scan) for item in labelled] if grids else []
    shared = {grid for grid, _ in with_labels}.intersection(grids)
    known = {_values(scan) for grid, scan in with_labels if grid in shared}
    left: list[Volume | Series] = []
    again: list[str] = []
    for scan, grid in zip(scans, grids, strict=True):
        if grid in shared and _values(scan) in known:
            again.append(scan.name)
        else:
            left.append(scan)
    return left, again


def _grid(scan: Volume | Source) -> object:
    """What is the same for copies, by the header alone."""
    geometry = scan_geometry(scan)
    return geometry.display_shape, tuple(round(mm, 3) for mm in geometry.spacing)


def _values(scan: Volume | Source) -> str:
    """Hash of the values, whatever their type and order in the file."""
    return content_hash(b"", as_volume(scan).data.astype(np.float32))


def open_slices(store: "SampleStore", apart: Iterable[int], share: float) -> np.ndarray:
    """Samples that nobody annotated, of scans that are not kept apart.

    Parameters
    ----------
    store : SampleStore
        The samples.
    apart : iterable of int
        Numbers of the scans that are for the validation alone.
    share : float
        Share of each scan around its middle to learn from.

    Returns
    -------
    ndarray of int
        Indices.

    Raises
    ------
    DataError
        If there is none.
    """
    known = store.annotated | np.isin(store.scan_index, list(apart))
    found = np.flatnonzero(~known & middle_mask(store, share))
    if not found.size:
        raise DataError(
            f"There is no {store.noun} without labels to learn from; add unlabelled scans, or "
            "leave out the self-training (--unlabelled on the command line)."
        )
    return found


def counted(teacher: "Averaged", labelled: int, batch: np.ndarray) -> int:
    """How many samples of a batch a step uses: the labelled ones alone before the first round."""
    return len(batch) if teacher.round else labelled


def with_unlabelled(labelled: "Sampler", indices: np.ndarray, batch_size: int) -> "Sampler":
    """Batches of which the second half is of samples without labels.

    Parameters
    ----------
    labelled : Sampler
        Draws the first half, of ``batch_size`` samples.
    indices : ndarray of int
        Samples without labels; each is seen once before any is seen again.
    """
    from napari_sslseg.core.training.sampler import shuffled_batches

    def draw(rng: np.random.Generator) -> Iterator[np.ndarray]:
        # Labelled samples come in the same order whatever there is beside them.
        others = shuffled_batches(indices, batch_size)(rng.spawn(1)[0])
        for batch in labelled(rng):
            yield np.concatenate([batch, next(others)])

    return draw
