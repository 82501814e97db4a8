"""The trunk of a procedural patient: wall, ribs, muscles, chest and spine."""

import numpy as np

from napari_sslseg.core.demo.phantom.shapes import (
    SPINE,
    Array,
    Box,
    Patient,
    overlap,
    superellipse,
    tube,
    union,
)


class Trunk:
    """The surroundings of the organs: the wall, the cavity, the diaphragm and the spine.

    The fields are drawn once over the whole grid; organs look them up in their box.
    """

    def __init__(self, patient: Patient) -> None:
        rng = patient.rng
        across, depth = rng.normal(141, 4), rng.normal(98, 4)
        self.muscle = rng.uniform(11, 15)
        self.fat = rng.uniform(5, 21)
        self.spine_y = 0.34 * depth
        self.scoliosis, self.lordosis = rng.normal(0, 3), rng.uniform(2, 7)
        self.level_height, self.first_level = rng.normal(33.5, 1.2), rng.uniform(0, 33)
        x, y, z = patient.x, patient.y, patient.z
        waist = 1 - 0.05 * np.exp(-(((z - 60) / 45) ** 2)) - 0.0004 * np.maximum(-z - 40, 0)
        # The back is flatter than the front and has a furrow along the spine.
        behind = y > 0
        wall = superellipse(
            x / waist, y, across, depth * np.where(behind, 0.93, 1.05).astype(np.float32), 2.3
        )
        self._wall = wall + behind * 6 * np.exp(-((x / 15) ** 2))
        # The wall is thickest at the back.
        back = np.clip((y - 35) / 35, 0, 1) * (4 + 6 * np.exp(-((x / 70) ** 2)))
        self._cavity = self._wall + self.muscle + back
        fall = 66 * ((y + 5) / np.where(y > -5, 80, 150).astype(np.float32)) ** 2
        right = rng.normal(-84, 4) + 60 * ((x + 64) / 76) ** 2
        left = rng.normal(-77, 4) + 60 * ((x - 64) / 74) ** 2
        middle = rng.normal(-64, 3) + 60 * (x / 70) ** 2
        # The slopes are shallow: a height overstates the distance, so it is scaled.
        domes = union(union(right, left, 12), middle, 15)
        self._below_diaphragm = 0.75 * (domes + fall - z)

    def wall(self, box: Box) -> Array:
        """Distance to the outside of the muscle wall."""
        return self._wall[box.where]

    def cavity(self, box: Box) -> Array:
        """Distance to the inside of the muscle wall."""
        return self._cavity[box.where]

    def below_diaphragm(self, box: Box) -> Array:
        """Negative below the domes of the diaphragm."""
        return self._below_diaphragm[box.where]

    def beside_spine(self, box: Box) -> tuple[Array, Array]:
        """Distances to the left of, and behind, the middle of the vertebral bodies."""
        x = box.x - self.scoliosis * np.sin(box.z / 60)
        return x, box.y - self.spine_y + self.lordosis * np.cos((box.z - 50) / 60)


def paint_trunk(patient: Patient, trunk: Trunk) -> None:
    """Skin, fat, the muscle wall with ribs, and the muscles next to the spine."""
    rng = patient.rng
    box = patient.box()
    wall = trunk.wall(box)
    fat = trunk.fat * (1 + 0.18 * box.noise("wide") + 0.004 * box.z - 0.002 * np.abs(box.x))
    patient.paint(box, "skin", wall - np.maximum(fat, 3) - 3)
    patient.paint(box, "fat", wall - np.maximum(fat, 3))
    patient.paint(box, "muscle", wall + 1.5 * box.noise("fine"))
    # Fat between the layers of the flank muscles.
    layer = np.abs(wall + 0.55 * trunk.muscle + 1.5 * box.noise("fine")) - 0.8
    patient.paint(box, "fat", np.maximum(layer, np.abs(box.y + 10) - 55))
    cavity = trunk.cavity(box)
    patient.paint(box, "visceral fat", cavity)
    # Ribs slope down towards the front and end at the costal margin.
    period, thick = rng.normal(29, 1), rng.normal(6.0, 0.4)
    phase = (box.z + 0.6 * box.y + rng.uniform(0, 30)) / period
    across = (phase - np.round(phase)) * period * 0.86
    rib = np.hypot(across, 1.7 * (wall + 0.6 * trunk.muscle)) - thick
    margin = box.z - (35 + 0.75 * box.y)
    rib = np.maximum(rib, np.maximum(margin, 30 - np.abs(box.x)))
    patient.paint(box, "cartilage", np.maximum(rib, margin))
    bony = np.maximum(rib, 0.5 * (margin + 35))
    patient.paint(box, "cortical bone", bony)
    patient.paint(box, "marrow", bony + 2.6)
    for side in (-1, 1):
        back = patient.box((side * 40 - 50, side * 40 + 50), (20, np.inf))
        x, y = trunk.beside_spine(back)
        low = np.clip((back.z + 30) / 90, 0, 1)
        bulk = np.hypot((x - side * 35) / 1.45, y - 41) - 20 - 2 * low
        patient.paint(back, "muscle", overlap(bulk + back.noise("fine"), trunk.wall(back), 4))
        psoas = np.hypot(1.1 * (x - side * (27 + 10 * low)), y - 6) - 4 - 14 * low
        patient.paint(back, "muscle", np.maximum(psoas + back.noise("fine"), -back.z - 25))


def paint_chest(patient: Patient, trunk: Trunk) -> None:
    """Lungs above the diaphragm, and the heart on top of it."""
    rng = patient.rng
    box = patient.box(z=(-np.inf, 45))
    above = -trunk.below_diaphragm(box)
    lung = overlap(np.maximum(trunk.cavity(box) + 1, above), 26 - np.hypot(box.x, box.y - 36), 6)
    patient.paint(box, "lung", lung)
    patient.paint(box, "muscle", np.maximum(np.abs(above) - 1.5, trunk.cavity(box)))
    tree = 5 * np.hypot(box.noise("fine"), box.noise("fine")) - 1.0
    patient.paint(box, "vein", np.maximum(tree, lung + 3))
    heart = box.ellipsoid(np.array([16, -38, -112]) + rng.normal(0, 4, 3), np.array([58, 44, 38]))
    heart = overlap(np.maximum(heart, above), trunk.cavity(box) + 4, 6)
    patient.paint(box, "fat", heart - 4)
    patient.paint(box, "muscle", heart)
    patient.paint(box, "blood", heart + 9)


def paint_spine(patient: Patient, trunk: Trunk) -> None:
    """Vertebrae with cortical shells, discs, canal and processes, all labelled as spine."""
    box = patient.box((-60, 60), (-20, np.inf))
    x, y = trunk.beside_spine(box)
    x = x + 0.6 * box.noise("fine")
    height = trunk.level_height
    level = (box.z - trunk.first_level) / height
    level = (level - np.round(level)) * height  # mm from the middle of the nearest vertebra
    body_height = height / 2 - 4.5
    flare = 2.5 * (level / body_height) ** 2
    body = superellipse(x, y, 20.5 + flare, 15.5 + 0.6 * flare, 2.4)
    ends = np.abs(level) - body_height
    bone = np.maximum(body, ends)
    canal = np.hypot(0.85 * x, y - 24) - 8.5
    arch = np.maximum(np.hypot(0.85 * x, y - 24) - 14, np.abs(level - 4) - 11)
    facet = tube(np.abs(x) - 15, y - 30, 6.5)
    wing = np.maximum(tube(level, y - 23 - 0.12 * np.abs(x), 5), np.abs(x) - 37)
    spike = np.maximum(np.abs(x) - 3.4, np.abs(level - 4) - 9)
    spike = np.maximum(spike, np.abs(y - 45) - 17)
    back = union(np.minimum(arch, spike), np.minimum(facet, wing), 3)
    back = np.maximum(back, -canal)
    patient.paint(box, "disc", body, SPINE)
    patient.paint(box, "cortical bone", back, SPINE)
    patient.paint(box, "marrow", back + 2.8, SPINE)
    patient.paint(box, "cortical bone", bone, SPINE)
    patient.paint(box, "marrow", bone + 2.0, SPINE)
    patient.paint(box, "fluid", canal, SPINE)
    patient.paint(box, "cord", canal + 4, SPINE)
