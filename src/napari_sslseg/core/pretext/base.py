"""What every pretext task offers, so that training, preview and figures need not know which."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.pictures import PretextPreview

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from napari_sslseg.core.samples.store import SampleStore
    from napari_sslseg.core.training.sampler import Sampler


class SliceTask(ABC):
    """What most tasks need not say: train the network as it is, on slices drawn one by one.

    Attributes
    ----------
    splits : bool
        Whether a batch that is too large for the memory may pass through the network in parts: not
        where the network itself compares the images of a batch. The loss sees all of them.
    groups : int
        Parts of equal length that a batch consists of, such as anchors, positives and negatives.
    """

    splits: bool = True
    groups: int = 1

    name: ClassVar[str]
    least: ClassVar[int] = 1
    """Samples that a batch must hold, for tasks that compare them."""

    def head(self, in_channels: int) -> int:
        """Give the number of output channels that the network needs: the image's own."""
        return in_channels

    def wrap(self, network: Any) -> "nn.Module":
        """Make the model that is trained from a network; parts to transfer keep their names."""
        return network

    def know(self, store: "SampleStore") -> None:  # noqa: B027  # most need to know nothing
        """Learn from the store which scan each slice is from, where the task needs it."""

    def batches(self, slices: np.ndarray, size: int) -> "Sampler":
        """Endless batches of slices to train on, each slice once an epoch.

        Raises
        ------
        ConfigError
            If the task compares the samples of a batch, and there is but one to compare.
        """
        from napari_sslseg.core.training.sampler import shuffled_batches

        if min(size, len(slices)) < self.least:
            raise ConfigError(
                f"The pretext task {self.name} compares the samples of a batch, so it needs a "
                f"batch size of at least {self.least}, and as many samples to learn from; this is "
                f"a batch size of {size} and {len(slices)} in all."
            )
        # What is compared should not be compared with itself.
        return shuffled_batches(slices, min(size, len(slices)) if self.least > 1 else size)

    def watched(self, slices: np.ndarray, most: int, size: int, seed: int) -> list[np.ndarray]:
        """Batches of held-out slices, evenly spread; none if they are too few to compare."""
        if len(slices) > most:
            slices = slices[np.linspace(0, len(slices) - 1, most).round().astype(int)]
        if len(slices) < self.least:
            return []
        parts = min(-(-len(slices) // size), len(slices) // self.least)
        return np.array_split(slices, max(parts, 1)) if len(slices) else []

    @abstractmethod
    def sample(self, n: int, generator: "torch.Generator") -> Any:
        """Draw what happens to each of ``n`` images."""

    def sample_slices(self, slices: np.ndarray, generator: "torch.Generator") -> Any:
        """Draw what happens to these slices of the store."""
        return self.sample(len(slices), generator)

    def figures(self, model: "nn.Module", images: "Tensor", parameters: Any) -> "dict[str, float]":
        """Figures to watch besides the loss, such as those that tell a collapse."""
        return {}


class PretextTask(Protocol):
    """A pretext task made for slices or volumes of one size, as its settings' ``build`` returns it.

    Randomness is drawn by ``sample`` alone: the same parameters give the same corruption in
    training, in validation and in a preview.
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
    def least(self) -> int:
        """Samples that a batch must hold, for tasks that compare them."""
        ...

    @property
    def groups(self) -> int:
        """Parts of equal length that a batch consists of."""
        ...

    def head(self, in_channels: int) -> int:
        """Give the number of output channels that the network needs for this task."""
        ...

    def wrap(self, network: Any) -> "nn.Module":
        """Make the model that is trained from a network; parts to transfer keep their names."""
        ...

    def know(self, store: "SampleStore") -> None:
        """Learn from the store which scan each slice is from, where the task needs it."""
        ...

    def batches(self, slices: np.ndarray, size: int) -> "Sampler":
        """Endless batches of slices to train on."""
        ...

    def watched(self, slices: np.ndarray, most: int, size: int, seed: int) -> list[np.ndarray]:
        """Batches of held-out slices to validate on, the same every time."""
        ...

    def sample(self, n: int, generator: "torch.Generator") -> Any:
        """Draw what happens to each of ``n`` images, from a generator on the CPU."""
        ...

    def sample_slices(self, slices: np.ndarray, generator: "torch.Generator") -> Any:
        """Draw what happens to these slices of the store that the task knows."""
        ...

    def figures(self, model: "nn.Module", images: "Tensor", parameters: Any) -> "dict[str, float]":
        """Figures to watch besides the loss, such as those that tell a collapse."""
        ...

    def apply(self, images: "Tensor", parameters: Any) -> "Tensor":
        """Make the network's input from images (N, C, …), which stay as they are."""
        ...

    def loss(self, model: "nn.Module", images: "Tensor", parameters: Any) -> "Tensor":
        """Apply, pass through the network, and compare: a scalar."""
        ...

    def preview(
        self, images: "Tensor", parameters: Any, model: "nn.Module | None" = None
    ) -> PretextPreview:
        """Show what training does to images (N, C, …) with these parameters."""
        ...
