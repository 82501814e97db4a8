"""Affines of all orientations, and random affines, for tests of geometry."""

import itertools

import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

ORIENTATIONS = [
    np.eye(3)[list(order)] * np.array(signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def affine_of(matrix, origin=(0.0, 0.0, 0.0)):
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = origin
    return affine


@st.composite
def affines(draw):
    number = st.floats(-1, 1, allow_nan=False)
    rotation = Rotation.from_rotvec([np.pi * draw(number) for _ in range(3)]).as_matrix()
    spacing = np.diag([draw(st.floats(0.2, 8)) for _ in range(3)])
    shear = np.eye(3)
    shear[0, 1], shear[0, 2], shear[1, 2] = (0.4 * draw(number) for _ in range(3))
    flip = np.diag([draw(st.sampled_from((1, -1))) for _ in range(3)])
    origin = [300 * draw(number) for _ in range(3)]
    return affine_of(rotation @ spacing @ shear @ flip, origin)


def world(affine, index):
    return affine[:3, :3] @ np.asarray(index) + affine[:3, 3]
