"""Samplers: which samples of a store make up each batch."""

import zlib
from collections.abc import Callable, Iterator

import numpy as np

Sampler = Callable[[np.random.Generator], Iterator[np.ndarray]]
"""From a random generator to an endless iterator of index arrays."""


def shuffled_batches(indices: np.ndarray, batch_size: int) -> Sampler:
    """Endless batches of equal size; each index is drawn once before any is drawn again."""

    def draw(rng: np.random.Generator) -> Iterator[np.ndarray]:
        pool = np.empty(0, indices.dtype)
        while True:
            while len(pool) < batch_size:
                pool = np.concatenate([pool, rng.permutation(indices)])
            batch, pool = pool[:batch_size], pool[batch_size:]
            yield batch

    return draw


class BatchSequence:
    """Batches of a sampler, with a position that can be saved and restored.

    The position is the number of batches drawn. To restore it, the indices are drawn again, which
    takes next to no time compared with training on them; so samplers need no state of their own.

    Parameters
    ----------
    sampler : Sampler
        Where the batches come from.
    seed : int
        Seed of its generator.
    """

    def __init__(self, sampler: Sampler, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._batches = sampler(self._rng)
        self.drawn = 0
        self._sum = 0

    def next(self) -> np.ndarray:
        """Draw the next batch."""
        self.drawn += 1
        batch = next(self._batches)
        self._sum = zlib.crc32(batch.tobytes(), self._sum)
        return batch

    def skip_to(self, drawn: int) -> None:
        """Draw until this many batches have been drawn in all."""
        while self.drawn < drawn:
            self.next()

    @property
    def position(self) -> dict[str, object]:
        """State of the generator, and a checksum over all batches drawn."""
        return {"generator": dict(self._rng.bit_generator.state), "sum": self._sum}
