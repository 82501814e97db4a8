"""The corruptions of Models Genesis: intensity curves, local shuffling, painting over.

Each distortion is applied to an image with its own probability. As in
:mod:`~napari_sslseg.core.pretext.corruptions.patch_swap`, parameters are drawn first and applied
afterwards to a batch, without a loop over images.
"""

from dataclasses import dataclass
from math import cbrt, ceil, prod, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from napari_sslseg.core.common.sizes import Size, as_size
from napari_sslseg.core.pretext.corruptions.boxes import Boxes, draw_boxes
from napari_sslseg.core.pretext.corruptions.patch_swap import CPU, check_batch

CURVE_POINTS = 257
MOST_BOXES = 5
WINDOW_SHARE = 0.1
"""Longest side of a shuffled window over the side of the image."""


@dataclass(frozen=True, eq=False)
class GenesisParameters:
    """Parameters of the corruption of N images: small CPU tensors.

    Parameters
    ----------
    curved, shuffled : Tensor, shape (N,), bool
        Whether intensities are changed by a curve, and whether pixels are shuffled.
    curves : Tensor, shape (N, 257)
        New values of 257 evenly spaced intensities, all from 0 to 1.
    windows, offsets : Tensor, shape (N, A), int64
        Side of the shuffled windows along each axis, and start of the first window.
    shuffle_seed : int
        Seed of the order of the pixels in the windows.
    boxes : Boxes
        Boxes to paint over, or to keep; of length 0 for images that are not painted.
    outside : Tensor, shape (N,), bool
        Whether the outside of the boxes is painted over rather than the inside.
    paint : Tensor, shape (N,)
        Intensity of the paint, from 0 to 1.
    """

    curved: Tensor
    shuffled: Tensor
    curves: Tensor
    windows: Tensor
    offsets: Tensor
    shuffle_seed: int
    boxes: Boxes
    outside: Tensor
    paint: Tensor

    def __len__(self) -> int:
        return len(self.curved)


class _WindowPositions(NamedTuple):
    """Positions of the pixels along one axis in the windows, with as many axes as the images."""

    start: Tensor
    """First pixel of the window."""
    window: Tensor
    """Number of the window."""
    within: Tensor
    """Position in the window."""
    whole: Tensor
    """Whether the window lies within the image."""


class Genesis:
    """Change intensities by curves, shuffle pixels within small windows, and paint over boxes.

    After Zhou et al. 2019, *Models Genesis*, whose images are volumes; slices are treated in the
    same way, with windows and boxes of two sides. Intensities are scaled from 0 (the lowest of the
    image and channel) to 1 (the highest), so that the normalisation does not matter.

    Parameters
    ----------
    image_size : tuple of int
        Height and width in pixels; or slices, height and width in voxels.
    curve_rate, shuffle_rate, paint_rate : float
        Probability of each distortion.
    outside_rate : float
        Probability that an image is painted over outside the boxes rather than inside.
    max_area : float
        Largest fraction of the image to paint over.
    """

    def __init__(
        self,
        image_size: Size,
        curve_rate: float = 0.9,
        shuffle_rate: float = 0.5,
        paint_rate: float = 0.9,
        outside_rate: float = 0.8,
        max_area: float = 0.25,
    ) -> None:
        self.image_size = as_size(image_size)
        self.curve_rate = curve_rate
        self.shuffle_rate = shuffle_rate
        self.paint_rate = paint_rate
        self.outside_rate = outside_rate
        self.max_area = max_area
        self._largest_window = torch.tensor(
            [min(side, max(2, int(WINDOW_SHARE * side))) for side in self.image_size]
        )

    def sample(self, n: int, generator: torch.Generator) -> GenesisParameters:
        """Draw the parameters of ``n`` images, from a generator on the CPU."""
        curved, shuffled, painted, outside, falling = (
            torch.rand(n, generator=generator) < rate
            for rate in (
                self.curve_rate,
                self.shuffle_rate,
                self.paint_rate,
                self.outside_rate,
                0.5,
            )
        )
        curves = bezier_curves(torch.rand(n, 2, 2, generator=generator))
        smallest = self._largest_window.clamp(max=2)
        spread = self._largest_window - smallest + 1
        axes = len(self.image_size)
        windows = smallest + (torch.rand(n, axes, generator=generator) * spread).long()
        outside &= painted
        return GenesisParameters(
            curved=curved,
            shuffled=shuffled,
            curves=torch.where(falling[:, None], 1 - curves, curves),
            windows=windows,
            offsets=(torch.rand(n, axes, generator=generator) * windows).long(),
            shuffle_seed=int(torch.randint(2**31, (), generator=generator)),
            boxes=self._draw_boxes(painted, outside, generator),
            outside=outside,
            paint=torch.rand(n, generator=generator),
        )

    def _draw_boxes(self, painted: Tensor, outside: Tensor, generator: torch.Generator) -> Boxes:
        """Draw boxes that paint over at most the largest area, at any position.

        Inside: up to five boxes, each of at most a fifth of the area. Outside: one box that keeps
        all but that area, and up to four more that keep more.
        """
        counts = torch.randint(1, MOST_BOXES + 1, (len(painted),), generator=generator)
        root = sqrt if len(self.image_size) == 2 else cbrt
        inner, outer = root(self.max_area / MOST_BOXES), root(1 - self.max_area)

        def sides(low: float, high: float) -> list[tuple[int, int]]:
            return [
                (max(1, ceil(low * side)), max(1, int(high * side))) for side in self.image_size
            ]

        def draw(counts: Tensor, most: int, low: float, high: float) -> Boxes:
            return draw_boxes(counts, most, self.image_size, sides(low, high), generator)

        inside = draw(counts * (painted & ~outside), MOST_BOXES, inner / 2, inner)
        first = draw(outside.long(), 1, outer, 1)
        others = draw((counts - 1) * outside, MOST_BOXES - 1, outer / 2, 1)
        return inside.followed_by(first).followed_by(others)

    def mask(self, parameters: GenesisParameters, device: torch.device = CPU) -> Tensor:
        """Return the pixels that are painted over: bool, shape (N, 1, H, W) or (N, 1, D, H, W)."""
        within = parameters.boxes.covering(self.image_size, device) != 0
        return (within ^ self._per_image(parameters.outside.to(device), within))[:, None]

    def apply(self, images: Tensor, parameters: GenesisParameters) -> Tensor:
        """Corrupt images (N, C, …), which are not changed."""
        check_batch(images, self.image_size, len(parameters))
        device = images.device
        low, high = _extremes(images)
        curved = self._per_image(parameters.curved.to(device), images)
        bent = apply_curves(images, parameters.curves.to(device, images.dtype), low, high)
        out = torch.where(curved, bent, images)
        source = self.shuffled_pixels(parameters, device)[:, None].expand_as(images)
        out = out.flatten(2).gather(2, source.flatten(2)).view(images.shape)
        paint = self._per_image(parameters.paint.to(device, images.dtype), images)
        return torch.where(self.mask(parameters, device), low + paint * (high - low), out)

    @staticmethod
    def _per_image(values: Tensor, images: Tensor) -> Tensor:
        """Reshape one value per image to (N, 1, …), with as many axes as the images."""
        return values.view(-1, *[1] * (images.ndim - 1))

    def shuffled_pixels(self, parameters: GenesisParameters, device: torch.device) -> Tensor:
        """Flat index of the pixel that replaces each pixel: int64, shape (N, *size).

        A grid of equal windows covers the image, from a random start; windows cut by the border
        are not changed. The pixels of a window are moved along a random cycle through it, in each
        window by another number of steps: a permutation, drawn without sorting the whole image.
        """
        n, size, axes = len(parameters), self.image_size, range(len(self.image_size))
        generator = torch.Generator(device=device).manual_seed(parameters.shuffle_seed)
        sides = [side.view(n, *[1] * len(axes)) for side in parameters.windows.to(device).unbind(1)]
        pixels = prod(sides, start=torch.ones_like(sides[0]))
        most_pixels = int(self._largest_window.prod())
        drawn = torch.rand(n, most_pixels, generator=generator, device=device)
        # Positions outside the window come last, so that the first ones are a permutation of it.
        beyond = torch.arange(most_pixels, device=device) >= pixels.view(n, 1)
        cycle = drawn.masked_fill(beyond, 2).argsort(dim=1)
        position = cycle.argsort(dim=1)
        most = [-(-side // 2) for side in size]
        steps = torch.rand(n, prod(most), generator=generator, device=device)

        def look_up(table: Tensor, index: Tensor) -> Tensor:
            return table.gather(1, index.flatten(1)).view(index.shape)

        places = [self._along(parameters, axis, device) for axis in axes]
        within = window = torch.zeros((), dtype=torch.int64, device=device)
        moved = self._per_image(parameters.shuffled.to(device), sides[0])
        for axis in axes:
            within = within * sides[axis] + places[axis].within
            window = window * most[axis] + places[axis].window
            moved = moved & places[axis].whole
        turn = (look_up(steps, window) * pixels).long()
        taken = look_up(cycle, (look_up(position, within) + turn) % pixels)
        source = torch.zeros((), dtype=torch.int64, device=device)
        for axis in reversed(axes):
            place = places[axis].start + taken % sides[axis]
            source = source + place * prod(size[axis + 1 :])
            taken = taken // sides[axis]
        still = torch.arange(prod(size), device=device).view(size)
        return torch.where(moved, source, still)

    def _along(
        self, parameters: GenesisParameters, axis: int, device: torch.device
    ) -> _WindowPositions:
        length = self.image_size[axis]
        shape = [1] * (1 + len(self.image_size))
        shape[1 + axis] = length
        index = torch.arange(length, device=device).view(shape)
        side, offset = (
            values[:, axis].to(device).view(-1, *[1] * len(self.image_size))
            for values in (parameters.windows, parameters.offsets)
        )
        window = (index - offset).clamp(min=0) // side
        within = (index - offset).clamp(min=0) % side
        whole = (index >= offset) & (offset + (window + 1) * side <= length)
        return _WindowPositions(index - within, window, within, whole)


def bezier_curves(controls: Tensor) -> Tensor:
    """Rising intensity curves from (0, 0) to (1, 1): tables of cubic Bézier curves.

    Parameters
    ----------
    controls : Tensor, shape (N, 2, 2)
        Two control points (x, y) of each curve, from 0 to 1. Within this square neither
        coordinate decreases along the curve, so that it is a non-decreasing function.

    Returns
    -------
    Tensor, shape (N, 257)
        Values at 257 evenly spaced intensities; the first is 0 and the last 1.
    """
    along = torch.linspace(0, 1, 4 * CURVE_POINTS, dtype=torch.float64)[:, None]
    first, second = controls.double()[:, 0, None], controls.double()[:, 1, None]
    curve = 3 * along * (1 - along) ** 2 * first + 3 * along**2 * (1 - along) * second + along**3
    x, y = (part.contiguous() for part in curve.unbind(dim=2))
    x, y = x.cummax(dim=1).values, y.cummax(dim=1).values  # only rounding errors change
    wanted = torch.linspace(0, 1, CURVE_POINTS, dtype=torch.float64).expand(len(x), -1)
    after = torch.searchsorted(x, wanted.contiguous()).clamp(1, x.shape[1] - 1)
    (x0, x1), (y0, y1) = ((v.gather(1, after - 1), v.gather(1, after)) for v in (x, y))
    share = ((wanted - x0) / (x1 - x0).clamp(min=1e-12)).clamp(0, 1)
    return torch.lerp(y0, y1, share).float()


def apply_curves(images: Tensor, curves: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Map intensities from ``low`` to ``high`` by a curve per image (N, P), interpolated linearly.

    Monotone and within the same bounds if the curve is.
    """
    last = curves.shape[1] - 1
    span = (high - low).where(high > low, 1)
    place = (images - low) / span * last
    before = place.floor().clamp(0, last - 1)
    index = before.long().flatten(1)
    left = curves.gather(1, index).view(images.shape)
    right = curves.gather(1, index + 1).view(images.shape)
    return low + torch.lerp(left, right, place - before) * (high - low)


def _extremes(images: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest intensity of each image and channel, shape (N, C, 1, …)."""
    shape = (*images.shape[:2], *[1] * (images.ndim - 2))
    low, high = images.flatten(2).aminmax(dim=2)
    return low.view(shape), high.view(shape)
