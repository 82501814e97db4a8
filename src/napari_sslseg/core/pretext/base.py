"""What every pretext task offers, so that training, preview and figures need not know which."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from napari_sslseg.core.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from napari_sslseg.core.job import Sampler
    from napari_sslseg.core.store import SampleStore


@dataclass(frozen=True, eq=False)
class PretextPreview:
    """What a pretext task does to some images: copies, safe to keep while training goes on.

    Arrays are of shape (N, C, H, W) for slices and (N, C, D, H, W) for volumes.

    Parameters
    ----------
    original : ndarray, shape (N, C, …)
        Preprocessed slices or volumes.
    corrupted : ndarray, shape (N, C, …)
        What the network sees.
    mask : ndarray of bool, shape (N, 1, …)
        Pixels that were replaced.
    restored : ndarray, shape (N, C, …), or None
        What the network makes of it; None without a network. Where the loss sees the masked
        pixels alone, the original stands at the others. With ``levels``, the levels that the
        network tells, shape (N, 1, …).
    error : ndarray, shape (N, C, …), or None
        Absolute difference of restored and original, in units of the preprocessed intensities;
        with ``levels``, of the levels, shape (N, 1, …).
    captions : mapping of str to str
        Plain words for the arrays, by name. One without a caption is not worth a picture.
    partner : ndarray, shape (N, C, …), or None
        The images that were fused in, for a task that fuses images.
    levels : ndarray, shape (N, 1, …), or None
        How strongly each pixel shows the partner, from 0 to 1.
    notes : tuple of str
        One line below each row, such as the side and the distance of a pair; none if empty.
    boxes : mapping of str to ndarray, shape (N, R, 4)
        Regions to outline, by the array that they lie in: top, left, height and width in pixels.
        On slices alone. Region r of one array belongs to region r of another.
    matrix : ndarray, shape (M, K), or None
        How alike a trained network finds examples: cosine similarities, or distances.
    separate_scans : bool
        Whether the arrays of a row show other scans, each on a grey scale of its own.
    matrix_title : str
        What the matrix holds.
    matrix_labels : tuple of str
        What its M rows are.
    matrix_columns : tuple of str
        What its K columns are; as the rows if empty.
    matrix_distances : bool
        Whether it holds distances, from 0 up, rather than cosine similarities, −1…1.
    """

    original: np.ndarray
    corrupted: np.ndarray
    mask: np.ndarray
    restored: np.ndarray | None
    error: np.ndarray | None
    captions: Mapping[str, str]
    partner: np.ndarray | None = None
    levels: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    boxes: Mapping[str, np.ndarray] = field(default_factory=dict)
    matrix: np.ndarray | None = None
    separate_scans: bool = False
    matrix_title: str = ""
    matrix_labels: tuple[str, ...] = ()
    matrix_columns: tuple[str, ...] = ()
    matrix_distances: bool = False


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
        from napari_sslseg.core.job import shuffled_batches

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
