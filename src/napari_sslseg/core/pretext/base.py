"""What every pretext task offers, so that training, preview and figures need not know which."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class PretextPreview:
    """What a pretext task does to some slices: copies, safe to keep while training goes on.

    Parameters
    ----------
    original : ndarray, shape (N, C, H, W)
        Preprocessed slices.
    corrupted : ndarray, shape (N, C, H, W)
        What the network sees.
    mask : ndarray of bool, shape (N, 1, H, W)
        Pixels that were replaced.
    restored : ndarray, shape (N, C, H, W), or None
        What the network makes of it; None without a network.
    error : ndarray, shape (N, C, H, W), or None
        Absolute difference of restored and original, in units of the preprocessed intensities.
    captions : mapping of str to str
        Plain words for each array above, by its name.
    """

    original: np.ndarray
    corrupted: np.ndarray
    mask: np.ndarray
    restored: np.ndarray | None
    error: np.ndarray | None
    captions: Mapping[str, str]


class PretextTask(Protocol):
    """A pretext task made for one slice size, as its settings' ``build`` returns it.

    Randomness is drawn by ``sample`` alone: the same parameters give the same corruption in
    training, in validation and in a preview.
    """

    name: str
    """Key of the task, as in its settings."""

    title: str
    """Plain words for a clinician."""

    def head(self, in_channels: int) -> int:
        """Give the number of output channels that the network needs for this task."""
        ...

    def sample(self, n: int, generator: "torch.Generator") -> Any:
        """Draw what happens to each of ``n`` images, from a generator on the CPU."""
        ...

    def apply(self, images: "Tensor", parameters: Any) -> "Tensor":
        """Make the network's input from images (N, C, H, W), which stay as they are."""
        ...

    def loss(self, model: "nn.Module", images: "Tensor", parameters: Any) -> "Tensor":
        """Apply, pass through the network, and compare: a scalar."""
        ...

    def preview(
        self, images: "Tensor", parameters: Any, model: "nn.Module | None" = None
    ) -> PretextPreview:
        """Show what training does to images (N, C, H, W) with these parameters."""
        ...
