"""Tools to draw a procedural patient: implicit shapes, painted one over the other.

Patient coordinates are in mm from the middle of the abdomen: x towards the patient's left, y
towards posterior, z towards inferior, as in the display grid. An organ is a function that is
negative inside it and grows about as the distance to its surface in mm; smooth noise and a random
deformation of the coordinates make it organic. Later shapes cover earlier ones.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import fft

Array = np.ndarray

LIVER, RIGHT_KIDNEY, LEFT_KIDNEY, SPLEEN, SPINE = 1, 2, 3, 4, 5


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, ...], spacing: tuple[float, ...], scale: float
) -> Array:
    """Periodic Gaussian noise of unit variance that varies over about ``scale`` mm."""
    spectrum = fft.rfftn(rng.standard_normal(shape, dtype=np.float32))
    for axis, (n, step) in enumerate(zip(shape, spacing, strict=True)):
        last = axis == len(shape) - 1
        frequency = (fft.rfftfreq if last else fft.fftfreq)(n, step)
        weight = np.exp(-0.5 * (2 * np.pi * frequency * scale / 2) ** 2).astype(np.float32)
        spectrum *= weight.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    noise = fft.irfftn(spectrum, shape)
    noise -= noise.mean()
    return noise / max(float(noise.std()), 1e-6)


@dataclass
class Box:
    """The part of the patient around one organ: coordinates and the noise over it."""

    where: tuple[slice, slice, slice]
    x: Array
    y: Array
    z: Array
    noise: Callable[[str], Array]

    def along(self, axis: Array, centre: Array) -> Array:
        """Coordinate along an axis, from a centre, in mm."""
        a, c = axis.tolist(), centre.tolist()
        value: Array = a[0] * (self.x - c[0]) + a[1] * (self.y - c[1]) + a[2] * (self.z - c[2])
        return value

    def ellipsoid(self, centre: Array, radii: Array, axes: Array | None = None) -> Array:
        """Distance to an ellipsoid; the rows of ``axes`` are its axes."""
        inner: Array | float = 0.0
        outer: Array | float = 1e-12
        for axis, radius in zip(np.eye(3) if axes is None else axes, radii.tolist(), strict=True):
            squared = (self.along(axis, centre) / radius) ** 2
            inner = inner + squared
            outer = outer + squared / radius**2
        length = np.sqrt(inner)
        return length * (length - 1) / np.sqrt(outer)

    def bent(self, axis: Array, shift: Array) -> "Box":
        """Move the coordinates of the box along an axis, which bends the shapes drawn in it."""
        a = axis.tolist()
        x, y, z = self.x - a[0] * shift, self.y - a[1] * shift, self.z - a[2] * shift
        return Box(self.where, x, y, z, self.noise)


def superellipse(x: Array, y: Array, a: Array | float, b: Array | float, power: float) -> Array:
    """Distance to a superellipse with the half axes ``a`` and ``b``."""
    u, v = np.abs(x) / a + 1e-4, np.abs(y) / b + 1e-4
    radius = (u**power + v**power) ** (1 / power)
    slope = np.hypot(u ** (power - 1) / a, v ** (power - 1) / b) * radius ** (1 - power)
    return (radius - 1) / slope


def tube(u: Array, v: Array, radius: float | Array) -> Array:
    """Distance to a tube, from the offsets across it."""
    distance: Array = np.hypot(u, v) - radius
    return distance


def union(a: Array, b: Array, blend: float) -> Array:
    """Union of two shapes, with the groove between them rounded over ``blend`` mm."""
    near = np.maximum(blend - np.abs(a - b), 0) / blend
    return np.minimum(a, b) - near**2 * (blend / 4)


def overlap(a: Array, b: Array, blend: float) -> Array:
    """Intersection of two shapes, with the edge rounded over ``blend`` mm."""
    return -union(-a, -b, blend)


def axes_along(long: tuple[float, float, float], across: tuple[float, float, float]) -> Array:
    """Orthonormal rows: near ``across``, perpendicular to both, and along ``long``."""
    third = np.asarray(long) / np.linalg.norm(long)
    first = np.asarray(across) - np.dot(across, third) * third
    first = first / np.linalg.norm(first)
    return np.array([first, np.cross(third, first), third])


class Patient:
    """One patient on a grid: pose, deformation, image and labels, painted organ by organ.

    Parameters
    ----------
    rng : Generator
        Generator of the anatomy and the pose.
    shape, spacing : tuple
        Grid in (inferior, posterior, left) order, in voxels and mm.
    tissues : mapping of str to (float, float)
        Mean value and texture (standard deviation) of each tissue.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        shape: tuple[int, int, int],
        spacing: tuple[float, float, float],
        tissues: Mapping[str, tuple[float, float]],
    ) -> None:
        self.rng, self.shape, self.spacing, self.tissues = rng, shape, spacing, tissues
        # Texture has its own generator, so that the contrast cannot change the anatomy.
        self.texture_rng = rng.spawn(1)[0]
        self.fields = {
            name: smooth_noise(rng, shape, spacing, scale)
            for name, scale in {"wide": 55.0, "loops": 26.0, "fine": 15.0, "grain": 6.0}.items()
        }
        grid = np.meshgrid(
            *[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)],
            indexing="ij",
            sparse=True,
        )
        z, y, x = (axis.astype(np.float32) for axis in grid)
        turn, tilt, nod = np.deg2rad(rng.normal(0, [2.5, 1.5, 1.5])).tolist()
        x = x + tilt * z + turn * y - rng.normal(0, 4)
        y = y + nod * z - turn * x - rng.normal(-3, 4)
        z = z - tilt * x - nod * y - rng.normal(0, 7)
        size = rng.normal(1.07, 0.025)
        self.x, self.y, self.z = (
            (a + 3.5 * self._noise("wide", (slice(None),) * 3)) / np.float32(size)
            for a in (x, y, z)
        )
        self.soft = 0.5 * (spacing[1] + spacing[2])  # width of the blur at an edge, mm
        self.image = np.full(shape, tissues["air"][0], dtype=np.float32)
        self.labels = np.zeros(shape, dtype=np.uint8)

    def _noise(self, name: str, where: tuple[slice, ...]) -> Array:
        """Part of a field, shifted at random, which is possible since the fields are periodic."""
        shift = [int(self.rng.integers(n)) for n in self.shape]
        return np.roll(self.fields[name], shift, (0, 1, 2))[where]

    def _grain(self, shape: tuple[int, ...]) -> Array:
        """Fine texture, from a random part of its field."""
        parts = []
        for n, m in zip(self.shape, shape, strict=True):
            start = int(self.texture_rng.integers(n - m + 1))
            parts.append(slice(start, start + m))
        return self.fields["grain"][tuple(parts)]

    def box(
        self,
        x: tuple[float, float] = (-np.inf, np.inf),
        y: tuple[float, float] = (-np.inf, np.inf),
        z: tuple[float, float] = (-np.inf, np.inf),
    ) -> Box:
        """Smallest box of the grid that contains the given ranges of patient coordinates."""
        inside = np.ones(self.shape, dtype=bool)
        for values, (low, high) in ((self.x, x), (self.y, y), (self.z, z)):
            if np.isfinite(low):
                inside &= values > low
            if np.isfinite(high):
                inside &= values < high
        parts = []
        for axis in range(3):
            hit = np.flatnonzero(inside.any(axis=tuple(i for i in range(3) if i != axis)))
            parts.append(slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 0))
        where = (parts[0], parts[1], parts[2])
        return Box(
            where, self.x[where], self.y[where], self.z[where], lambda n: self._noise(n, where)
        )

    def around(self, centre: Array, reach: float) -> Box:
        """The box within ``reach`` mm of a point."""
        x, y, z = ((float(c - reach), float(c + reach)) for c in centre)
        return self.box(x, y, z)

    def paint(self, box: Box, tissue: str, distance: Array, label: int | None = 0) -> None:
        """Blend a tissue over the inside of a shape; ``label=None`` does not change the labels."""
        mean, texture = self.tissues[tissue]
        share = np.clip(0.5 - distance / self.soft, 0, 1)
        target = self.image[box.where]
        value = mean + texture * self._grain(target.shape) if texture else mean
        target += share * (value - target)
        if label is not None:
            self.labels[box.where][distance < 0] = label
