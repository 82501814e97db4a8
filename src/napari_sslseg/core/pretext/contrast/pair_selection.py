"""Selection of positives and negatives among slices (PolyCL).

After PolyCL (Moseley & Imran), which selects by scan (S), by the presence of an organ (O), or by
both (M). Each anchor has one positive and exactly one negative. They are drawn again in every epoch
from a seeded generator, while the authors' code draws them once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.settings.pretext.polycl import Selection


@dataclass(frozen=True, eq=False)
class Triplets:
    """Slices of a batch of examples, each an index array of shape (M,)."""

    anchors: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray

    def indices(self) -> np.ndarray:
        """All slices to load: anchors, then positives, then negatives, shape (3M,)."""
        return np.concatenate([self.anchors, self.positives, self.negatives])


class ExampleSelector:
    """Draws positives and negatives for anchors, without a loop over them.

    Parameters
    ----------
    selection : {"scan", "organ", "scan+organ"}
        - scan: the positive is another slice of the same scan, the negative any slice of another;
        - organ: the positive is another slice, of any scan, on which the organ is present (or
          absent) as on the anchor; the negative is one on which it is not;
        - scan+organ: the positive is of the same scan and presence, the negative of another scan
          and the opposite presence.
    slices : ndarray, shape (n,), integer
        Slices to draw from.
    scan : ndarray, shape (n,), integer
        Scan of each of them.
    presence : ndarray of bool, shape (n,), optional
        Whether the slice contains the organ, from the user or from training masks only; required
        unless the selection is by scan.

    Raises
    ------
    DataError
        If no slice has both a positive and a negative; the message gives the reason.
    """

    def __init__(
        self,
        selection: Selection,
        slices: np.ndarray,
        scan: np.ndarray,
        presence: np.ndarray | None = None,
    ) -> None:
        if selection != "scan" and presence is None:
            raise DataError(
                "Selection by organ needs the slices that contain the organ; tag the slices, or "
                "give training masks."
            )
        self.selection = selection
        scans = np.unique(scan, return_inverse=True)[1]
        tagged = np.zeros(len(slices), int)
        if presence is not None and selection != "scan":
            tagged = presence.astype(int)
        # Sorted by presence, then scan: candidates are a range without a range within it.
        order = np.lexsort((scans, tagged))
        self._slices, scans, tagged = slices[order], scans[order], tagged[order]
        n_scans = int(scans.max(initial=-1)) + 1
        # Start of the range of each (presence, scan), and the end of the last range.
        keys = tagged * n_scans + scans
        self._starts = np.searchsorted(keys, np.arange(2 * n_scans + 1))
        self._scan, self._presence, self._n_scans = scans, tagged, n_scans
        positive, negative = self._candidates(np.arange(len(order)))
        usable = (positive.count > 0) & (negative.count > 0)
        self.anchors = np.flatnonzero(usable)
        if not len(self.anchors):
            self._raise_no_examples(n_scans, positive.count, negative.count)

    def draw(self, anchors: np.ndarray, rng: np.random.Generator) -> Triplets:
        """Draw a positive and a negative for each anchor.

        Parameters
        ----------
        anchors : ndarray, shape (M,)
            Positions in :attr:`anchors`, not slices.
        rng : Generator
            Generator; the same state draws the same examples.
        """
        chosen = self.anchors[anchors]
        positive, negative = self._candidates(chosen)
        return Triplets(
            self._slices[chosen],
            self._slices[positive.draw(rng)],
            self._slices[negative.draw(rng)],
        )

    def batches(self, size: int) -> Callable[[np.random.Generator], Iterator[np.ndarray]]:
        """Endless batches of ``size`` triplets; every anchor once an epoch.

        Each batch contains 3 × ``size`` slices: anchors, positives, negatives.
        """

        def draw(rng: np.random.Generator) -> Iterator[np.ndarray]:
            waiting = np.empty(0, int)
            while True:
                while len(waiting) < size:
                    waiting = np.concatenate([waiting, rng.permutation(len(self.anchors))])
                yield self.draw(waiting[:size], rng).indices()
                waiting = waiting[size:]

        return draw

    def _candidates(self, at: np.ndarray) -> tuple["CandidateRanges", "CandidateRanges"]:
        """Return the ranges of positives and negatives of positions in the sorted order."""
        scan, presence, n, starts = self._scan[at], self._presence[at], self._n_scans, self._starts
        own = presence * n + scan
        other = (1 - presence) * n + scan
        alike = starts[presence * n], starts[presence * n + n]
        unlike = starts[(1 - presence) * n], starts[(1 - presence) * n + n]
        nothing = np.zeros_like(at), np.zeros_like(at)
        if self.selection == "scan":
            same_scan = starts[own], starts[own + 1]
            return CandidateRanges(same_scan, (at, at + 1)), CandidateRanges(alike, same_scan)
        if self.selection == "organ":
            return CandidateRanges(alike, (at, at + 1)), CandidateRanges(unlike, nothing)
        return (
            CandidateRanges((starts[own], starts[own + 1]), (at, at + 1)),
            CandidateRanges(unlike, (starts[other], starts[other + 1])),
        )

    def _raise_no_examples(
        self, n_scans: int, positives: np.ndarray, negatives: np.ndarray
    ) -> None:
        if self.selection != "organ" and n_scans < 2:
            raise DataError(
                "All slices are of one scan, so there are no negatives from another scan; add a "
                "second scan, or select examples by organ."
            )
        if self.selection != "scan" and len(np.unique(self._presence)) < 2:
            where = "every" if self._presence.all() else "no"
            raise DataError(
                f"The organ is on {where} slice, so there is nothing to compare it with; tag "
                "slices with and without it, or use more of each scan (--middle-share 1)."
            )
        missing = "positive" if not (positives > 0).any() else "negative"
        raise DataError(f"No slice has a {missing} example; add scans, or select examples by scan.")


class CandidateRanges:
    """For many anchors, the range of positions ``run`` without the range ``without`` inside it."""

    def __init__(
        self, run: tuple[np.ndarray, np.ndarray], without: tuple[np.ndarray, np.ndarray]
    ) -> None:
        self.begin = run[0]
        self.gap, gap_end = without
        self.skip = gap_end - self.gap
        self.count = run[1] - run[0] - self.skip

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        place = self.begin + rng.integers(0, self.count)
        return place + np.where(place >= self.gap, self.skip, 0)
