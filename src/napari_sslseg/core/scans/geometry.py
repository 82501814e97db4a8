"""The voxel grid of a scan: its place in the patient and its display orientation.

The *source grid* is the grid of the file. The *display grid* holds the same voxels with the axes
permuted and flipped into IPL order: axis 0 runs towards inferior, axis 1 towards posterior and
axis 2 towards the patient's left. Every plane is then shown in radiological convention. Nothing is
interpolated between the two grids, so the conversion back is exact.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_sslseg.core.common.errors import GeometryError
from napari_sslseg.core.common.sizes import format_size

DISPLAY_AXES = ("I", "P", "L")

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From patient coordinates of DICOM and ITK (LPS) to those of NIfTI (RAS), and back."""


SAME_VOXEL = 0.1
"""Largest distance, in voxels, between the centres of voxels that count as the same.

It covers the rounding in headers (float32, quaternions, few decimals) and is far from the half
voxel at which nearest neighbours change.
"""


def _orientations() -> Any:
    """Import NiBabel's functions on first use: the import is slow."""
    from nibabel import orientations

    return orientations


@dataclass(frozen=True, eq=False)
class Geometry:
    """Affine and shape of the source grid, and the conversion to and from the display grid.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        Source voxel indices to RAS+ world coordinates in mm.
    shape : tuple of int
        Shape of the source grid, three axes.

    Raises
    ------
    GeometryError
        If the affine is not finite or maps the grid onto a plane, a line or a point.
    """

    affine: np.ndarray
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4):
            raise GeometryError(
                f"The affine has shape {affine.shape}, but a 4×4 matrix is needed; "
                "export the scan again with its orientation."
            )
        if not np.isfinite(affine).all():
            raise GeometryError(
                "The affine holds values that are not finite, so the scan has no place in the "
                "patient; export it again from its source."
            )
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        # Relative to the voxel size: 1 for orthogonal axes, 0 for axes in one plane.
        if (lengths <= 0).any() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6:
            raise GeometryError(
                "The affine is singular: two voxel axes point the same way or one has no length; "
                "export the scan again from its source."
            )
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @property
    def source_to_display(self) -> np.ndarray:
        """Nibabel orientation transform, shape (3, 2): display axis and flip per source axis."""
        of = _orientations()
        return of.ornt_transform(of.io_orientation(self.affine), of.axcodes2ornt(DISPLAY_AXES))

    @property
    def display_to_source(self) -> np.ndarray:
        """The inverse orientation transform, shape (3, 2)."""
        of = _orientations()
        return of.ornt_transform(of.axcodes2ornt(DISPLAY_AXES), of.io_orientation(self.affine))

    @property
    def display_affine(self) -> np.ndarray:
        """Display voxel indices to RAS+ mm, shape (4, 4)."""
        return self.affine @ _orientations().inv_ornt_aff(self.source_to_display, self.shape)

    @property
    def display_shape(self) -> tuple[int, int, int]:
        """Shape of the display grid."""
        order = np.argsort(self.source_to_display[:, 0])
        first, second, third = (self.shape[i] for i in order)
        return first, second, third

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along the display axes (inferior, posterior, left)."""
        lengths = np.linalg.norm(self.display_affine[:3, :3], axis=0)
        return float(lengths[0]), float(lengths[1]), float(lengths[2])

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def orientation(self) -> str:
        """Where the source axes point, nearest to "RAS" letters, such as "LPS" or "PIR"."""
        of = _orientations()
        return "".join(of.ornt2axcodes(of.io_orientation(self.affine)))

    @property
    def is_oblique(self) -> bool:
        """Whether a display axis leaves its anatomical axis by more than 0.1 degrees."""
        return self.obliquity > 0.1

    @property
    def obliquity(self) -> float:
        """Largest angle, in degrees, between a display axis and its anatomical axis."""
        directions = np.abs(self.display_affine[:3, :3]) / np.asarray(self.spacing)
        least = np.clip(np.diagonal(np.flipud(directions)).min(), 0, 1)
        return float(np.rad2deg(np.arccos(least)))

    def to_display(self, array: np.ndarray) -> np.ndarray:
        """Permute and flip an array of the source grid (a view where NumPy allows)."""
        self._check(array, self.shape, "source")
        return _orientations().apply_orientation(array, self.source_to_display)

    def to_source(self, array: np.ndarray) -> np.ndarray:
        """Undo :meth:`to_display` exactly."""
        self._check(array, self.display_shape, "display")
        return _orientations().apply_orientation(array, self.display_to_source)

    def matches(self, other: "Geometry") -> bool:
        """Whether two display grids have one shape and their voxels in the same places.

        Files that hold the same voxels in another axis order match, since arrays are compared in
        the display grid. No voxel may be further than :data:`SAME_VOXEL` from its counterpart.
        For grids whose display axes may point elsewhere see :meth:`has_voxels_of`.
        """
        return self.display_shape == other.display_shape and self.offset_in(other) == (0, 0, 0)

    def offset_in(self, other: "Geometry") -> tuple[int, int, int] | None:
        """Find the first voxel in the display grid of another geometry.

        Returns
        -------
        tuple of int or None
            Indices in the other display grid, which may be outside of it. None if the voxels of
            the grids do not coincide, compared at the corners and in voxels, see
            :data:`SAME_VOXEL`.
        """
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.display_shape])).reshape(3, -1)
        to_other = np.linalg.inv(other.display_affine) @ self.display_affine
        shift = to_other[:3, :3] @ corners + to_other[:3, 3:] - corners
        offset = np.rint(shift.mean(axis=1))
        if np.abs(shift - offset[:, None]).max() > SAME_VOXEL or np.abs(offset).max() > 2**31:
            return None
        first, second, third = offset.astype(int).tolist()
        return first, second, third

    def turn_onto(self, other: "Geometry") -> np.ndarray | None:
        """Find how to turn the display grid onto another one with the same voxels.

        Axes at 45 degrees between two directions of the patient are nearest to one or the other by
        the rounding of the header, so files of one grid can have different display grids.

        Returns
        -------
        ndarray or None
            Nibabel orientation transform, shape (3, 2); None if the voxels are not the same, or the
            display axes point the same way.
        """
        of = _orientations()
        to_other = np.linalg.inv(other.display_affine) @ self.display_affine
        turn = of.io_orientation(to_other)
        if np.isnan(turn).any() or np.array_equal(turn, [[0, 1], [1, 1], [2, 1]]):
            return None
        turned = to_other @ of.inv_ornt_aff(turn, self.display_shape)
        shape = tuple(self.display_shape[axis] for axis in np.argsort(turn[:, 0]))
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, -1)
        off = turned[:3, :3] @ corners + turned[:3, 3:] - corners
        return turn if shape == other.display_shape and np.abs(off).max() <= SAME_VOXEL else None

    def onto(self, array: np.ndarray, other: "Geometry") -> np.ndarray | None:
        """Turn an array of this display grid onto another display grid with the same voxels.

        Returns
        -------
        ndarray or None
            None if the voxels are not the same.
        """
        if self.matches(other):
            return array
        turn = self.turn_onto(other)
        return None if turn is None else _orientations().apply_orientation(array, turn)

    def has_voxels_of(self, other: "Geometry") -> bool:
        """Whether two grids have the same voxels, also if their display axes point elsewhere."""
        return self.matches(other) or self.turn_onto(other) is not None

    def difference(self, other: "Geometry") -> str:
        """Say what is different from another grid, in both numbers; empty if they match.

        Axes are named in the order left, posterior, inferior, as the columns, rows and slices of
        an axial scan.
        """
        parts = []
        extent = np.array(self.display_shape) - 1
        if self.display_shape != other.display_shape:
            parts.append(
                f"{_times(self.display_shape)} voxels instead of {_times(other.display_shape)}"
            )
        mine, theirs = np.array(self.spacing), np.array(other.spacing)
        if (np.abs(mine - theirs) * np.maximum(extent, 1) > SAME_VOXEL * theirs).any():
            parts.append(f"voxels of {_times(mine)} mm instead of {_times(theirs)} mm")
        cosines = (self.display_affine[:3, :3] / mine * other.display_affine[:3, :3] / theirs).sum(
            0
        )
        angle = float(np.arccos(np.clip(cosines.min(), -1, 1)))
        if np.sin(angle) * (extent * mine).max() > SAME_VOXEL * theirs.min():
            parts.append(f"axes turned by {np.rad2deg(angle):.3g} degrees")
        here, there = self.display_affine[:3, 3], other.display_affine[:3, 3]
        shift = np.linalg.solve(other.display_affine[:3, :3], here - there)
        if np.abs(shift).max() > SAME_VOXEL:
            parts.append(
                f"the first voxel at {_place(here)} mm instead of {_place(there)} mm (right, "
                "front and head are positive)"
            )
        return ", ".join(parts)

    def _check(self, array: np.ndarray, shape: tuple[int, ...], grid: str) -> None:
        if array.shape[:3] != shape:
            raise GeometryError(
                f"An array of shape {format_size(array.shape)} does not fit the {grid} grid "
                f"{format_size(shape)} of this "
                "scan; use labels that were drawn on the same scan."
            )


def _times(numbers: Any) -> str:
    """Write numbers of the display axes in the order left, posterior, inferior."""
    return " × ".join(f"{number:.6g}" for number in reversed(tuple(numbers)))


def _place(point: np.ndarray) -> str:
    return "(" + ", ".join(f"{number:.6g}" for number in np.round(point, 3) + 0.0) + ")"
