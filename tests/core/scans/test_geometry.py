"""Source and display grid are converted exactly in every orientation."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.spatial.transform import Rotation

from affines import ORIENTATIONS, affine_of, affines, world
from napari_sslseg.core.common.errors import GeometryError, SslsegError
from napari_sslseg.core.scans.geometry import Geometry

SHAPE = (3, 4, 5)


def check_exact(geometry, shape):
    array = np.arange(np.prod(shape)).reshape(shape)
    display = geometry.to_display(array)
    assert display.shape == geometry.display_shape
    np.testing.assert_array_equal(geometry.to_source(display), array)
    for index in itertools.product(*[(0, n // 2, n - 1) for n in display.shape]):
        source = np.argwhere(array == display[index])[0]
        np.testing.assert_allclose(
            world(geometry.display_affine, index), world(geometry.affine, source), atol=1e-6
        )


def test_there_are_48_orientations():
    assert len({matrix.tobytes() for matrix in ORIENTATIONS}) == 48


@pytest.mark.parametrize("matrix", ORIENTATIONS, ids=str)
def test_every_orientation(matrix):
    sizes = np.array([0.5, 1.0, 3.0])
    geometry = Geometry(affine_of(matrix * sizes, (-7, 11, 13)), SHAPE)
    check_exact(geometry, SHAPE)
    steps = geometry.display_affine[:3, :3]
    # Inferior, posterior, left: against the RAS+ axes S, A, R, each along one axis only.
    assert (steps[2, 0], steps[1, 1], steps[0, 2]) == tuple(-s for s in geometry.spacing)
    assert np.count_nonzero(steps) == 3
    assert not geometry.is_oblique
    assert sorted(geometry.spacing) == sorted(sizes)


@pytest.mark.parametrize(
    ("matrix", "letters"),
    [(np.eye(3), "RAS"), (np.diag([-1, -1, 1]), "LPS"), (np.diag([-1, 1, 1]), "LAS")],
)
def test_orientation_letters(matrix, letters):
    assert Geometry(affine_of(matrix), SHAPE).orientation == letters


def test_hand_computed_ras():
    geometry = Geometry(affine_of(np.diag([2.0, 3, 4]), (10, 20, 30)), SHAPE)
    assert geometry.display_shape == (5, 4, 3)
    assert geometry.spacing == (4, 3, 2)
    # Display voxel 0, 0, 0 is the most superior, anterior and right one: the last of the source.
    np.testing.assert_allclose(world(geometry.display_affine, (0, 0, 0)), (14, 29, 46))


@settings(max_examples=150, deadline=None)
@given(affine=affines(), shape=st.tuples(*[st.integers(1, 6)] * 3))
def test_any_affine(affine, shape):
    geometry = Geometry(affine, shape)
    check_exact(geometry, shape)
    assert sorted(geometry.spacing) == pytest.approx(sorted(np.linalg.norm(affine[:3, :3], axis=0)))
    assert geometry.matches(geometry)


@pytest.mark.parametrize(
    ("degrees", "oblique"), [(0, False), (0.05, False), (0.2, True), (30, True)]
)
def test_oblique(degrees, oblique):
    for axis in np.eye(3):
        rotation = Rotation.from_rotvec(np.deg2rad(degrees) * axis).as_matrix()
        geometry = Geometry(affine_of(rotation * (1, 2, 3)), SHAPE)
        assert geometry.is_oblique is oblique
        check_exact(geometry, SHAPE)


@pytest.mark.parametrize(
    "affine",
    [
        np.zeros((4, 4)),
        affine_of(np.diag([1.0, 1, 0])),
        affine_of([[1.0, 2, 0], [1, 2, 0], [0, 0, 1]]),
        affine_of([[1.0, 0, 1], [0, 1, 1], [0, 0, 0]]),
        affine_of(np.diag([1.0, 1, np.nan])),
        affine_of(np.eye(3), (0, 0, np.inf)),
        affine_of(np.diag([1e300, 1e300, 1e300])),
        np.eye(3),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_degenerate_affines_are_refused(affine):
    with pytest.raises(GeometryError) as caught:
        Geometry(affine, SHAPE)
    assert isinstance(caught.value, SslsegError)
    assert str(caught.value).endswith(".")


def test_tiny_voxels_are_not_singular():
    check_exact(Geometry(affine_of(np.diag([1e-4, 1e-4, 1e-3])), SHAPE), SHAPE)


def test_is_immutable():
    affine = np.eye(4)
    geometry = Geometry(affine, SHAPE)
    affine[0, 0] = 9
    assert geometry.affine[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine[0, 0] = 9


def test_wrong_shape_is_refused():
    geometry = Geometry(np.eye(4), SHAPE)
    with pytest.raises(GeometryError, match="source grid"):
        geometry.to_display(np.zeros(geometry.display_shape))
    with pytest.raises(GeometryError, match="display grid"):
        geometry.to_source(np.zeros(SHAPE))


def test_matches():
    geometry = Geometry(np.eye(4), SHAPE)
    assert geometry.matches(Geometry(np.eye(4).astype(np.float32) * np.float32(1 + 1e-6), SHAPE))
    assert not geometry.matches(Geometry(np.eye(4), (3, 4, 6)))
    assert not geometry.matches(Geometry(affine_of(np.eye(3), (0.2, 0, 0)), SHAPE))
    assert not geometry.matches(Geometry(affine_of(np.diag([1, 1, 1.03])), SHAPE))
    assert not geometry.matches(Geometry(affine_of(np.diag([-1, 1, 1])), SHAPE))
    # The same voxels, stored from the other end of an axis and in another order.
    turned = Geometry(affine_of([[0, -1, 0], [1, 0, 0], [0, 0, 1]], (2, 0, 0)), (4, 3, 5))
    assert geometry.matches(turned)
    assert turned.matches(geometry)
