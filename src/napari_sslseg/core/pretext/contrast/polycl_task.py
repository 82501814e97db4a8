"""PolyCL: triplets of slices, an encoder with one layer, one negative for each anchor."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_sslseg.core.common.errors import ConfigError, DataError
from napari_sslseg.core.common.example_pictures import PretextPreview
from napari_sslseg.core.common.sizes import Size
from napari_sslseg.core.pretext.base import BaseTask
from napari_sslseg.core.pretext.contrast.losses import cosine_similarity, embedding_spread, polycl
from napari_sslseg.core.pretext.contrast.pair_selection import ExampleSelector
from napari_sslseg.core.pretext.restoration.base import forward
from napari_sslseg.core.scans.sources import check_unique_names
from napari_sslseg.core.settings.pretext.polycl import PolyCL

if TYPE_CHECKING:
    from napari_sslseg.core.samples.store import SampleStore
    from napari_sslseg.core.training.sampler import Sampler

CAPTIONS = {
    "original": "Anchor",
    "partner": "Positive",
    "corrupted": "Negative",
}


class PooledEncoder(nn.Module):
    """The encoder of a network, the average of its coarsest features, and one linear layer."""

    def __init__(self, network: Any, embedding: int) -> None:
        super().__init__()
        self.encoder = network.encoder
        self.head = nn.Linear(network.embedding_channels, embedding)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings of images (N, C, H, W), shape (N, D)."""
        return self.head(self.encoder(images)[-1].mean(dim=(2, 3)))


class PolyCLTask(BaseTask):
    """PolyCL for slices of any size: a batch has M anchors, M positives and M negatives."""

    groups = 3

    settings: PolyCL

    def __init__(self, settings: PolyCL, image_size: Size, seed: int = 0) -> None:
        super().__init__(settings, image_size, seed)
        self._temperature = settings.temperature or 1.0
        self._scan = np.empty(0, int)
        self._present: np.ndarray | None = None
        self._tagged = np.empty(0, bool)

    def wrap(self, network: Any) -> PooledEncoder:
        """Put the layer on the encoder of a network."""
        return PooledEncoder(network, self.settings.embedding)

    def set_store(self, store: "SampleStore") -> None:
        """Read the scan of each slice, and the slices with the organ.

        Raises
        ------
        DataError
            If a tagged scan or slice is missing.
        """
        self._scan = store.scan_index
        self._tagged = np.ones(len(store), bool)
        if self.settings.selection == "scan":
            return
        tags = self.settings.organ_slices or {}
        self._present = np.zeros(len(store), bool)
        self._tagged = np.zeros(len(store), bool)
        check_unique_names(scan.name for scan in store.scans)
        scans = {scan.name: scan for scan in store.scans}
        for name, slices in tags.items():
            if name not in scans:
                raise DataError(
                    f"The slices with the organ name the scan {name}, which is not among the "
                    "scans; correct the list."
                )
            scan = scans[name]
            if slices and not (min(slices) >= 0 and max(slices) < scan.n_slices):
                raise DataError(
                    f"The slices with the organ name slice {max(slices)} of {name}, but its slices "
                    f"are numbered 0 to {scan.n_slices - 1}; correct the list."
                )
            self._tagged[scan.start : scan.start + scan.n_slices] = True
            self._present[scan.start + np.array(slices, int)] = True

    def batches(self, slices: np.ndarray, size: int) -> "Sampler":
        """Endless batches of ``size`` triplets; this size also sets τ."""
        self._temperature = self.settings.temperature or 1 / size
        return self._selector(slices).batches(size)

    def validation_batches(
        self, slices: np.ndarray, most: int, size: int, seed: int
    ) -> list[np.ndarray]:
        """Triplets of held-out slices, the same every time; none if they have no examples."""
        try:
            selector = self._selector(slices)
        except DataError:
            return []
        rng = np.random.default_rng(seed)
        anchors = rng.permutation(len(selector.anchors))[:most]
        parts = np.array_split(anchors, -(-len(anchors) // size))
        return [selector.draw(part, rng).indices() for part in parts]

    def sample_slices(self, slices: np.ndarray, generator: torch.Generator) -> None:
        """Draw nothing; the slices are not changed."""

    def sample(self, n: int, generator: torch.Generator) -> None:
        """Raise, because slices of one scan have no negatives.

        Raises
        ------
        ConfigError
            Always.
        """
        raise ConfigError(
            "PolyCL compares slices of several scans; draw the slices from several scans."
        )

    def apply(self, images: Tensor, parameters: None) -> Tensor:
        """Return the images."""
        return images

    def loss(self, model: nn.Module, images: Tensor, parameters: None) -> Tensor:
        """Contrast anchors with positives and negatives, thirds of images (3M, C, H, W)."""
        anchor, positive, negative = model(images).chunk(3)
        return polycl(anchor, positive, negative, self._temperature)

    def metrics(self, model: nn.Module, images: Tensor, parameters: None) -> dict[str, float]:
        """Metrics that show a collapse: spread, and similarities of positives and negatives."""
        embeddings = model(images).float()
        anchor, positive, negative = nn.functional.normalize(embeddings, dim=1).chunk(3)
        return {
            "spread": float(embedding_spread(embeddings)),
            "similarity of positives": float((anchor * positive).sum(1).mean()),
            "similarity of negatives": float((anchor * negative).sum(1).mean()),
        }

    def preview(
        self, images: Tensor, parameters: None, model: nn.Module | None = None
    ) -> PretextPreview:
        """Show triplets, given as thirds of images (3M, C, H, W).

        With a model, rows of the matrix are the anchors, columns the positives, then the negatives.
        """
        parts = [part.cpu().numpy().copy() for part in images.chunk(3)]
        if len(parts) != 3 or len({len(part) for part in parts}) > 1:
            raise DataError("A preview of PolyCL needs as many positives and negatives as anchors.")
        anchor, positive, negative = parts
        n, _, height, width = anchor.shape
        matrix, notes = None, []
        if model is not None:
            embeddings = forward(model, images)
            matrix = cosine_similarity(embeddings[:n], embeddings[n:]).cpu().numpy()
            pairs = zip(matrix.diagonal(), matrix.diagonal(n), strict=True)
            notes = [
                f"similarity {_two_digits(near)} with the positive, {_two_digits(far)} with the "
                "negative"
                for near, far in pairs
            ]
        names = [[f"{name} {i}" for i in range(1, n + 1)] for name in ("positive", "negative")]
        return PretextPreview(
            original=anchor,
            corrupted=negative,
            mask=np.zeros((n, 1, height, width), bool),
            restored=None,
            error=None,
            captions=CAPTIONS,
            separate_scans=True,
            partner=positive,
            notes=tuple(notes),
            matrix=matrix,
            matrix_title="Similarity of the slices for the network\n(cosine similarity)",
            matrix_labels=tuple(f"anchor {number}" for number in range(1, n + 1)),
            matrix_columns=tuple(names[0] + names[1]),
        )

    def _selector(self, slices: np.ndarray) -> ExampleSelector:
        known = slices[self._tagged[slices]]
        presence = None if self._present is None else self._present[known]
        return ExampleSelector(self.settings.selection, known, self._scan[known], presence)


def _two_digits(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
