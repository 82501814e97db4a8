"""TODO."""

import zlib
from collections.abc import Callable, Iterator

import numpy as np

Sampler = Callable[[np.random.Generator], Iterator[np.ndarray]]


def shuffled_batches(indices: np.ndarray, batch_size: int) -> Sampler:
    """Endless batches of full size; each index is seen once before any is seen again."""

    def draw(rng: np.random.Generator) -> Iterator[np.ndarray]:
        pool = np.empty(0, indices.dtype)
        while True:
            while len(pool) < batch_size:
                pool = np.concatenate([pool, rng.permutation(indices)])
            batch, pool = pool[:batch_size], pool[batch_size:]
            yield batch

    return draw


class Draws:
    """Batches of a sampler, whose position can be told and returned to.

    The position is the number of batches drawn: drawing indices again costs next to nothing beside
    training on them, and no sampler needs to say what it remembers.

    Parameters
    ----------
    sampler : Sampler
        Where the batches come from.
    seed : int
        Of its generator.
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
        """Draw until so many batches have been drawn in all."""
        while self.drawn < drawn:
            self.next()

    @property
    def position(self) -> dict[str, object]:
        """State of the generator, and a sum over what was drawn: the same for the same draws."""
        return {"generator": dict(self._rng.bit_generator.state), "sum": self._sum}
