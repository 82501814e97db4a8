"""Where the organs of a procedural patient lie, how they are shaped, and how they vary."""

import numpy as np

from napari_sslseg.core.phantom_anatomy import (
    LEFT_KIDNEY,
    LIVER,
    RIGHT_KIDNEY,
    SPINE,
    SPLEEN,
    Array,
    Box,
    Patient,
    axes_along,
    overlap,
    superellipse,
    union,
)


class Trunk:
    """What the organs of a patient lie in: the wall, the cavity, the diaphragm and the spine.

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
        wall = superellipse(x / waist, y, across, np.where(behind, 0.93, 1.05) * depth, 2.3)
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


def paint_all(patient: Patient) -> None:
    """Paint a whole patient, from the outside in; organs stop where their neighbours begin."""
    trunk = Trunk(patient)
    paint_trunk(patient, trunk)
    paint_gut(patient, trunk)
    paint_chest(patient, trunk)
    stomach = paint_stomach(patient, trunk)
    right, left = paint_kidney(patient, RIGHT_KIDNEY), paint_kidney(patient, LEFT_KIDNEY)
    paint_spleen(patient, trunk, left, stomach)
    paint_liver(patient, trunk, right)
    paint_vessels(patient, trunk)
    paint_spine(patient, trunk)


def paint_trunk(patient: Patient, trunk: Trunk) -> None:
    """Skin, fat, the muscle wall with ribs, and the muscles beside the spine."""
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


def _tube(u: Array, v: Array, radius: float | Array) -> Array:
    return np.hypot(u, v) - radius


def paint_gut(patient: Patient, trunk: Trunk) -> None:
    """Small bowel, colon with stool and gas, pancreas, and the vessels of the mesentery."""
    rng = patient.rng
    box = patient.box(z=(-60, np.inf))
    cavity = trunk.cavity(box)
    # Zero sets of two smooth fields meet in curves, which look like branching vessels.
    vessel = 5 * np.hypot(box.noise("fine"), box.noise("fine")) - 1.6
    patient.paint(box, "vein", overlap(vessel, cavity + 6, 3))
    centre = np.array([rng.normal(5, 8), -28, 70])
    region = box.ellipsoid(centre, np.array([92, 50, 66]) * rng.normal(1, 0.06, 3))
    loops = overlap(7 * (0.5 - box.noise("loops")), np.maximum(region, cavity + 4), 6)
    patient.paint(box, "bowel wall", loops)
    content = 6 * (0.3 - box.noise("fine"))
    patient.paint(box, "bowel content", np.maximum(loops + 3.5, content))
    gas = np.maximum(loops + 5, 8 * (1.35 - box.noise("loops")) + (box.y + 40) / 6)
    patient.paint(box, "gas", gas)
    wave = 7 * np.sin(box.z / 19 + rng.uniform(0, 6))
    right = _tube(box.x + 92 + wave * 0.5, box.y - 12 - wave, 17 + 2.5 * box.noise("fine"))
    left = _tube(box.x - 103 - wave * 0.5, box.y - 18 + wave, 13 + 2.5 * box.noise("fine"))
    dip = 52 + rng.normal(0, 6) - 34 * (np.abs(box.x) / 95) ** 2
    across = _tube(box.z - dip, box.y + 58 - 26 * (box.x / 95) ** 2, 14 + 3 * box.noise("fine"))
    colon = np.minimum(np.maximum(right, 38 - box.z), np.maximum(left, 5 - box.z))
    colon = union(colon, np.maximum(across, np.abs(box.x) - 98), 8)
    colon = overlap(colon, cavity + 3, 4)
    patient.paint(box, "visceral fat", colon - 5)
    patient.paint(box, "bowel wall", colon)
    patient.paint(box, "stool", colon + 3)
    gas = np.maximum(colon + 4, 9 * (0.5 - box.noise("loops")) + (box.y - 5) / 5)
    patient.paint(box, "gas", gas)
    box = patient.box((-60, 95), (-60, 50), (-60, 70))
    level = 12 - 0.3 * (box.x + 30) + rng.normal(0, 4)
    path = _tube(box.z - level, 1.1 * (box.y + 8 - 0.004 * (box.x - 5) ** 2), 12 - 0.05 * box.x)
    pancreas = np.maximum(path + 3 * box.noise("fine"), np.abs(box.x - 15) - 58)
    patient.paint(box, "pancreas", pancreas)


def paint_chest(patient: Patient, trunk: Trunk) -> None:
    """Lungs above the diaphragm, and the heart on top of it."""
    rng = patient.rng
    box = patient.box(z=(-np.inf, 45))
    above = -trunk.below_diaphragm(box)
    lung = overlap(np.maximum(trunk.cavity(box) + 1, above), 26 - np.hypot(box.x, box.y - 36), 6)
    patient.paint(box, "lung", lung)
    tree = 5 * np.hypot(box.noise("fine"), box.noise("fine")) - 1.0
    patient.paint(box, "vein", np.maximum(tree, lung + 3))
    heart = box.ellipsoid(
        np.array([16, -38, -112]) + rng.normal(0, 4, 3), np.array([58, 44, 38])
    )
    heart = overlap(np.maximum(heart, above), trunk.cavity(box) + 4, 6)
    patient.paint(box, "fat", heart - 4)
    patient.paint(box, "muscle", heart)
    patient.paint(box, "blood", heart + 9)


def paint_stomach(patient: Patient, trunk: Trunk) -> tuple[Array, Array]:
    """The stomach: a wall, fluid behind, and gas in front, as in a patient on the back."""
    rng = patient.rng
    centre = np.array([52, -30, -42]) + rng.normal(0, 5, 3)
    radii = np.array([36, 34, 46]) * rng.normal(1, 0.1, 3)
    axes = axes_along((-0.55, -0.35, 0.8), (1, 0, 0))
    box = patient.around(centre, 75)
    d = box.ellipsoid(centre, radii, axes) + 3.5 * box.noise("loops")
    d = overlap(np.maximum(d, trunk.below_diaphragm(box) + 3), trunk.cavity(box) + 4, 5)
    patient.paint(box, "visceral fat", d - 4)
    patient.paint(box, "bowel wall", d)
    patient.paint(box, "bowel content", d + 4 + box.noise("fine"))
    level = float(centre[1]) - rng.uniform(0, 22)
    patient.paint(box, "gas", np.maximum(d + 4.5, box.y - level))
    return centre, radii


def paint_kidney(patient: Patient, label: int) -> tuple[Array, Array, Array]:
    """A kidney in its fat: cortex, pyramids, and a sinus with pelvis that opens to the hilum.

    The left kidney is longer, higher, and often humped beside the spleen; the right one is
    pushed down by the liver. Each has its own tilt, so that they are no mirror images.
    """
    rng = patient.rng
    right = label == RIGHT_KIDNEY
    side = -1.0 if right else 1.0
    centre = np.array([-60, 34, 38]) if right else np.array([62, 31, 14])
    centre = centre + rng.normal(0, [3, 3, 4.5])
    radii = np.array([26, 23, 51]) if right else np.array([26, 25, 57])
    radii = radii * rng.normal(1, 0.04, 3)
    lean, nod = rng.normal((0.22, 0.2) if right else (0.13, 0.26), 0.04)
    face = rng.normal(0.75 if right else 0.5, 0.12)
    axes = axes_along((side * lean, -nod, 1), (-side, -face, 0))
    box = patient.around(centre, radii[2] + 22)
    along = sum(a * (c - o) for a, c, o in zip(axes[2], (box.x, box.y, box.z), centre, strict=True))
    inward = sum(
        a * (c - o) for a, c, o in zip(axes[0], (box.x, box.y, box.z), centre, strict=True)
    )
    bend = rng.uniform(5, 9) * (along / radii[2]) ** 2
    bent = Box(
        box.where, *(c - np.float32(a) * bend for c, a in zip((box.x, box.y, box.z), axes[0], strict=True)),
        box.noise,
    )  # fmt: skip
    d = bent.ellipsoid(centre, radii, axes) + 1.3 * box.noise("fine")
    if not right:
        hump = centre + axes[2] * rng.normal(4, 6) - axes[0] * 16
        d = union(d, box.ellipsoid(hump, np.array([15, 16, 22])), 12)
    sinus = box.ellipsoid(
        centre + axes[0] * 0.62 * radii[0],
        radii * np.array([0.62, 0.4, 0.45]) * rng.normal(1, 0.06, 3), axes,
    ) + 1.5 * box.noise("fine")  # fmt: skip
    d = overlap(d, -sinus, 4)
    # Most of the fat lies behind the kidney and towards the spine; little parts it from the liver.
    halo = bent.ellipsoid(
        centre + np.array([-side * 7, 7, -4]), radii + rng.uniform(4, 9, 3), axes
    ) + 2 * box.noise("loops")
    patient.paint(box, "visceral fat", halo)
    patient.paint(box, "kidney cortex", d, label)
    columns = np.cos(along * (2 * np.pi / rng.uniform(15, 19)) + 0.8 * box.noise("fine"))
    pyramids = np.maximum(d + 7.5, -2.5 * (columns + 0.55))
    patient.paint(box, "kidney medulla", pyramids, label)
    pelvis = np.maximum(sinus + 4.5, np.abs(inward - 0.5 * radii[0]) - 9)
    patient.paint(box, "urine", pelvis, None)
    return centre, radii + 4, axes


Ellipsoid = tuple[Array, Array, Array]


def paint_spleen(
    patient: Patient, trunk: Trunk, kidney: Ellipsoid, stomach: tuple[Array, Array]
) -> None:
    """The spleen, moulded by the wall, the left kidney and the stomach."""
    rng = patient.rng
    centre = np.array([100, 36, -30]) + rng.normal(0, [3, 5, 5])
    radii = np.array([37, 47, 52]) * rng.normal(1, 0.07, 3)
    box = patient.around(centre, 75)
    d = box.ellipsoid(centre, radii, axes_along((0.12, -0.55, 0.8), (1, 0.2, 0)))
    d = overlap(d + 1.5 * box.noise("fine"), trunk.cavity(box) + 3, 6)
    d = overlap(d, trunk.below_diaphragm(box) + 3, 5)
    d = overlap(d, 3 - box.ellipsoid(*kidney), 6)
    d = overlap(d, 3 - box.ellipsoid(*stomach), 6)
    patient.paint(box, "visceral fat", d - 3, None)
    patient.labels[box.where][d < 3] *= patient.labels[box.where][d < 3] != SPLEEN
    patient.paint(box, "spleen", d, SPLEEN)


def paint_liver(patient: Patient, trunk: Trunk, kidney: Ellipsoid) -> None:
    """Two lobes under the right dome, with vessels, the fissure and the gallbladder."""
    rng = patient.rng
    box = patient.box((-150, 110), z=(-110, 95))
    grow = rng.normal(1, 0.04)
    right = box.ellipsoid(
        np.array([-76, -3, -22]) + rng.normal(0, 3, 3),
        np.array([66, 90, 84]) * grow * rng.normal(1, 0.04, 3), axes_along((-0.28, -0.05, 1), (1, 0, 0)),
    )  # fmt: skip
    reach = rng.uniform(62, 88)
    left = box.ellipsoid(
        np.array([-2, -50, -46]) + rng.normal(0, 4, 3),
        np.array([26 + 6 * grow, 36, reach]), axes_along((1, -0.05, -0.28), (0, 1, 0)),
    )  # fmt: skip
    d = union(right, left, 18) + 2 * box.noise("loops")
    hilum = box.ellipsoid(np.array([-6, 6, 18]), np.array([40, 44, 46]) * rng.normal(1, 0.07, 3))
    d = overlap(d, -hilum, 10)
    d = overlap(d, 38 - np.hypot(*trunk.beside_spine(box)), 8)
    d = overlap(d, 3 - box.ellipsoid(*kidney), 6)
    d = overlap(d, trunk.below_diaphragm(box) + 2, 6)
    d = overlap(d, trunk.cavity(box) + 2.5, 8)
    patient.paint(box, "visceral fat", d - 2, None)
    patient.paint(box, "liver", d, LIVER)
    tree = 8 * np.hypot(box.noise("loops"), box.noise("loops")) - 1.5
    patient.paint(box, "vein", np.maximum(tree, d + 9), None)
    fissure = box.x - rng.normal(-12, 4) - 0.25 * box.y + 5 * box.noise("loops")
    fissure = np.maximum(np.abs(fissure) - 1.6, np.maximum(box.y + 30, -18 - 0.4 * box.y - box.z))
    patient.paint(box, "fat", np.maximum(fissure, d), None)
    centre = np.array([-50, -42, 22]) + rng.normal(0, 5, 3)
    box = patient.around(centre, 45)
    axes = axes_along((-0.2, -0.5, 0.8), (1, 0, 0))
    bile = box.ellipsoid(centre, np.array([13, 14, 28]) * rng.normal(1, 0.1, 3), axes)
    patient.paint(box, "bowel wall", bile - 2)
    patient.paint(box, "bile", bile)


def paint_vessels(patient: Patient, trunk: Trunk) -> None:
    """Aorta, inferior vena cava, portal and renal veins, and the crura."""
    rng = patient.rng
    box = patient.box((-80, 80), (-60, 80))
    x, y = trunk.beside_spine(box)
    wave = 3 * np.sin(box.z / 40 + rng.uniform(0, 6))
    crus = np.abs(_tube(x - 2, y + 8, 27)) - 2.5
    patient.paint(box, "muscle", np.maximum(np.maximum(crus, y - 4), np.abs(box.z + 8) - 34))
    aorta = _tube(x - 10 - wave, y + 27 - wave / 3, rng.normal(10, 1))
    patient.paint(box, "aorta", aorta)
    climb = np.clip(-box.z / 70, 0, 1)
    cava = np.hypot(0.85 * (x + 21 + 4 * climb + wave / 2), y + 27 + 10 * climb) - rng.normal(10, 1)
    patient.paint(box, "vein", np.maximum(cava, trunk.below_diaphragm(box)))
    portal = _tube(box.z + 8 - 0.35 * (x + 5), y + 40 - 0.15 * x, 7)
    patient.paint(box, "vein", np.maximum(portal, np.abs(x + 22) - 36), None)
    superior = _tube(x + 3, y + 48, 5.5)
    patient.paint(box, "vein", np.maximum(superior, -box.z))
    patient.paint(box, "aorta", np.maximum(_tube(x - 12, y + 47, 4), -box.z))
    renal = _tube(box.z - 24 + 0.15 * x, y + 27 - 0.012 * x**2, 4)
    patient.paint(box, "vein", np.maximum(renal, np.abs(x) - 42), None)


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
    facet = _tube(np.abs(x) - 15, y - 30, 6.5)
    wing = np.maximum(_tube(level, y - 23 - 0.12 * np.abs(x), 5), np.abs(x) - 37)
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
