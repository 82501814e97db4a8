"""What a pretext task does to a slice that is watched, and what the network makes of it."""

from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.pictures import PretextPreview
from napari_sslseg.core.pretext.base import PretextTask
from napari_sslseg.core.samples.store import SampleStore
from napari_sslseg.core.settings.preprocessing import Preprocessing
from napari_sslseg.core.settings.pretext.registry import TaskSettings
from napari_sslseg.core.training.watch import Watch, WatchedSlice

if TYPE_CHECKING:
    from torch import nn

FEW = 4
"""Examples of tasks that compare them."""


class PretextShow:
    """Makes the pictures of a pretraining.

    The draw is the same every time, so that one picture beside the next shows what was learnt.
    Tasks that restore show the slice that is watched; those that compare slices of a batch show it
    with some others, and those that compare scans, or learn from volumes, always the same ones.

    Parameters
    ----------
    watch : Watch
        What is wanted.
    store : SampleStore
        Samples of the training.
    task : TaskSettings
        The pretext task.
    runtime : PretextTask
        As it is trained.
    samples : ndarray
        Samples that the training learns from.
    seed : int
        Of everything random.
    """

    def __init__(
        self,
        watch: Watch,
        store: SampleStore,
        task: TaskSettings,
        runtime: PretextTask,
        samples: np.ndarray,
        seed: int,
    ) -> None:
        self._watch, self._store, self._runtime, self._seed = watch, store, runtime, seed
        rng = np.random.default_rng(seed)
        self._slice: WatchedSlice | None = None
        if task.compares_scans:
            # One of its own, since the temperature of PolyCL is that of the batches drawn last.
            other: PretextTask = task.build(store.size, seed)
            other.set_store(store)
            self._examples = next(other.batches(samples, FEW)(rng))
        else:
            least = runtime.min_batch
            count = 1 if least == 1 else max(least, FEW)
            self._examples = rng.permutation(samples)[:count]
            if isinstance(store.settings, Preprocessing):
                self._slice = WatchedSlice(store, store.settings)

    def __call__(self, model: "nn.Module") -> PretextPreview | None:
        """Make a picture; None if nothing is to be shown."""
        import torch

        wanted = self._watch.wanted
        if wanted is None:
            return None
        images = self._store.batch(self._examples)
        draws = torch.Generator().manual_seed(self._seed)
        parameters = self._runtime.sample_slices(self._examples, draws)
        if self._slice is not None:
            image, _ = self._slice.get(*wanted)
            if len(images) == 1:
                images = image
            elif image.shape[1:] == images.shape[1:]:
                images = torch.cat([image, images[1:]])
        device = next(model.parameters()).device
        return self._runtime.preview(images.to(device), parameters, model)
