"""The organs of a procedural abdomen: position, shape and variation."""

import numpy as np

from napari_sslseg.core.demo.phantom.shapes import (
    LEFT_KIDNEY,
    LIVER,
    RIGHT_KIDNEY,
    SPLEEN,
    Array,
    Patient,
    axes_along,
    overlap,
    tube,
    union,
)
from napari_sslseg.core.demo.phantom.trunk import Trunk, paint_chest, paint_spine, paint_trunk


def paint_all(patient: Patient) -> None:
    """Paint a whole patient, from the outside in; organs end at their neighbours."""
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


def paint_gut(patient: Patient, trunk: Trunk) -> None:
    """Small bowel, colon with stool and gas, pancreas, and the vessels of the mesentery."""
    rng = patient.rng
    box = patient.box(z=(-60, np.inf))
    cavity = trunk.cavity(box)
    # The zero sets of two smooth fields intersect in curves, which look like branching vessels.
    vessel = 5 * np.hypot(box.noise("fine"), box.noise("fine")) - 1.6
    patient.paint(box, "vein", overlap(vessel, cavity + 6, 3))
    centre = np.array([rng.normal(5, 8), -28, 70])
    region = box.ellipsoid(centre, np.array([92, 50, 66]) * rng.normal(1, 0.06, 3))
    loops = overlap(7 * (-0.1 - box.noise("loops")), np.maximum(region, cavity + 4), 6)
    patient.paint(box, "bowel wall", loops)
    content = 6 * (0.3 - box.noise("fine"))
    patient.paint(box, "bowel content", np.maximum(loops + 3.5, content))
    gas = np.maximum(loops + 5, 8 * (1.35 - box.noise("loops")) + (box.y + 40) / 6)
    patient.paint(box, "gas", gas)
    wave = 7 * np.sin(box.z / 19 + rng.uniform(0, 6))
    right = tube(box.x + 92 + wave * 0.5, box.y - 12 - wave, 17 + 2.5 * box.noise("fine"))
    left = tube(box.x - 103 - wave * 0.5, box.y - 18 + wave, 13 + 2.5 * box.noise("fine"))
    dip = 52 + rng.normal(0, 6) - 34 * (np.abs(box.x) / 95) ** 2
    across = tube(box.z - dip, box.y + 58 - 26 * (box.x / 95) ** 2, 14 + 3 * box.noise("fine"))
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
    path = tube(box.z - level, 1.1 * (box.y + 8 - 0.004 * (box.x - 5) ** 2), 12 - 0.05 * box.x)
    pancreas = np.maximum(path + 3 * box.noise("fine"), np.abs(box.x - 15) - 58)
    patient.paint(box, "pancreas", pancreas)


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

    The left kidney is longer, higher, and often humped next to the spleen; the right one is
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
    along, inward = box.along(axes[2], centre), box.along(axes[0], centre)
    bent = box.bent(axes[0], rng.uniform(5, 9) * (along / float(radii[2])) ** 2)
    d = bent.ellipsoid(centre, radii, axes) + 1.3 * box.noise("fine")
    if not right:
        hump = centre + axes[2] * rng.normal(4, 6) - axes[0] * 16
        d = union(d, box.ellipsoid(hump, np.array([15, 16, 22])), 12)
    hollow = radii * np.array([0.62, 0.4, 0.45]) * rng.normal(1, 0.06, 3)
    sinus = box.ellipsoid(centre + axes[0] * 0.62 * radii[0], hollow, axes)
    sinus = sinus + 1.5 * box.noise("fine")
    d = overlap(d, -sinus, 4)
    # Most of the fat lies behind the kidney and towards the spine, little next to the liver.
    halo = bent.ellipsoid(
        centre + np.array([-side * 7, 7, -4]), radii + rng.uniform(4, 9, 3), axes
    ) + 2 * box.noise("loops")
    patient.paint(box, "visceral fat", halo)
    patient.paint(box, "kidney cortex", d, label)
    columns = np.cos(along * (2 * np.pi / rng.uniform(15, 19)) + 0.8 * box.noise("fine"))
    pyramids = np.maximum(d + 7.5, -2.5 * (columns + 0.55))
    patient.paint(box, "kidney medulla", pyramids, label)
    pelvis = np.maximum(sinus + 4.5, np.abs(inward - 0.5 * float(radii[0])) - 9)
    patient.paint(box, "urine", pelvis, None)
    return centre, radii + 4, axes


Ellipsoid = tuple[Array, Array, Array]


def paint_spleen(
    patient: Patient, trunk: Trunk, kidney: Ellipsoid, stomach: tuple[Array, Array]
) -> None:
    """The spleen, shaped by the wall, the left kidney and the stomach."""
    rng = patient.rng
    centre = np.array([100, 36, -30]) + rng.normal(0, [3, 5, 5])
    radii = np.array([37, 47, 52]) * rng.normal(1, 0.07, 3)
    box = patient.around(centre, 75)
    d = box.ellipsoid(centre, radii, axes_along((0.12, -0.55, 0.8), (1, 0.2, 0)))
    d = overlap(d + 1.5 * box.noise("fine"), trunk.cavity(box) + 3, 6)
    d = overlap(d, trunk.below_diaphragm(box) + 3, 5)
    d = overlap(d, 3 - box.ellipsoid(*kidney), 6)
    d = overlap(d, 3 - box.ellipsoid(*stomach), 6)
    patient.paint(box, "visceral fat", d - 3)
    patient.paint(box, "spleen", d, SPLEEN)


def paint_liver(patient: Patient, trunk: Trunk, kidney: Ellipsoid) -> None:
    """Two lobes under the right dome, with vessels, the fissure and the gallbladder."""
    rng = patient.rng
    box = patient.box((-150, 110), z=(-110, 95))
    grow = rng.normal(1, 0.04)
    centre = np.array([-76, -3, -22]) + rng.normal(0, 3, 3)
    radii = np.array([66, 90, 84]) * grow * rng.normal(1, 0.04, 3)
    right = box.ellipsoid(centre, radii, axes_along((-0.28, -0.05, 1), (1, 0, 0)))
    reach = rng.uniform(62, 88)
    centre = np.array([-2, -50, -46]) + rng.normal(0, 4, 3)
    radii = np.array([26 + 6 * grow, 36, reach])
    left = box.ellipsoid(centre, radii, axes_along((1, -0.05, -0.28), (0, 1, 0)))
    d = union(right, left, 18) + 2 * box.noise("loops")
    hilum = box.ellipsoid(np.array([-6, 6, 18]), np.array([40, 44, 46]) * rng.normal(1, 0.07, 3))
    d = overlap(d, -hilum, 10)
    d = overlap(d, 38 - np.hypot(*trunk.beside_spine(box)), 8)
    d = overlap(d, 3 - box.ellipsoid(*kidney), 6)
    d = overlap(d, trunk.below_diaphragm(box) + 2, 6)
    d = overlap(d, trunk.cavity(box) + 1.5, 8)
    patient.paint(box, "visceral fat", np.maximum(d - 2, trunk.below_diaphragm(box) + 2))
    patient.paint(box, "liver", d, LIVER)
    tree = 8 * np.hypot(box.noise("loops"), box.noise("loops")) - 1.9
    patient.paint(box, "vein", np.maximum(tree, d + 8), None)
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
    crus = np.abs(tube(x - 2, y + 8, 27)) - 2.5
    patient.paint(box, "muscle", np.maximum(np.maximum(crus, y - 4), np.abs(box.z + 8) - 34))
    aorta = tube(x - 10 - wave, y + 27 - wave / 3, rng.normal(10, 1))
    patient.paint(box, "aorta", aorta)
    climb = np.clip(-box.z / 70, 0, 1)
    cava = np.hypot(0.85 * (x + 21 + 4 * climb + wave / 2), y + 27 + 10 * climb) - rng.normal(10, 1)
    patient.paint(box, "vein", np.maximum(cava, trunk.below_diaphragm(box)))
    portal = tube(box.z + 8 - 0.35 * (x + 5), y + 40 - 0.15 * x, 7)
    patient.paint(box, "vein", np.maximum(portal, np.abs(x + 22) - 36), None)
    superior = tube(x + 3, y + 48, 5.5)
    patient.paint(box, "vein", np.maximum(superior, -box.z))
    patient.paint(box, "aorta", np.maximum(tube(x - 12, y + 47, 4), -box.z))
    renal = tube(box.z - 24 + 0.15 * x, y + 27 - 0.012 * x**2, 4)
    patient.paint(box, "vein", np.maximum(renal, np.abs(x) - 42), None)
