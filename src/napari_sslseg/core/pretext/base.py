"""What every pretext task offers to the training, the preview and the figures."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.example_pictures import PretextPreview
from napari_sslseg.core.common.sizes import Size
from napari_sslseg.core.settings.pretext.base import PretextSettings

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from napari_sslseg.core.samples.store import SampleStore
    from napari_sslseg.core.training.sampler import Sampler


class BaseTask(ABC):
    """Base class of pretext tasks: trains the unmodified network on samples drawn one by one.

    A subclass adds at least :meth:`sample`, and ``apply``, ``loss`` and ``preview`` as in
    :class:`PretextTask`; :class:`~napari_sslseg.core.pretext.restoration.base.RestorationTask`
    has these for tasks that restore an image.

    Parameters
    ----------
    settings : PretextSettings
        Settings of the task.
    image_size : tuple of int
        Height and width of slices in pixels; or slices, height and width of volumes in voxels.
    seed : int
        Seed of what is drawn in advance.

    Attributes
    ----------
    splits : bool
        Whether a batch that is too large for the memory may pass through the network in parts. Not
        if the network itself compares the images of a batch. The loss sees the whole batch.
    groups : int
        Parts of equal length that a batch consists of, such as anchors, positives and negatives.
    min_batch : int
        Smallest number of samples in a batch, for tasks that compare samples.
    """

    splits: bool = True
    groups: int = 1
    min_batch: ClassVar[int] = 1

    def __init__(self, settings: PretextSettings, image_size: Size, seed: int = 0) -> None:
        self.settings = settings
        self.image_size = image_size

    @property
    def name(self) -> str:
        """Key of the task, as in its settings."""
        return self.settings.kind

    @property
    def title(self) -> str:
        """Plain words for a clinician."""
        return self.settings.title

    def output_channels(self, in_channels: int) -> int:
        """Return the number of output channels that the network needs: those of the image."""
        return in_channels

    def wrap(self, network: Any) -> "nn.Module":
        """Make the model to train from a network; parts to transfer keep their names."""
        return network

    def set_store(self, store: "SampleStore") -> None:  # noqa: B027  # most tasks need nothing
        """Read from the store what the task needs, such as the scan of each slice."""

    def batches(self, slices: np.ndarray, size: int) -> "Sampler":
        """Endless batches of slices to train on, each slice once an epoch.

        Raises
        ------
        ConfigError
            If the task compares the samples of a batch, and there are fewer than ``min_batch``.
        """
        from napari_sslseg.core.training.sampler import shuffled_batches

        if min(size, len(slices)) < self.min_batch:
            raise ConfigError(
                f"The pretext task {self.name} compares the samples of a batch, so it needs a "
                f"batch size of at least {self.min_batch}, and as many samples to train on; here "
                f"the batch size is {size}, with {len(slices)} samples in all."
            )
        # A batch must not contain a sample twice if its samples are compared.
        return shuffled_batches(slices, min(size, len(slices)) if self.min_batch > 1 else size)

    def validation_batches(
        self, slices: np.ndarray, most: int, size: int, seed: int
    ) -> list[np.ndarray]:
        """Batches of held-out slices, evenly spread; none if they are too few to compare."""
        if len(slices) > most:
            slices = slices[np.linspace(0, len(slices) - 1, most).round().astype(int)]
        if len(slices) < self.min_batch:
            return []
        parts = min(-(-len(slices) // size), len(slices) // self.min_batch)
        return np.array_split(slices, max(parts, 1)) if len(slices) else []

    @abstractmethod
    def sample(self, n: int, generator: "torch.Generator") -> Any:
        """Draw the parameters of ``n`` images."""

    def sample_slices(self, slices: np.ndarray, generator: "torch.Generator") -> Any:
        """Draw the parameters of these slices of the store."""
        return self.sample(len(slices), generator)

    def metrics(self, model: "nn.Module", images: "Tensor", parameters: Any) -> "dict[str, float]":
        """Validation metrics besides the loss, such as those that show a collapse."""
        return {}


class PretextTask(Protocol):
    """A pretext task for slices or volumes of one size, as ``build`` of its settings returns it.

    Only ``sample`` draws random numbers: the same parameters give the same corruption in training,
    in validation and in a preview.
    """

    @property
    def name(self) -> str:
        """Key of the task, as in its settings."""
        ...

    @property
    def title(self) -> str:
        """Plain words for a clinician."""
        ...

    @property
    def splits(self) -> bool:
        """Whether a batch may pass through the network in parts."""
        ...

    @property
    def min_batch(self) -> int:
        """Smallest number of samples in a batch, for tasks that compare samples."""
        ...

    @property
    def groups(self) -> int:
        """Number of parts of equal length that a batch consists of."""
        ...

    def output_channels(self, in_channels: int) -> int:
        """Return the number of output channels that the network needs for this task."""
        ...

    def wrap(self, network: Any) -> "nn.Module":
        """Make the model to train from a network; parts to transfer keep their names."""
        ...

    def set_store(self, store: "SampleStore") -> None:
        """Read from the store what the task needs, such as the scan of each slice."""
        ...

    def batches(self, slices: np.ndarray, size: int) -> "Sampler":
        """Endless batches of slices to train on."""
        ...

    def validation_batches(
        self, slices: np.ndarray, most: int, size: int, seed: int
    ) -> list[np.ndarray]:
        """Batches of held-out slices to validate on, the same every time."""
        ...

    def sample(self, n: int, generator: "torch.Generator") -> Any:
        """Draw the parameters of ``n`` images, from a generator on the CPU."""
        ...

    def sample_slices(self, slices: np.ndarray, generator: "torch.Generator") -> Any:
        """Draw the parameters of these slices of the store given to ``set_store``."""
        ...

    def metrics(self, model: "nn.Module", images: "Tensor", parameters: Any) -> "dict[str, float]":
        """Validation metrics besides the loss, such as those that show a collapse."""
        ...

    def apply(self, images: "Tensor", parameters: Any) -> "Tensor":
        """Make the network's input from images (N, C, …), which are not changed."""
        ...

    def loss(self, model: "nn.Module", images: "Tensor", parameters: Any) -> "Tensor":
        """Apply, pass through the network, and compare: a scalar."""
        ...

    def preview(
        self, images: "Tensor", parameters: Any, model: "nn.Module | None" = None
    ) -> PretextPreview:
        """Show what training does to images (N, C, …) with these parameters."""
        ...
