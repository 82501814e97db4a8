"""Previews of a pretext task during its training."""

from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.example_pictures import PretextPreview
from napari_sslseg.core.pretext.base import PretextTask
from napari_sslseg.core.samples.store import SampleStore
from napari_sslseg.core.settings.preprocessing import Preprocessing
from napari_sslseg.core.settings.pretext.registry import TaskSettings
from napari_sslseg.core.training.watch import Watch, WatchedSlice

if TYPE_CHECKING:
    from torch import nn

FEW = 4
"""Number of examples in a preview of a task that compares them."""


class PretextShow:
    """Makes the previews of a pretraining.

    The random parameters are the same every time, so that successive previews show the progress.
    Tasks that restore an image show the watched slice; tasks that compare the slices of a batch
    show it with some others; tasks that compare scans or train on volumes always show the same
    samples.

    Parameters
    ----------
    watch : Watch
        Request for previews.
    store : SampleStore
        Samples of the training.
    task : TaskSettings
        Settings of the pretext task.
    runtime : PretextTask
        The task of the training.
    samples : ndarray
        Indices of the training samples.
    seed : int
        Seed of the examples and of their parameters.
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
            # A separate task, because drawing batches sets the temperature of PolyCL.
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
        """Make a preview; None if none is requested."""
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
