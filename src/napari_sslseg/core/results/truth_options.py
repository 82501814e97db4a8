"""What is said about the labels of a truth: what is unknown, background, or not annotated."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.results.compared_labels import Labels, label_values
from napari_sslseg.core.scans.slices.annotated import Annotated, annotated_slices


class TruthOptions(NamedTuple):
    """What was said about the truth, see :func:`~napari_sslseg.core.results.evaluate.evaluate`."""

    ignore: int | None = None
    background: int = 0
    labelled_classes: Sequence[int] | None = None
    annotated: Annotated = None

    def known(self, labels: Labels) -> tuple[Labels, np.ndarray | None]:
        """Labels with 0 for the background and the unknown voxels, and which these are."""
        everywhere = self.annotated in (None, "all")
        if self.ignore is None and not self.background and everywhere:
            return labels, None
        values, scan = label_values(labels, "truth")
        unknown = None if self.ignore is None else values == self.ignore
        if not everywhere:
            if values.ndim != 3:
                raise DataError(
                    "Annotated slices need labels with three axes; leave them out for a single "
                    "slice."
                )
            left_out = np.zeros(values.shape, bool)
            name = "the truth" if scan is None else scan.name
            left_out[~annotated_slices(values, self.annotated, name)] = True
            unknown = left_out if unknown is None else unknown | left_out
        cleared = values == self.background
        values = np.where(cleared if unknown is None else cleared | unknown, 0, values)
        return values if scan is None else replace(scan, data=values), unknown

    def check(self, true: np.ndarray, name: str) -> None:
        """Refuse a class that is said not to be labelled."""
        if self.labelled_classes is None:
            return
        found = np.setdiff1d(np.unique(true), [0, *self.labelled_classes])
        if found.size:
            raise DataError(
                f"The class {found[0]} occurs in {name}, although it is said not to be labelled "
                "there; correct the list of labelled classes."
            )

    def scores(self, value: int) -> bool:
        """Whether a class is labelled in the truth."""
        return self.labelled_classes is None or value in self.labelled_classes
