"""Procedural abdominal MR and CT patients, with exact labels.

A patient is drawn as organic shapes (modules ``trunk`` and ``organs``) in thin sub-slices. A slice
profile averages these to thick slices, so that edges have the partial volumes of a real scan. The
simulated scanner adds tissue contrast that varies from patient to patient, noise (Gaussian in CT,
Rician in MR), a bias field of the coil, and a position in its own coordinates.
"""

import os
import re
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Literal, get_args

import nibabel as nib
import numpy as np

from napari_sslseg.core.common.atomic import atomic_path
from napari_sslseg.core.common.errors import (
    PATH,
    ConfigError,
    SslsegError,
    StorageError,
    check_type,
)
from napari_sslseg.core.common.sizes import format_size
from napari_sslseg.core.demo.phantom.organs import paint_all
from napari_sslseg.core.demo.phantom.shapes import (
    LEFT_KIDNEY,
    LIVER,
    RIGHT_KIDNEY,
    SPINE,
    SPLEEN,
    Patient,
    smooth_noise,
)
from napari_sslseg.core.scans.classes.class_list import CLASS_LIST, read_class_names
from napari_sslseg.core.scans.classes.write_class_list import write_class_list
from napari_sslseg.core.scans.formats.nifti import image_like
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labels import save_labels
from napari_sslseg.core.scans.names import is_system_file
from napari_sslseg.core.scans.volume import Modality, Volume, load_volume

PHANTOM_CLASSES: dict[int, str] = {
    LIVER: "liver",
    RIGHT_KIDNEY: "right kidney",
    LEFT_KIDNEY: "left kidney",
    SPLEEN: "spleen",
    SPINE: "spine",
}

Weighting = Literal["T1", "T2"]

# HU without contrast agent, increase at the peak of the agent, and texture (standard deviation).
_CT: dict[str, tuple[float, float, float]] = {
    "air": (-1000, 0, 0),
    "skin": (10, 0, 10),
    "fat": (-105, 0, 6),
    "visceral fat": (-100, 2, 9),
    "muscle": (55, 8, 8),
    "lung": (-850, 0, 30),
    "blood": (42, 110, 3),
    "aorta": (42, 125, 2),
    "vein": (42, 105, 3),
    "liver": (58, 52, 4),
    "spleen": (50, 70, 4),
    "pancreas": (40, 55, 9),
    "kidney cortex": (34, 145, 5),
    "kidney medulla": (30, 100, 5),
    "urine": (5, 10, 2),
    "bile": (10, 0, 2),
    "bowel wall": (40, 40, 6),
    "bowel content": (22, 5, 9),
    "stool": (10, 0, 45),
    "gas": (-940, 0, 20),
    "cartilage": (110, 0, 20),
    "cortical bone": (520, 0, 70),
    "marrow": (145, 10, 40),
    "disc": (80, 0, 8),
    "fluid": (15, 0, 2),
    "cord": (35, 5, 2),
}

# Relative signal in T1- and T2-weighted MR, and texture as a fraction of the signal.
_MR: dict[str, tuple[float, float, float]] = {
    "air": (0, 0, 0),
    "skin": (0.45, 0.3, 0.05),
    "fat": (1.0, 0.92, 0.04),
    "visceral fat": (0.92, 0.84, 0.06),
    "muscle": (0.34, 0.16, 0.12),
    "lung": (0.06, 0.05, 0.3),
    "blood": (0.3, 0.25, 0.1),
    "aorta": (0.16, 0.07, 0.2),
    "vein": (0.24, 0.2, 0.1),
    "liver": (0.56, 0.29, 0.05),
    "spleen": (0.38, 0.47, 0.04),
    "pancreas": (0.55, 0.42, 0.1),
    "kidney cortex": (0.46, 0.43, 0.05),
    "kidney medulla": (0.33, 0.58, 0.05),
    "urine": (0.18, 1.1, 0.03),
    "bile": (0.22, 1.2, 0.03),
    "bowel wall": (0.38, 0.3, 0.1),
    "bowel content": (0.26, 0.75, 0.15),
    "stool": (0.36, 0.3, 0.3),
    "gas": (0.02, 0.02, 0),
    "cartilage": (0.35, 0.3, 0.1),
    "cortical bone": (0.1, 0.07, 0.2),
    "marrow": (0.55, 0.4, 0.08),
    "disc": (0.36, 0.3, 0.12),
    "fluid": (0.16, 1.15, 0.04),
    "cord": (0.4, 0.5, 0.04),
}


def make_patient(
    seed: int,
    modality: Modality = "MR",
    shape: tuple[int, int, int] = (24, 128, 128),
    spacing: tuple[float, float, float] = (8.0, 2.8, 2.8),
    weighting: Weighting = "T2",
) -> tuple[Volume, Volume]:
    """Make one abdominal patient and the labels of its organs.

    Parameters
    ----------
    seed : int
        The same seed gives the same arrays. Anatomy and pose do not depend on the modality, so a
        seed is the same patient in MR and CT.
    modality : {"MR", "CT"}
        MR magnitudes on an arbitrary scale from 0, or HU from −1024.
    shape : tuple of int
        Voxels of the display grid along inferior, posterior and left, each at least 8. The
        default covers about 190 × 360 × 360 mm; a smaller field of view cuts organs off.
    spacing : tuple of float
        Voxel size in mm along the same axes.
    weighting : {"T2", "T1"}
        Contrast of an MR scan.

    Returns
    -------
    scan : Volume
        int16, named such as ``phantom_mr_003``.
    labels : Volume
        uint8 on the same geometry; 0 is background, the others are ``PHANTOM_CLASSES``.
    """
    _check(seed, modality, shape, spacing, weighting)
    drawing, contrast, scanner = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3)
    )
    # An odd number of sub-slices, about as thick as a pixel is wide, puts one in the middle.
    thin = 2 * int(np.clip(spacing[0] / (spacing[1] + spacing[2]), 0, 3)) + 1
    tissues = _ct_tissues(contrast) if modality == "CT" else _mr_tissues(contrast, weighting)
    patient = Patient(
        drawing, (shape[0] * thin, *shape[1:]), (spacing[0] / thin, *spacing[1:]), tissues
    )
    paint_all(patient)
    stack = patient.image.reshape(shape[0], thin, *shape[1:])
    profile = np.hanning(thin + 2)[1:-1].astype(np.float32)
    image = np.tensordot(stack, profile / profile.sum(), axes=(1, 0))
    labels = patient.labels[thin // 2 :: thin]
    measure = _scan_ct if modality == "CT" else _scan_mr
    data = measure(image, spacing, scanner)
    geometry, header = _place(shape, spacing, modality, scanner)
    name = _name(seed, modality)
    return (
        Volume(data, geometry, modality, subject=name, name=name, header=header),
        Volume(np.ascontiguousarray(labels), geometry, modality, name, name, header=header),
    )


def write_dataset(
    folder: str | Path,
    n: int,
    modality: Modality = "MR",
    seed: int = 0,
    labels: bool = True,
    weighting: Weighting = "T2",
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write ``n`` patients as NIfTI files and return the paths of the scans.

    Parameters
    ----------
    folder : path-like
        Gets ``images/<name>.nii.gz``, ``labels/<name>.nii.gz`` and ``classes.json``.
    n : int
        Number of patients, with the seeds ``seed`` to ``seed + n - 1``.
    modality, weighting
        As for :func:`make_patient`.
    seed : int
        Seed of the first patient.
    labels : bool
        Whether to write the label maps too.
    overwrite : bool
        Whether to write into a folder that holds other files, and to replace files of these names
        that have other contents.

    Raises
    ------
    StorageError
        If the folder holds files of others; if there are files of these names with other
        contents, or with ``overwrite`` other labels in the folder whose classes have other names.
        Nothing is written then.
    """
    check_type(folder, PATH, "folder", "the folder to write, such as 'my_scans'")
    for name, number in (("n", n), ("seed", seed)):
        check_type(number, Integral, name, f"a whole number, such as {name}=4")
    if n < 1:
        raise ConfigError(f"A dataset of {n} patients cannot be written; ask for at least 1.")
    folder = Path(folder)
    numbers = range(seed, seed + n)
    if not overwrite:
        _refuse_folder_of_others(folder)
        if labels:
            _refuse_other_classes(folder / CLASS_LIST)
        for number in numbers:
            _refuse_other_patient(folder, number, modality, weighting, labels=labels)
    if labels:
        maps = [_files(folder, number, modality)[1] for number in numbers]
        # First, since it removes labels of other classes.
        write_class_list(folder, PHANTOM_CLASSES, maps, overwrite=overwrite)
    paths = []
    for number in numbers:
        scan, truth = make_patient(number, modality, weighting=weighting)
        image, label_map = _files(folder, number, modality)
        paths.append(_save_scan(scan, image))
        if labels:
            save_labels(truth.data, label_map, like=scan, classes={}, overwrite=True)
    return paths


_PHANTOM = re.compile(r"phantom_(mr|ct)_\d{3,}\.nii\.gz")
"""Names of the files of all phantom patients."""


def _name(seed: int, modality: str) -> str:
    return f"phantom_{modality.lower()}_{seed:03d}"


def _files(folder: Path, seed: int, modality: str) -> tuple[Path, Path]:
    """Scan and label map of a patient in a data set."""
    file = f"{_name(seed, modality)}.nii.gz"
    return folder / "images" / file, folder / "labels" / file


def _refuse_folder_of_others(folder: Path) -> None:
    """Refuse a folder with files of the user, among which phantoms would be taken for patients."""
    own = [folder / name for name in ("images", "labels", CLASS_LIST)]
    files = [file for place in own[:2] for file in _visible_files(place)]
    others = [file for file in files if not _PHANTOM.fullmatch(file.name)]
    if not files:
        others = [file for file in _visible_files(folder) if file not in own]
    if others:
        raise StorageError(
            f"{folder} holds other files than phantom patients, such as {others[0]}, so no "
            "patients were written; choose a new or an empty folder, or pass overwrite=True to "
            "write beside them."
        )


def _visible_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if not is_system_file(file))


def _refuse_other_patient(
    folder: Path, seed: int, modality: Modality, weighting: Weighting, *, labels: bool
) -> None:
    """Refuse files with the names of a patient but other contents."""
    image, label_map = _files(folder, seed, modality)
    there = [path for path in ((image, label_map) if labels else (image,)) if os.path.lexists(path)]
    if not there:
        return
    scan, truth = make_patient(seed, modality, weighting=weighting)
    for path, made in ((image, scan), (label_map, truth)):
        if path in there and not _holds(path, made):
            raise _other_contents(path)


def _holds(path: Path, made: Volume) -> bool:
    """Whether a file has these voxels; compressed bytes differ between versions of libraries."""
    try:
        found = load_volume(path)
    except SslsegError:
        return False
    return found.geometry.matches(made.geometry) and np.array_equal(found.data, made.data)


def _refuse_other_classes(path: Path) -> None:
    if not os.path.lexists(path):  # A link to nothing would be written through, too.
        return
    try:
        same = read_class_names(path) == PHANTOM_CLASSES
    except SslsegError:
        same = False
    if not same:
        raise _other_contents(path)


def _other_contents(path: Path) -> StorageError:
    return StorageError(
        f"{path} is there already with other contents, so no patients were written; choose another "
        "folder."
    )


def _check(
    seed: int,
    modality: str,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    weighting: str,
) -> None:
    if seed < 0:
        raise ConfigError(f"The seed {seed} is negative; use 0 or more.")
    for value, kind, what in (
        (modality, Modality, "modality"),
        (weighting, Weighting, "weighting"),
    ):
        if value not in get_args(kind):
            raise ConfigError(
                f"A phantom has no {what} {value!r}; use {' or '.join(get_args(kind))}."
            )
    if len(shape) != 3 or min(shape) < 8:
        raise ConfigError(
            f"A phantom of shape {format_size(shape)} cannot be drawn; "
            "give three axes of at least 8 voxels."
        )
    if len(spacing) != 3 or not all(0.1 <= s <= 50 for s in spacing):
        raise ConfigError(
            f"A spacing of {tuple(spacing)} mm cannot be drawn; give three sizes from 0.1 to 50 mm."
        )


def _ct_tissues(rng: np.random.Generator) -> Mapping[str, tuple[float, float]]:
    agent = rng.uniform(0.35, 1.0)
    return {
        name: (plain + agent * gain + rng.normal(0, 2.5 if plain > -500 else 0), texture)
        for name, (plain, gain, texture) in _CT.items()
    }


def _mr_tissues(
    rng: np.random.Generator, weighting: Weighting
) -> Mapping[str, tuple[float, float]]:
    gamma = rng.normal(1, 0.06)
    tissues = {}
    for name, (t1, t2, texture) in _MR.items():
        signal = (t1 if weighting == "T1" else t2) ** gamma * np.exp(rng.normal(0, 0.06))
        tissues[name] = (float(signal), float(signal * texture))
    return tissues


def _scan_ct(
    image: np.ndarray, spacing: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Add a table and the correlated noise of a reconstruction; HU as int16."""
    n = image.shape[2]
    x = (np.arange(n) - (n - 1) / 2) * spacing[2]
    y = (np.arange(image.shape[1]) - (image.shape[1] - 1) / 2) * spacing[1]
    table = np.abs(y[:, None] - (rng.uniform(138, 146) - 0.0011 * x**2)) < 0.7 * spacing[1]
    image = np.where(table & (image < -900), -150, image)
    noise = smooth_noise(rng, image.shape, spacing, 0.8 * spacing[2])
    image = image + rng.uniform(7, 13) * noise
    return np.clip(np.rint(image), -1024, 3071).astype(np.int16)


def _scan_mr(
    image: np.ndarray, spacing: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Add bias field, breathing ghosts, Rician noise and an arbitrary scale; int16 from 0."""
    bias = np.exp(rng.uniform(0.08, 0.2) * smooth_noise(rng, image.shape, spacing, 190.0))
    signal = image * bias
    # Breathing adds a faint copy of the image along the phase axis, front to back.
    shift = int(image.shape[1] / rng.uniform(2.5, 4))
    signal = signal + rng.uniform(0, 0.02) * np.roll(signal, shift, axis=1)
    sigma = rng.uniform(0.012, 0.03)
    parts = rng.normal(0, sigma, (2, *image.shape))
    magnitude = np.hypot(signal + parts[0], parts[1])
    return np.clip(np.rint(magnitude * rng.uniform(250, 1400)), 0, 32767).astype(np.int16)


def _place(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    modality: Modality,
    rng: np.random.Generator,
) -> tuple[Geometry, nib.Nifti1Header]:
    """Make a source grid as scanners write it: slices along the third axis, upwards."""
    signs = ((-1, 1, 1), (-1, -1, 1), (1, 1, 1))[rng.integers(3)]  # LAS, LPS, RAS
    source = (shape[2], shape[1], shape[0])
    middle = rng.uniform((-8, -15, -40), (8, 15, 40))
    if modality == "CT":
        middle += (0, -150, rng.uniform(-900, 200))  # the table is high, and z is its position
    affine = np.diag([*(np.array(signs) * spacing[::-1]), 1.0])
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(source) - 1) / 2)
    affine = affine.astype(np.float32)  # the precision of NIfTI, so that a file returns it exactly
    header = nib.Nifti1Header()
    header.set_data_shape(source)
    header.set_xyzt_units("mm", "sec")
    header.set_qform(affine, 1)
    header.set_sform(affine, 1)
    return Geometry(affine, source), header


def _save_scan(scan: Volume, path: Path) -> Path:
    """Write the values of a scan in its source grid."""
    source = np.ascontiguousarray(scan.geometry.to_source(scan.data))
    image = image_like(source, scan.geometry.affine, scan.header)
    with atomic_path(path) as temporary:
        nib.save(image, temporary)
    return path
