"""Selection of pairs of organ crops, of the same or opposite sides (Dhere & Sivaswamy 2021).

The authors' program shuffles all crops and takes two at a time, so that the number of pairs of the
same side is random, and a pair of one subject is always of opposite sides. Here each batch contains
as many pairs of the same side as of opposite sides, and both members are always of different
subjects, so that the subject does not reveal the kind of pair.
"""

from collections.abc import Callable, Iterator

import numpy as np

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.pretext.contrast.pair_selection import CandidateRanges

LEFT, RIGHT, UNKNOWN = 0, 1, -1
"""Numbers of the sides of the patient in stores of organ crops."""

SIDE_NAMES = {LEFT: "left", RIGHT: "right"}


class SidePairs:
    """Draws partners for organ crops, without a loop over them.

    Parameters
    ----------
    crops : ndarray, shape (n,), integer
        Crops to draw from.
    side : ndarray, shape (n,), integer, or None
        Side of each crop: 0 left, 1 right, −1 unknown; crops of unknown side are left out. None if
        all crops are one side and their mirror images the other: then any crop of another subject
        is a partner.
    subject : ndarray, shape (n,)
        Subject of each crop.

    Attributes
    ----------
    firsts : ndarray, shape (m,)
        Positions of the crops that have partners of both kinds.

    Raises
    ------
    DataError
        If there is none; the message gives the reason.
    """

    def __init__(self, crops: np.ndarray, side: np.ndarray | None, subject: np.ndarray) -> None:
        self._mirrored = side is None
        if side is None:
            side = np.zeros(len(crops), int)
        known = side != UNKNOWN
        crops, side, subject = crops[known], side[known].astype(int), subject[known]
        subject = np.unique(subject, return_inverse=True)[1]
        # Sorted by side, then subject: candidates are a range without a range within it.
        order = np.lexsort((subject, side))
        self._crops, self._side, self._subject = crops[order], side[order], subject[order]
        self._n_subjects = int(subject.max(initial=-1)) + 1
        keys = self._side * self._n_subjects + self._subject
        self._starts = np.searchsorted(keys, np.arange(2 * self._n_subjects + 1))
        everywhere = np.arange(len(order))
        usable = self._partners(everywhere, np.ones(len(order), bool)).count > 0
        if not self._mirrored:
            usable &= self._partners(everywhere, np.zeros(len(order), bool)).count > 0
        self.firsts = np.flatnonzero(usable)
        if not len(self.firsts):
            self._raise_no_examples()

    def draw(self, firsts: np.ndarray, same: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw a partner for each crop.

        Parameters
        ----------
        firsts : ndarray, shape (M,)
            Positions in :attr:`firsts`, not crops.
        same : ndarray of bool, shape (M,)
            Whether the partner is of the same side; all True if sides are mirror images.
        rng : Generator
            Generator; the same state draws the same partners.

        Returns
        -------
        ndarray, shape (2M,)
            Crops: the first members of all pairs, then the second ones.
        """
        chosen = self.firsts[firsts]
        second = self._partners(chosen, same).draw(rng)
        return np.concatenate([self._crops[chosen], self._crops[second]])

    def batches(self, size: int) -> Callable[[np.random.Generator], Iterator[np.ndarray]]:
        """Endless batches of ``size`` pairs, shape (2 × ``size``,); every crop first once an epoch.

        Half of the pairs are of the same side; of an odd number, one more in every other batch.
        """

        def draw(rng: np.random.Generator) -> Iterator[np.ndarray]:
            waiting = np.empty(0, int)
            more = bool(rng.integers(2))
            while True:
                while len(waiting) < size:
                    waiting = np.concatenate([waiting, rng.permutation(len(self.firsts))])
                same = rng.permutation(balanced_mask(size, more=more)) | self._mirrored
                yield self.draw(waiting[:size], same, rng)
                waiting = waiting[size:]
                more = not more

        return draw

    def validation_pairs(
        self, most: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return first members and kinds of at most ``most`` validation pairs; each first twice.

        Returns
        -------
        firsts, same : ndarray, shape (M,)
            Arguments of :meth:`draw`; pairs 2k and 2k + 1 have one first member and differ in kind.
        """
        firsts = rng.permutation(len(self.firsts))[: max(1, most // 2)].repeat(2)
        return firsts, np.tile([True, self._mirrored], len(firsts) // 2)

    def _partners(self, at: np.ndarray, same: np.ndarray) -> CandidateRanges:
        """Return the ranges of possible partners: crops of the given side, of other subjects."""
        n, starts = self._n_subjects, self._starts
        side = np.where(same, self._side[at], 1 - self._side[at])
        own = side * n + self._subject[at]
        return CandidateRanges(
            (starts[side * n], starts[side * n + n]), (starts[own], starts[own + 1])
        )

    def _raise_no_examples(self) -> None:
        if not len(self._crops):
            raise DataError(
                "The side of all crops is unknown; give the label values of the left and the right "
                "organ, or the side of each scan."
            )
        sides = np.unique(self._side)
        if len(sides) < 2 and not self._mirrored:
            shown, missing = SIDE_NAMES[int(sides[0])], SIDE_NAMES[1 - int(sides[0])]
            raise DataError(
                f"All organ crops show the {shown} side, so there are no opposite sides to "
                f"compare; add scans that show the {missing} side."
            )
        if self._n_subjects < 2:
            raise DataError(
                "All organ crops are of one subject, but pairs need two; add scans of other "
                "subjects."
            )
        raise DataError(
            f"With {len(self._crops)} organ crops of {self._n_subjects} subjects no crop has "
            "partners of both kinds; add scans of other subjects that show both sides."
        )


def balanced_mask(n: int, *, more: bool) -> np.ndarray:
    """Return an array (n,) with the first half True; of an odd number one more or one fewer."""
    return np.arange(n) < (n + more) // 2
