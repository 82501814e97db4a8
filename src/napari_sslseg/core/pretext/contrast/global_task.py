"""Global contrastive learning: two views, an encoder with a head, NT-Xent."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_sslseg.core.common.compute.collectives import all_gather_rows
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.example_pictures import PretextPreview
from napari_sslseg.core.common.sizes import Size
from napari_sslseg.core.pretext.base import BaseTask
from napari_sslseg.core.pretext.contrast.losses import (
    cosine_similarity,
    embedding_spread,
    nt_xent,
    partition_contrast,
)
from napari_sslseg.core.pretext.contrast.views import ViewParameters, apply_view, sample_view
from napari_sslseg.core.pretext.restoration.base import forward
from napari_sslseg.core.settings.pretext.global_contrast import GlobalContrast

if TYPE_CHECKING:
    from napari_sslseg.core.networks.base import SegmentationNetwork
    from napari_sslseg.core.samples.store import SampleStore

CAPTIONS = {
    "original": "Original",
    "corrupted": "Another view of it",
    "partner": "One view of it",
}


class EncoderWithHead(nn.Module):
    """The encoder of a network and a head of two layers, from slices to embeddings.

    Linear, ReLU, linear without bias (Chaitanya et al. 2020). The encoder keeps its name, so that
    it is transferred like any other; the head is not.

    Parameters
    ----------
    network : SegmentationNetwork
        Only its encoder is used.
    inputs : int
        Length of the input of the head.
    settings : GlobalContrast
        Units and length of the embedding.
    """

    def __init__(
        self, network: "SegmentationNetwork", inputs: int, settings: GlobalContrast
    ) -> None:
        super().__init__()
        self.encoder = network.encoder
        self.flat = settings.head == "flat"
        self.head = nn.Sequential(
            nn.Linear(inputs, settings.hidden),
            nn.ReLU(),
            nn.Linear(settings.hidden, settings.embedding, bias=False),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings of images (N, C, H, W), shape (N, D)."""
        coarsest = self.encoder(images)[-1]
        return self.head(coarsest.flatten(1) if self.flat else coarsest.mean(dim=(2, 3)))


@dataclass(frozen=True, eq=False)
class ContrastParameters:
    """Two views of each of N slices, with part and scan of each slice, on the CPU."""

    first: ViewParameters
    second: ViewParameters
    part: Tensor
    scan: Tensor


class GlobalContrastTask(BaseTask):
    """Global contrastive learning (Umapathy et al. 2022) for slices of one size."""

    min_batch = 2

    settings: GlobalContrast

    def __init__(self, settings: GlobalContrast, image_size: Size, seed: int = 0) -> None:
        super().__init__(settings, image_size, seed)
        self._part = self._scan = torch.zeros(0, dtype=torch.int64)

    def wrap(self, network: Any) -> EncoderWithHead:
        """Put the head on the encoder of a network."""
        inputs = network.embedding_channels
        if self.settings.head == "flat":
            places = [-(-side // network.stride) for side in self.image_size]
            inputs *= places[0] * places[1]
        return EncoderWithHead(network, inputs, self.settings)

    def set_store(self, store: "SampleStore") -> None:
        """Read scan and part of the scan of each slice."""
        starts = np.array([scan.start for scan in store.scans])
        counts = np.array([scan.n_slices for scan in store.scans])
        place = np.arange(len(store)) - starts[store.scan_index]
        part = place * self.settings.parts // counts[store.scan_index]
        self._part, self._scan = torch.from_numpy(part), torch.from_numpy(store.scan_index)

    def sample(self, n: int, generator: torch.Generator) -> ContrastParameters:
        """Draw two views of ``n`` slices of one scan."""
        nothing = torch.zeros(n, dtype=torch.int64)
        return ContrastParameters(*self._views(n, generator), nothing, nothing)

    def sample_slices(self, slices: np.ndarray, generator: torch.Generator) -> ContrastParameters:
        """Draw two views of each of these slices of the store."""
        at = torch.from_numpy(slices)
        views = self._views(len(slices), generator)
        return ContrastParameters(*views, self._part[at], self._scan[at])

    def _views(self, n: int, generator: torch.Generator) -> tuple[ViewParameters, ViewParameters]:
        options = {
            "least_area": self.settings.least_area,
            "intensity": self.settings.intensity,
        }
        return sample_view(n, generator, **options), sample_view(n, generator, **options)

    def apply(self, images: Tensor, parameters: ContrastParameters) -> Tensor:
        """Return the first view of images (N, C, H, W), which are not changed."""
        return apply_view(images, parameters.first)

    def loss(self, model: nn.Module, images: Tensor, parameters: ContrastParameters) -> Tensor:
        """Contrast the embeddings of both views of images (N, C, H, W).

        Raises
        ------
        ConfigError
            If there is only one image.
        """
        if len(images) < 2:
            raise ConfigError(
                "Contrastive learning compares the slices of a batch; choose a batch size of at "
                "least 2, and the larger the better."
            )
        # Slices of other processes are negatives as well.
        first, second = map(all_gather_rows, self._embed(model, images, parameters))
        part, scan = all_gather_rows(parameters.part), all_gather_rows(parameters.scan)
        temperature = self.settings.temperature
        if self.settings.positives == "views+scans":
            return partition_contrast(first, second, part, scan, temperature)
        same = None
        if self.settings.negatives == "other-parts":
            same = part[:, None] == part[None]
        return nt_xent(first, second, temperature, same=same)

    def metrics(
        self, model: nn.Module, images: Tensor, parameters: ContrastParameters
    ) -> dict[str, float]:
        """Metrics that show a collapse: spread, and similarities of pairs."""
        first, second = self._embed(model, images, parameters)
        similarity = cosine_similarity(first, second)
        off = ~torch.eye(len(first), dtype=torch.bool, device=first.device)
        return {
            "spread": float(embedding_spread(torch.cat([first, second]))),
            "similarity of positives": float(similarity.diagonal().mean()),
            "similarity of negatives": float(similarity[off].mean()) if len(first) > 1 else 0.0,
        }

    def preview(
        self, images: Tensor, parameters: ContrastParameters, model: nn.Module | None = None
    ) -> PretextPreview:
        """Show both views of these images and, with a model, their similarities.

        Rows of the matrix are the second views, columns the first ones.
        """
        first, second = self._both(images, parameters)
        n, _, height, width = images.shape
        matrix = None
        if model is not None:
            embeddings = forward(model, torch.cat([first, second]))
            a, b = embeddings.chunk(2)
            matrix = cosine_similarity(b, a).cpu().numpy()
        return PretextPreview(
            original=images.cpu().numpy().copy(),
            corrupted=first.cpu().numpy(),
            mask=np.zeros((n, 1, height, width), bool),
            restored=None,
            error=None,
            captions=CAPTIONS,
            partner=second.cpu().numpy(),
            matrix=matrix,
            matrix_title="Similarity of the views for the network\n"
            "(cosine similarity; best if bright on the diagonal only)",
            matrix_labels=tuple(f"one view of {number}" for number in range(1, n + 1)),
            matrix_columns=tuple(f"another view of {number}" for number in range(1, n + 1)),
        )

    def _both(self, images: Tensor, parameters: ContrastParameters) -> tuple[Tensor, Tensor]:
        return apply_view(images, parameters.first), apply_view(images, parameters.second)

    def _embed(
        self, model: nn.Module, images: Tensor, parameters: ContrastParameters
    ) -> tuple[Tensor, Tensor]:
        # Both views in one pass, so that batch statistics are of both.
        first, second = model(torch.cat(self._both(images, parameters))).chunk(2)
        return first, second
