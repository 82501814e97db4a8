"""Steps of a pretraining: the split, the network, the loss and the validation."""

from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.compute.distributed import (
    all_reduce_sum,
    assign_to_processes,
    single_process,
)
from napari_sslseg.core.common.events import Event, Message, Validation
from napari_sslseg.core.samples.build import Store
from napari_sslseg.core.samples.middle_slices import middle_mask
from napari_sslseg.core.settings.networks import NetworkSettings
from napari_sslseg.core.settings.pretext.registry import TaskSettings
from napari_sslseg.core.settings.stages import PretrainSettings
from napari_sslseg.core.stages.split import split_subjects

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from napari_sslseg.core.pretext.base import PretextTask

# Enough slices for a stable score, few enough to be quick.
VALIDATION_SLICES = 128
LEAST_SUBJECTS_TO_SPLIT = 5
# The spread of embeddings is 1 if they are spread evenly over the sphere.
COLLAPSED = 0.05


def split_samples(
    store: Store, settings: PretrainSettings, pretext: "PretextTask", task: TaskSettings
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Training slices, validation slices and validation batches, split by subject.

    Where no validation batch can be made, all slices are used for training.
    """
    training, validation = _split_slices(store, settings, 2 if task.compares_scans else 1)
    size, seed = settings.training.batch_size, settings.training.seed
    batches = pretext.validation_batches(validation, VALIDATION_SLICES, size, seed)
    if not batches:
        training, validation = np.union1d(training, validation), validation[:0]
    return training, validation, batches


def _split_slices(
    store: Store, settings: PretrainSettings, least: int
) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation slices, with at least ``least`` validation subjects if any."""
    share = settings.validation_share
    if share:
        share = max(share, least / len(store.subjects))
    middle = middle_mask(store, settings.middle_share)
    if share == 0 or len(store.subjects) < LEAST_SUBJECTS_TO_SPLIT:
        return np.flatnonzero(middle), np.empty(0, np.intp)
    parts = split_subjects(
        store.subjects, {"validation": share, "training": 1 - share}, settings.training.seed
    )
    training, validation = (store.indices(parts[name]) for name in ("training", "validation"))
    return training[middle[training]], validation[middle[validation]]


def report_missing_validation(
    store: Store, settings: PretrainSettings, n_validation: int
) -> Iterator[Message]:
    """Report why there is no validation, if one was wanted."""
    if not settings.validation_share or n_validation:
        return
    reason = f"there are fewer than {LEAST_SUBJECTS_TO_SPLIT} subjects"
    if len(store.subjects) >= LEAST_SUBJECTS_TO_SPLIT:
        reason = "too few samples could be compared"
    yield Message(f"There is no validation, since {reason}; all are used for training.")


def make_pretext_model(
    network: NetworkSettings, pretext: "PretextTask", channels: int
) -> "nn.Module":
    """Network for images of so many channels, with the head that a pretext task needs."""
    from napari_sslseg.core.networks.build import make_network

    head = pretext.output_channels(channels)
    return pretext.wrap(make_network(network, channels, head, output_kernel=3))


@dataclass(frozen=True, eq=False)
class PretextObjective:
    """Loss and validation of a pretext task on the samples of a store.

    Parameters
    ----------
    store : Store
        The samples.
    pretext : PretextTask
        The task.
    device : torch.device
        Device of the model.
    batches : list of ndarray
        Validation batches.
    seed : int
        Seed of the validation.
    """

    store: Store
    pretext: "PretextTask"
    device: "torch.device"
    batches: list[np.ndarray]
    seed: int

    def loss(
        self, model: "nn.Module", indices: np.ndarray, generator: "torch.Generator"
    ) -> "Tensor":
        """Loss of one batch."""
        images = self.store.batch(indices).to(self.device, non_blocking=True)
        return self.pretext.loss(model, images, self.pretext.sample_slices(indices, generator))

    def validate(self, model: "nn.Module") -> dict[str, float]:
        """Mean loss and other figures over the validation batches.

        The random corruptions are the same at each validation, so that the figures compare.
        """
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        totals: dict[str, float] = defaultdict(float)
        for batch, own in assign_to_processes(self.batches):
            # Drawn in every process, so that all generators have the same state.
            parameters = self.pretext.sample_slices(batch, generator)
            if not own:
                continue
            images = self.store.batch(batch).to(self.device)
            with single_process():
                found = {"loss": float(self.pretext.loss(model, images, parameters))}
                found |= self.pretext.metrics(model, images, parameters)
            for name, value in found.items():
                totals[name] += value * len(batch)
        count = sum(map(len, self.batches))
        return {name: total / count for name, total in all_reduce_sum(totals).items()}


def report_collapse(events: Generator[Event, None, None]) -> Iterator[Event]:
    """Pass on events, and report once if the embeddings have collapsed."""
    reported = False
    with closing(events) as running:
        for event in running:
            yield event
            spread = event.metrics.get("spread") if isinstance(event, Validation) else None
            if spread is not None and spread < COLLAPSED and not reported:
                reported = True
                yield Message(
                    f"The network gives nearly the same output for all inputs (spread {spread:.3f} "
                    "of 1): it has collapsed, or does not yet distinguish samples. Train "
                    "longer, lower the learning rate, or use larger batches."
                )
