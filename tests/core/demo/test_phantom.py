"""Phantom patients: reproducible, varied, with realistic anatomy and intensities."""

from functools import cache

import nibabel as nib
import numpy as np
import pytest

from napari_sslseg.core.common.errors import ConfigError, StorageError
from napari_sslseg.core.demo.phantom.patient import PHANTOM_CLASSES, make_patient, write_dataset
from napari_sslseg.core.scans.labels import load_labels, read_segment_names
from napari_sslseg.core.scans.volume import Volume, guess_modality, load_volume

SEEDS = range(4)
LIVER, RIGHT_KIDNEY, LEFT_KIDNEY, SPLEEN, SPINE = PHANTOM_CLASSES

# Volumes of healthy adults in ml within the field of view, with a wide margin.
PLAUSIBLE_ML = {
    LIVER: (900, 2300),
    RIGHT_KIDNEY: (75, 260),
    LEFT_KIDNEY: (80, 280),
    SPLEEN: (60, 400),
    SPINE: (300, 750),
}


@cache
def patient(seed: int, modality: str = "CT") -> tuple[Volume, Volume]:
    return make_patient(seed, modality)


def centre_mm(labels: Volume, label: int) -> np.ndarray:
    """Return the centre of a class in RAS+ mm, by the affine of the source file."""
    source = labels.geometry.to_source(labels.data)
    voxel = np.argwhere(source == label).mean(axis=0)
    return (labels.geometry.affine @ [*voxel, 1])[:3]


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_the_same_seed_gives_the_same_patient(modality):
    scan, labels = make_patient(3, modality)
    again, again_labels = patient(3, modality)
    np.testing.assert_array_equal(scan.data, again.data)
    np.testing.assert_array_equal(labels.data, again_labels.data)
    np.testing.assert_array_equal(scan.geometry.affine, again.geometry.affine)
    assert scan.name == scan.subject == f"phantom_{modality.lower()}_003"


def test_other_seeds_give_other_anatomy():
    for first, second in zip(SEEDS, list(SEEDS)[1:], strict=False):
        a, b = patient(first)[1].data > 0, patient(second)[1].data > 0
        overlap = 2 * (a & b).sum() / (a.sum() + b.sum())
        assert 0.4 < overlap < 0.95


def test_orientation_of_the_files_varies():
    assert len({patient(seed)[0].geometry.orientation for seed in SEEDS}) > 1


def test_a_seed_is_the_same_patient_in_mr_and_ct():
    np.testing.assert_array_equal(patient(0, "CT")[1].data, patient(0, "MR")[1].data)


@pytest.mark.parametrize("weighting", ["T1", "T2"])
def test_mr_weightings_order_the_tissues_as_in_patients(weighting):
    scan, labels = make_patient(0, "MR", weighting=weighting)
    liver, spleen = (np.median(scan.data[labels.data == c]) for c in (LIVER, SPLEEN))
    assert (liver > spleen) == (weighting == "T1")


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_have_plausible_volumes(seed):
    _, labels = patient(seed)
    ml = np.prod(labels.spacing) / 1000
    counts = np.bincount(labels.data.ravel())
    assert len(counts) == len(PHANTOM_CLASSES) + 1
    for label, (low, high) in PLAUSIBLE_ML.items():
        assert low < counts[label] * ml < high, PHANTOM_CLASSES[label]


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_have_anatomical_positions(seed):
    _, labels = patient(seed)
    liver, right, left, spleen, spine = (centre_mm(labels, c) for c in PHANTOM_CLASSES)
    # RAS+: x grows towards the patient's right, y towards anterior, z towards superior.
    assert liver[0] > spine[0] > spleen[0]
    assert right[0] > spine[0] + 30
    assert left[0] < spine[0] - 30
    assert right[2] < left[2]
    assert spine[1] < liver[1]
    assert liver[2] > right[2]
    assert spleen[2] > left[2]


def test_axial_slices_look_radiological():
    _, labels = patient(0)
    _, height, width = labels.data.shape
    rows, _ = np.nonzero((labels.data == SPINE).any(axis=0))
    assert rows.mean() > 0.55 * height
    assert np.nonzero((labels.data == LIVER).any(axis=(0, 1)))[0].mean() < width / 2


@pytest.mark.parametrize("seed", SEEDS)
def test_kidneys_are_not_mirror_images(seed):
    _, labels = patient(seed)
    right, left = labels.data == RIGHT_KIDNEY, (labels.data == LEFT_KIDNEY)[:, :, ::-1]

    def at_origin(mask: np.ndarray) -> set[tuple[int, ...]]:
        voxels = np.argwhere(mask)
        return set(map(tuple, voxels - np.rint(voxels.mean(axis=0)).astype(int)))

    a, b = at_origin(right), at_origin(left)
    assert 2 * len(a & b) / (len(a) + len(b)) < 0.9


@pytest.mark.parametrize("seed", SEEDS)
def test_ct_values_are_hounsfield_units(seed):
    scan, labels = patient(seed)
    assert scan.data.dtype == np.int16
    median = {c: np.median(scan.data[labels.data == c]) for c in PHANTOM_CLASSES}
    assert 55 < median[LIVER] < 130
    assert 50 < median[SPLEEN] < 140
    assert 55 < median[RIGHT_KIDNEY] < 200
    assert 55 < median[LEFT_KIDNEY] < 200
    assert 100 < np.mean(scan.data[labels.data == SPINE]) < 350
    assert 300 < np.percentile(scan.data[labels.data == SPINE], 95) < 900
    assert -1050 < np.median(scan.data[:, :4]) < -950
    fat = (scan.data > -140) & (scan.data < -60)
    assert fat.sum() * np.prod(scan.spacing) / 1e6 > 1.0  # litres


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_the_modality_is_guessed_from_the_values(seed, modality):
    scan, _ = patient(seed, modality)
    assert guess_modality(scan.data) == scan.modality == modality


@pytest.mark.parametrize("seed", SEEDS)
def test_labels_contain_no_air(seed):
    scan, labels = patient(seed)
    # Next to the lung, thick slices include some air; organs contain none.
    assert np.mean(scan.data[labels.data > 0] < -500) < 0.002
    assert not labels.data[:, :4].any()


def test_a_dataset_on_disk_contains_the_patients(tmp_path):
    paths = write_dataset(tmp_path, 2, "MR", seed=2)
    assert [p.relative_to(tmp_path).as_posix() for p in paths] == [
        "images/phantom_mr_002.nii.gz",
        "images/phantom_mr_003.nii.gz",
    ]
    for seed, path in zip((2, 3), paths, strict=True):
        scan, labels = patient(seed, "MR")
        loaded = load_volume(path)
        np.testing.assert_array_equal(loaded.data, scan.data)
        assert loaded.data.dtype == scan.data.dtype
        np.testing.assert_array_equal(loaded.geometry.affine, scan.geometry.affine)
        assert loaded.subject == scan.subject
        truth = load_labels(tmp_path / "labels" / path.name, like=loaded)
        np.testing.assert_array_equal(truth.data, labels.data)
        image = nib.load(path)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 1


def test_other_files_are_not_replaced_by_a_dataset(tmp_path):
    (image,) = write_dataset(tmp_path, 1, "CT", seed=2)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    own = {path: path.read_bytes() for path in files}
    scan = nib.load(image)
    values = np.asarray(scan.dataobj).copy()
    values[0, 0, 0] += 1
    nib.save(nib.Nifti1Image(values, scan.affine, scan.header), tmp_path / "other.nii.gz")
    for name, other in (
        ("classes.json", b'{"1": "spleen"}'),
        (f"images/{image.name}", (tmp_path / "other.nii.gz").read_bytes()),
        (f"labels/{image.name}", b"all my work"),
    ):
        (tmp_path / name).write_bytes(other)
        with pytest.raises(StorageError, match="other contents"):
            write_dataset(tmp_path, 2, "CT", seed=2)
        assert {path.read_bytes() for path in files} == {*own.values(), other} - {
            own[tmp_path / name]
        }
        assert len(list((tmp_path / "images").iterdir())) == 1
        (tmp_path / name).write_bytes(own[tmp_path / name])
    write_dataset(tmp_path, 1, "CT", seed=2)  # The same contents are no reason to refuse.
    # Other labels keep the names of their classes, also if files of the same name are replaced.
    (tmp_path / "other.nii.gz").unlink()
    (tmp_path / "classes.json").write_text('{"1": "spleen"}')
    own_map = tmp_path / f"labels/{image.name}"
    other_map = own_map.rename(tmp_path / "labels/ann.nii.gz")
    with pytest.raises(StorageError, match="spleen"):
        write_dataset(tmp_path, 1, "CT", seed=2, overwrite=True)
    assert read_segment_names(other_map) == {1: "spleen"}
    other_map.rename(own_map)
    write_dataset(tmp_path, 1, "CT", seed=2, overwrite=True)
    assert len(read_segment_names(own_map)) > 1
    image.write_bytes(b"damaged")
    write_dataset(tmp_path, 1, "CT", seed=2, overwrite=True)
    assert {path.read_bytes() for path in files} == set(own.values())


def test_dataset_without_labels(tmp_path):
    write_dataset(tmp_path, 1, "CT", labels=False)
    assert not (tmp_path / "labels").exists()


def test_other_grids():
    scan, labels = make_patient(0, "CT", shape=(40, 64, 72), spacing=(5, 5.6, 5))
    assert scan.data.shape == labels.data.shape == (40, 64, 72)
    np.testing.assert_allclose(scan.spacing, (5, 5.6, 5), rtol=1e-6)
    assert set(np.unique(labels.data)) == {0, *PHANTOM_CLASSES}


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"seed": -1}, "seed"),
        ({"modality": "PET"}, "modality"),
        ({"weighting": "T3"}, "weighting"),
        ({"shape": (2, 64, 64)}, "shape"),
        ({"spacing": (8, 0, 2)}, "spacing"),
    ],
)
def test_impossible_settings_are_explained(settings, word):
    with pytest.raises(ConfigError, match=word):
        make_patient(**{"seed": 0, **settings})


def test_a_dataset_needs_a_patient(tmp_path):
    with pytest.raises(ConfigError, match="at least 1"):
        write_dataset(tmp_path, 0)
