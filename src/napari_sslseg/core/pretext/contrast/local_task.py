"""Local contrastive learning: a frozen encoder, a decoder up to one level, regions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_sslseg.core.common.example_pictures import PretextPreview
from napari_sslseg.core.common.sizes import Size
from napari_sslseg.core.networks.parts import EncoderDecoder, repeat_to_fit
from napari_sslseg.core.pretext.base import BaseTask
from napari_sslseg.core.pretext.contrast.losses import (
    cosine_similarity,
    embedding_spread,
    local_contrast,
)
from napari_sslseg.core.pretext.contrast.regions import (
    SIDE,
    Regions,
    grid_regions,
    random_regions,
    required_overlap,
    sample_features,
)
from napari_sslseg.core.pretext.contrast.views import (
    ViewParameters,
    apply_view,
    common_part,
    sample_pair,
)
from napari_sslseg.core.pretext.restoration.base import forward
from napari_sslseg.core.settings.networks import Network
from napari_sslseg.core.settings.pretext.local_contrast import LocalContrast

CAPTIONS = {
    "original": "Original",
    "partner": "One view of it",
    "corrupted": "Another view of it",
}


class DecoderWithHead(nn.Module):
    """Encoder, the first levels of the decoder, and a head: from regions to embeddings.

    The head is two 1 × 1 convolutions, the first with BatchNorm and ReLU, over the whole feature
    map, and one linear layer over the 3 × 3 places of a region (Chaitanya et al. 2020). Encoder and
    decoder keep their names, so that they are transferred like any other; later levels of the
    decoder are left out, because they are not trained.

    Parameters
    ----------
    network : EncoderDecoder
        Its parts are used, not copied.
    levels : int
        Number of levels of the decoder.
    embedding : int
        Length of the embeddings.
    frozen : bool
        Whether the encoder is frozen: its weights and running statistics, and no dropout.
    """

    def __init__(self, network: Any, levels: int, embedding: int, frozen: bool) -> None:
        super().__init__()
        self.encoder = network.encoder
        self.encoder.freeze(frozen)
        self.decoder = network.decoder.first(levels)
        self.stride = network.stride
        self.levels = levels
        self.frozen = frozen
        channels = self.decoder.channels[-1]
        self.head = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
        )
        self.projection = nn.Linear(SIDE**2 * channels, embedding)

    def forward(self, images: Tensor, points: Tensor) -> Tensor:
        """Embeddings of regions, shape (N, R, D).

        Parameters
        ----------
        images : Tensor, shape (N, C, H, W)
            Slices of any size.
        points : Tensor, shape (N, R, 9, 2)
            Places of each region, as fractions of the sides of the slices.
        """
        fitted = repeat_to_fit(images, self.stride)
        inside, sides = (torch.tensor(i.shape[2:], device=points.device) for i in (images, fitted))
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self.encoder(fitted)
        decoded = self.head(self.decoder(features[-self.levels - 1 :]))
        return self.projection(sample_features(decoded, points * inside / sides).flatten(2))


@dataclass(frozen=True, eq=False)
class LocalParameters:
    """Two views of each of N slices, and regions within both, on the CPU."""

    first: ViewParameters
    second: ViewParameters
    regions: Regions


class LocalContrastTask(BaseTask):
    """Local contrastive learning (Umapathy et al. 2022) for slices of one size.

    The number of pixels of a place depends on the network given to :meth:`wrap`; before that, it is
    the one of the default network.
    """

    settings: LocalContrast

    def __init__(self, settings: LocalContrast, image_size: Size, seed: int = 0) -> None:
        super().__init__(settings, image_size, seed)
        default = Network()
        self._step = default.stride // 2 ** min(settings.level, len(default.widths) - 1)

    def wrap(self, network: EncoderDecoder) -> DecoderWithHead:
        """Put the head on a level of the decoder of a network.

        Raises
        ------
        ConfigError
            If the features of that level are too small for the regions.
        """
        levels = min(self.settings.level, len(network.decoder.channels))
        self._step = network.stride // 2**levels
        self._required_overlap()
        settings = self.settings
        return DecoderWithHead(network, levels, settings.embedding, settings.freeze_encoder)

    def sample(self, n: int, generator: torch.Generator) -> LocalParameters:
        """Draw two views of each of ``n`` slices, and regions that lie within both."""
        settings = self.settings
        first, second = sample_pair(
            n,
            generator,
            required_overlap=self._required_overlap(),
            least_area=settings.least_area,
            intensity=settings.intensity,
        )
        corner, extent = common_part(first, second)
        if settings.regions == "grid":
            regions = grid_regions(corner, extent, self._places)
        else:
            regions = random_regions(
                corner,
                extent,
                self._places,
                count=settings.count,
                negatives=settings.negatives,
                generator=generator,
            )
        return LocalParameters(first, second, regions)

    def apply(self, images: Tensor, parameters: LocalParameters) -> Tensor:
        """Return the first view of images (N, C, H, W), which are not changed."""
        return apply_view(images, parameters.first)

    def loss(self, model: nn.Module, images: Tensor, parameters: LocalParameters) -> Tensor:
        """Contrast the regions of both views of images (N, C, H, W), in both directions."""
        first, second = model(*_inputs(images, parameters)).chunk(2)
        negatives = parameters.regions.negatives
        return local_contrast(first, second, negatives, self.settings.temperature)

    def metrics(
        self, model: nn.Module, images: Tensor, parameters: LocalParameters
    ) -> dict[str, float]:
        """Metrics that show a collapse: spread, and similarities of regions."""
        first, second = model(*_inputs(images, parameters)).chunk(2)
        similarity = cosine_similarity(first, second)
        negatives = parameters.regions.negatives.to(similarity.device)
        return {
            "spread": float(embedding_spread(torch.cat([first, second]).flatten(0, 1))),
            "similarity of positives": float(similarity.diagonal(dim1=1, dim2=2).mean()),
            "similarity of negatives": float(similarity.gather(2, negatives).mean()),
        }

    def preview(
        self, images: Tensor, parameters: LocalParameters, model: nn.Module | None = None
    ) -> PretextPreview:
        """Show both views of these images with their regions.

        Parameters
        ----------
        images : Tensor, shape (N, C, H, W)
            Original slices, on the model's device.
        parameters : LocalParameters
            From :meth:`sample`, for N images.
        model : Module, optional
            From :meth:`wrap`; gives the similarities of the regions of the first slice. Runs in
            evaluation mode; its mode is restored afterwards.
        """
        views, points = _inputs(images, parameters)
        first, second = views.chunk(2)
        n, _, height, width = images.shape
        matrix = None
        if model is not None:
            one, other = forward(model, views, points).chunk(2)
            matrix = cosine_similarity(one[0], other[0]).cpu().numpy().copy()
        regions = parameters.regions
        return PretextPreview(
            original=images.cpu().numpy().copy(),
            corrupted=second.cpu().numpy().copy(),
            mask=np.zeros((n, 1, height, width), bool),
            restored=None,
            error=None,
            captions=CAPTIONS,
            partner=first.cpu().numpy().copy(),
            boxes={
                "partner": regions.boxes(parameters.first, (height, width)).numpy(),
                "corrupted": regions.boxes(parameters.second, (height, width)).numpy(),
            },
            matrix=matrix,
            matrix_title="Similarity of regions in one view (rows) and another, first slice",
            matrix_labels=tuple(str(1 + r) for r in range(regions.corner.shape[1])),
        )

    @property
    def _places(self) -> tuple[float, float]:
        height, width = self.image_size
        return height / self._step, width / self._step

    def _required_overlap(self) -> float:
        return required_overlap(self._places, self.settings.regions, self.settings.count)


def _inputs(images: Tensor, parameters: LocalParameters) -> tuple[Tensor, Tensor]:
    """Return both views one after the other, and the regions in them.

    In one pass, so that batch statistics are of both.
    """
    both = (parameters.first, parameters.second)
    views = torch.cat([apply_view(images, view) for view in both])
    points = torch.cat([parameters.regions.points(view) for view in both])
    return views, points.to(images.device)
