"""The siamese left/right task: pairs of organ crops, one encoder, contrastive distance."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_sslseg.core.common.errors import ConfigError, DataError
from napari_sslseg.core.common.example_pictures import PretextPreview
from napari_sslseg.core.common.sizes import Size
from napari_sslseg.core.pretext.base import BaseTask
from napari_sslseg.core.pretext.contrast.losses import distance_spread, pair_distance, siamese
from napari_sslseg.core.pretext.contrast.side_pairs import (
    LEFT,
    RIGHT,
    SIDE_NAMES,
    UNKNOWN,
    SidePairs,
    balanced_mask,
)
from napari_sslseg.core.pretext.restoration.base import forward
from napari_sslseg.core.settings.networks import fitting_size
from napari_sslseg.core.settings.pretext.siamese_sides import SiameseSides

if TYPE_CHECKING:
    from napari_sslseg.core.samples.store import SampleStore
    from napari_sslseg.core.training.sampler import Sampler

CAPTIONS = {"original": "First of the pair", "partner": "Second of the pair"}


class SiameseEncoder(nn.Module):
    """The encoder of a 3D network, whose coarsest features are the embedding, without a head.

    Parameters
    ----------
    network : SegmentationNetwork
        Only its encoder is used, under its name, so that it is transferred like any other.
    flat : bool
        Whether all features are the embedding, rather than their average over the crop.
    normalised : bool
        Whether embeddings are divided by their length.
    """

    def __init__(self, network: Any, *, flat: bool, normalised: bool) -> None:
        super().__init__()
        self.encoder = network.encoder
        self.flat = flat
        self.normalised = normalised

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings of crops (N, C, D, H, W), shape (N, E)."""
        coarsest = self.encoder(images)[-1]
        embeddings = coarsest.flatten(1) if self.flat else coarsest.mean(dim=(2, 3, 4))
        return nn.functional.normalize(embeddings, dim=1) if self.normalised else embeddings


@dataclass(frozen=True, eq=False)
class SideParameters:
    """Side of each of 2M crops, and whether it is flipped; on the CPU.

    Parameters
    ----------
    side : Tensor, shape (2M,), int64
        0 left, 1 right; if sides are mirror images, 1 is a mirror image.
    flipped : Tensor of bool, shape (2M,)
        Crops to flip along the last axis.
    """

    side: Tensor
    flipped: Tensor

    @property
    def same(self) -> Tensor:
        """Whether both members of each pair are of one side: bool, shape (M,)."""
        first, second = self.side.chunk(2)
        return first == second


class SiameseTask(BaseTask):
    """The left/right task (Dhere & Sivaswamy 2021): a batch has first members, then second ones."""

    groups = 2

    settings: SiameseSides

    def __init__(self, settings: SiameseSides, image_size: Size, seed: int = 0) -> None:
        super().__init__(settings, image_size, seed)
        self._mirror = settings.sides == "mirror"
        self._side = np.empty(0, int)
        self._subject = np.empty(0, str)

    def wrap(self, network: Any) -> SiameseEncoder:
        """Take the encoder of a network.

        Raises
        ------
        ConfigError
            If the crops do not fit it.
        """
        fitting = fitting_size(self.settings.crop, network.stride)
        if fitting != self.settings.crop:
            raise ConfigError(
                f"This network needs crops of {' × '.join(map(str, fitting))}, not of "
                f"{' × '.join(map(str, self.settings.crop))}; choose these, or another network."
            )
        return SiameseEncoder(
            network, flat=self.settings.embedding == "flat", normalised=self.settings.normalised
        )

    def set_store(self, store: "SampleStore") -> None:
        """Read side and subject of each organ crop.

        Parameters
        ----------
        store
            A store with ``sides``, shape (N,): 0 left, 1 right, −1 unknown for each crop. Without
            them all are unknown.

        Raises
        ------
        DataError
            If the list of sides names a scan that is missing, or sides are mirror images but the
            crops are of both sides.
        """
        self._subject = np.array([scan.subject for scan in store.scans])[store.scan_index]
        known = getattr(store, "sides", None)
        sides = np.full(len(self._subject), UNKNOWN) if known is None else np.asarray(known, int)
        if self.settings.case_sides is not None:
            sides = self._named_sides(store, self.settings.case_sides)
        if self._mirror and {LEFT, RIGHT} <= set(sides.tolist()):
            raise DataError(
                "The scans show left and right organs, so mirror images of one side would look "
                "like the other; give the sides by masks."
            )
        self._side = sides

    def _named_sides(self, store: "SampleStore", named: Any) -> np.ndarray:
        names = [scan.name for scan in store.scans]
        for name in named:
            if name not in names:
                raise DataError(
                    f"The list of sides names the scan {name}, which is not among the scans; "
                    "correct the list."
                )
        number = {word: side for side, word in SIDE_NAMES.items()} | {None: UNKNOWN}
        return np.array([number[named.get(name)] for name in names])[store.scan_index]

    def batches(self, slices: np.ndarray, size: int) -> "Sampler":
        """Endless batches of ``size`` pairs of these crops."""
        return self._pairs(slices).batches(size)

    def validation_batches(
        self, slices: np.ndarray, most: int, size: int, seed: int
    ) -> list[np.ndarray]:
        """Pairs among held-out crops, the same every time; none if they cannot be paired.

        Each batch holds as many pairs of the same side as of opposite sides.
        """
        try:
            pairs = self._pairs(slices)
        except DataError:
            return []
        rng = np.random.default_rng(seed)
        firsts, same = pairs.validation_pairs(most, rng)
        # Successive pairs, which differ in kind, stay in one batch.
        starts = np.arange(0, len(firsts), max(2, size - size % 2))[1:]
        parts = zip(np.split(firsts, starts), np.split(same, starts), strict=True)
        return [pairs.draw(*part, rng) for part in parts]

    def sample_slices(self, slices: np.ndarray, generator: torch.Generator) -> SideParameters:
        """Look up the sides of pairs of crops, (2M,), or draw the mirror images."""
        if not self._mirror:
            side = torch.from_numpy(self._side[slices])
            return SideParameters(side, (side == RIGHT) & self.settings.mirror_right)
        n = len(slices) // 2
        coin, first = torch.randint(2, (n + 1,), generator=generator).split([1, n])
        same = torch.from_numpy(balanced_mask(n, more=bool(coin)))[
            torch.randperm(n, generator=generator)
        ]
        side = torch.cat([first, torch.where(same, first, 1 - first)])
        return SideParameters(side, side == RIGHT)

    def sample(self, n: int, generator: torch.Generator) -> SideParameters:
        """Draw mirror images for ``n`` crops, if sides are mirror images.

        Raises
        ------
        ConfigError
            If the sides are given by masks.
        """
        if not self._mirror:
            raise ConfigError(
                "The left/right task compares organs of several scans; give several scans with "
                "masks of the organ."
            )
        return self.sample_slices(np.arange(n), generator)

    def apply(self, images: Tensor, parameters: SideParameters) -> Tensor:
        """Return crops (2M, C, D, H, W), some of them flipped; the images are not changed."""
        flipped = parameters.flipped.to(images.device).view(-1, 1, 1, 1, 1)
        return torch.where(flipped, images.flip(-1), images)

    def loss(self, model: nn.Module, images: Tensor, parameters: SideParameters) -> Tensor:
        """Contrastive distance, averaged over the pairs (eq. 1)."""
        first, second = model(self.apply(images, parameters)).chunk(2)
        return siamese(first, second, parameters.same, self.settings.margin)

    def metrics(
        self, model: nn.Module, images: Tensor, parameters: SideParameters
    ) -> dict[str, float]:
        """Metrics that show a collapse: distances of pairs, and the spread of all crops.

        The spread is near 0 if the distances of all crops are small compared to the margin.
        """
        embeddings = model(self.apply(images, parameters))
        distance = pair_distance(*embeddings.chunk(2)).cpu()
        same = parameters.same
        found = {"spread": float(distance_spread(embeddings, self.settings.margin))}
        if same.any():
            found["same distance"] = float(distance[same].mean())
        if not same.all():
            found["opposite distance"] = float(distance[~same].mean())
        # Classified by half the margin.
        correct = (distance < self.settings.margin / 2) == same
        return found | {"pair accuracy": float(correct.float().mean())}

    def preview(
        self, images: Tensor, parameters: SideParameters, model: nn.Module | None = None
    ) -> PretextPreview:
        """Show pairs, given as halves of crops (2M, C, D, H, W), and their distances."""
        shown = self.apply(images, parameters)
        first, second = (part.cpu().numpy().copy() for part in shown.chunk(2))
        notes = ["same side" if same else "opposite sides" for same in parameters.same.tolist()]
        distances = None
        if model is not None:
            a, b = forward(model, shown).float().cpu().chunk(2)
            distances = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").numpy()
            notes = [
                f"{note}, distance {value:.2f}"
                for note, value in zip(notes, distances.diagonal(), strict=True)
            ]
        numbers = range(1, len(notes) + 1)
        return PretextPreview(
            original=first,
            corrupted=second,
            mask=np.zeros((len(first), 1, *first.shape[2:]), bool),
            restored=None,
            error=None,
            captions=CAPTIONS,
            separate_scans=True,
            partner=second,
            notes=tuple(notes),
            matrix=distances,
            matrix_title="Distance of the crops\nfor the network",
            matrix_labels=tuple(f"first of {number}" for number in numbers),
            matrix_columns=tuple(f"second of {number}" for number in numbers),
            matrix_distances=True,
        )

    def _pairs(self, crops: np.ndarray) -> SidePairs:
        return SidePairs(crops, None if self._mirror else self._side[crops], self._subject[crops])
