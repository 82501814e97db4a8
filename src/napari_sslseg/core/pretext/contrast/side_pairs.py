"""Which organ crops form pairs: of the same side, or of opposite sides (Dhere & Sivaswamy 2021).

The authors' program shuffles all crops and takes two at a time, so that how many pairs are of one
side is left to chance, and a pair of one subject is always one of opposite sides. Here each batch
holds as many pairs of the same side as of opposite sides, and both members are always of different
subjects, so that the subject gives nothing away.
"""

from collections.abc import Callable, Iterator

import numpy as np

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.pretext.contrast.triplets import Places

LEFT, RIGHT, UNKNOWN = 0, 1, -1
"""Sides of the patient, as stores of organ crops number them."""

SIDE_NAMES = {LEFT: "left", RIGHT: "right"}


class SidePairs:
    """Draws partners for organ crops, without a loop over them.

    Parameters
    ----------
    crops : ndarray, shape (n,), integer
        Crops to draw from.
    side : ndarray, shape (n,), integer, or None
        Side of each: 0 left, 1 right, −1 unknown; crops of unknown side are left out. None if all
        crops count as one side and mirror images of them as the other: then any crop of another
        subject is a partner.
    subject : ndarray, shape (n,)
        Whose organ each crop shows.

    Attributes
    ----------
    firsts : ndarray, shape (m,)
        Places of the crops that have partners of both kinds.

    Raises
    ------
    DataError
        If there is none; the message says why.
    """

    def __init__(self, crops: np.ndarray, side: np.ndarray | None, subject: np.ndarray) -> None:
        self._mirrored = side is None
        if side is None:
            side = np.zeros(len(crops), int)
        known = side != UNKNOWN
        crops, side, subject = crops[known], side[known].astype(int), subject[known]
        subject = np.unique(subject, return_inverse=True)[1]
        # Sorted by side, then subject: what is drawn from is a run, less a run within it.
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
            self._explain()

    def draw(self, firsts: np.ndarray, same: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw a partner for each crop.

        Parameters
        ----------
        firsts : ndarray, shape (M,)
            Positions in :attr:`firsts`, not crops.
        same : ndarray of bool, shape (M,)
            Whether the partner is to be of the same side; all True where sides are mirror images.
        rng : Generator
            The same state draws the same partners.

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

        Half of the pairs are of the same side. Of an odd number one more is, in every other batch.
        """

        def draw(rng: np.random.Generator) -> Iterator[np.ndarray]:
            waiting = np.empty(0, int)
            more = bool(rng.integers(2))
            while True:
                while len(waiting) < size:
                    waiting = np.concatenate([waiting, rng.permutation(len(self.firsts))])
                same = rng.permutation(half(size, more=more)) | self._mirrored
                yield self.draw(waiting[:size], same, rng)
                waiting = waiting[size:]
                more = not more

        return draw

    def both_kinds(self, most: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """First members and kinds of at most ``most`` pairs, to validate on: each first twice.

        Returns
        -------
        firsts, same : ndarray, shape (M,)
            As :meth:`draw` takes them; neighbours share the first member and differ in kind.
        """
        firsts = rng.permutation(len(self.firsts))[: max(1, most // 2)].repeat(2)
        return firsts, np.tile([True, self._mirrored], len(firsts) // 2)

    def _partners(self, at: np.ndarray, same: np.ndarray) -> Places:
        """Where the possible partners of crops lie: on the wanted side, of other subjects."""
        n, starts = self._n_subjects, self._starts
        side = np.where(same, self._side[at], 1 - self._side[at])
        own = side * n + self._subject[at]
        return Places((starts[side * n], starts[side * n + n]), (starts[own], starts[own + 1]))

    def _explain(self) -> None:
        if not len(self._crops):
            raise DataError(
                "Of no crop is it known which side it shows; name the label values of the left and "
                "the right organ, or the side of each scan."
            )
        sides = np.unique(self._side)
        if len(sides) < 2 and not self._mirrored:
            shown, missing = SIDE_NAMES[int(sides[0])], SIDE_NAMES[1 - int(sides[0])]
            raise DataError(
                f"All organ crops show the {shown} side, so there are no opposite sides to tell "
                f"apart; add scans that show the {missing} one."
            )
        if self._n_subjects < 2:
            raise DataError(
                "All organ crops are of one subject, but pairs are of two; add scans of others."
            )
        raise DataError(
            f"With {len(self._crops)} organ crops of {self._n_subjects} subjects no crop has "
            "partners of both kinds; add scans of other subjects that show both sides."
        )


def half(n: int, *, more: bool) -> np.ndarray:
    """Say yes to half of ``n``, and of an odd number to one more, or one fewer: bool, (n,)."""
    return np.arange(n) < (n + more) // 2
