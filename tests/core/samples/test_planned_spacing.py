"""Slices of large scans are sampled more coarsely, as far as the labelled structures allow."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from napari_sslseg import core
from napari_sslseg.core.common.errors import ScanWarning
from napari_sslseg.core.samples.build import default_preprocessing, sample_size
from napari_sslseg.core.samples.planned_spacing import plan_spacing, thinnest_structure
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.reader import ScanReader


def grid(shape, spacing):
    return Geometry(np.diag([*spacing, 1.0]), shape)


HEART = grid((256, 256, 9), (1.25, 1.25, 8.0))


@pytest.mark.parametrize(
    ("geometries", "size", "thickness", "expected"),
    [
        ([HEART], None, None, 2.5),
        # A scan of another kind does not change the others.
        ([HEART, HEART, grid((1000, 1000, 3), (1, 1, 10))], None, None, 2.5),
        ([grid((35, 51, 40), (1, 1, 1))], None, None, None),
        # 150 pixels are too few to be worth it.
        ([grid((150, 150, 40), (1, 1, 1))], None, None, None),
        # Six pixels across the thinnest structure.
        ([HEART], None, 12.0, 2.0),
        ([HEART], None, 48.0, 2.5),
        ([HEART], None, 8.0, None),
        # Whole slices fit into the size, whichever side decides, also with thin structures.
        ([HEART], (96, 96), None, 3.334),
        ([HEART], (96, 96), 4.0, 3.334),
        ([grid((200, 100, 9), (2, 2, 5))], (64, 96), None, 4.167),
        ([HEART], (256, 256), None, None),
        (
            [*[grid((100, 100, 9), (2, 2, 5))] * 2, grid((300, 300, 9), (1, 1, 5))],
            (256, 256),
            None,
            1.172,
        ),
        # Square pixels would be no fewer.
        ([grid((256, 64, 9), (1, 4, 8))], None, None, None),
        ([grid((512, 256, 9), (1, 2, 8))], None, None, 4.0),
    ],
)
def test_pixels_are_as_coarse_as_scans_and_structures_allow(geometries, size, thickness, expected):
    plan = plan_spacing(geometries, "axial", size, thickness)
    assert (None if plan is None else plan.spacing) == expected


def test_the_plane_decides_which_sides_count():
    # Sagittal slices have the sides of the last two axes of the file, in mm 256 and 900.
    plan = plan_spacing([grid((40, 256, 300), (1, 1, 3))], "sagittal")
    assert plan.spacing == pytest.approx(900 / 128, abs=1e-3)


@pytest.fixture
def scans(tmp_path):
    """Two scans of 200 × 200 pixels of 1 mm with a square and a bar, of 30 and of 7 mm."""
    found = []
    for seed in range(2):
        labels = np.zeros((200, 200, 6), np.uint8)
        labels[60:90, 60:90, 1:5] = 1
        labels[120:127, 40:160, 1:5] = 2
        values = np.random.default_rng(seed).normal(100, 10, labels.shape) + 80.0 * labels
        paths = [tmp_path / f"p{seed}.nii.gz", tmp_path / f"p{seed}_labels.nii.gz"]
        for path, data in zip(paths, (values.astype(np.float32), labels), strict=True):
            nib.save(nib.Nifti1Image(data, np.diag([1.0, 1.0, 4.0, 1.0])), path)
        found.append(core.LabelledScan(*paths))
    return found


def test_the_thinnest_structure_is_measured_in_mm(scans):
    reader = ScanReader()
    assert thinnest_structure(scans, (1,), "axial", reader) == pytest.approx(30, abs=1)
    assert thinnest_structure(scans, (1, 2), "axial", reader) == pytest.approx(7, abs=1)
    # The square has four slices of 4 mm in the other planes.
    assert thinnest_structure(scans, (1,), "coronal", reader) == pytest.approx(16, abs=4)
    assert thinnest_structure(scans, (9,), "axial", reader) is None
    # Only what is annotated counts: slice 0 shows nothing.
    alone = [replace(scan, annotated=(0,)) for scan in scans]
    assert thinnest_structure(alone, (1, 2), "axial", reader) is None


def test_a_structure_of_few_scans_is_measured_too(scans):
    bare = [replace(scan, values={1: 1, 2: 0}) for scan in scans]
    mixed = [*bare * 3, scans[0], *bare]
    assert thinnest_structure(mixed, (1, 2), "axial", ScanReader()) == pytest.approx(7, abs=1)


def test_samples_have_the_planned_pixels_and_thin_structures_keep_theirs(scans):
    settings = default_preprocessing("MR", spacing=(4.0, 1.0, 1.0))
    square = [replace(scan, values={1: 1, 2: 0}) for scan in scans]
    store = core.SliceStore.build(square, settings, classes=(1,))
    assert store.settings.spacing == pytest.approx(200 / 128, abs=1e-3)
    assert store.size == (128, 128) == sample_size([scan.scan for scan in scans], settings)
    thin = core.SliceStore.build(scans, settings, classes=(1, 2))
    assert thin.settings.spacing == "keep"
    assert thin.size == (208, 208)
    small = settings.model_copy(update={"size": (64, 64)})
    whole = core.SliceStore.build(square, small, classes=(1,))
    # Nothing is cropped: the square keeps its area.
    area = np.count_nonzero(whole.label_batch(np.array([2])).numpy()) * whole.settings.spacing**2
    assert area == pytest.approx(900, rel=0.1)


def test_a_structure_that_the_pixels_blur_is_said(scans):
    settings = default_preprocessing("MR").model_copy(update={"spacing": 4.0})
    with pytest.warns(ScanWarning, match=r"7 mm.*keep"):
        core.SliceStore.build(scans, settings, classes=(1, 2))


def test_a_scan_that_becomes_tiny_is_said(scans, tmp_path):
    path = tmp_path / "mouse.nii.gz"
    nib.save(
        nib.Nifti1Image(np.arange(49152.0).reshape(128, 128, 3), np.diag([0.3, 0.3, 1, 1])), path
    )
    settings = default_preprocessing("MR")
    with pytest.warns(ScanWarning, match="mouse"):
        core.SliceStore.build([*(scan.scan for scan in scans), path], settings)


def test_a_run_records_its_pixels_and_predicts_on_those_of_the_scan(scans, tmp_path):
    scans = [replace(scan, values={1: 1, 2: 0}) for scan in scans]
    settings = core.FinetuneSettings(training=core.Training(steps=2, batch_size=2), classes=(1,))
    events = list(core.iter_finetune(scans, out=tmp_path / "run", settings=settings, device="cpu"))
    assert any("1.56 mm" in str(getattr(event, "text", "")) for event in events)
    run = core.Run.open(tmp_path / "run")
    found = run.settings(core.FinetuneSettings).preprocessing
    assert found.spacing == pytest.approx(200 / 128, abs=1e-3)
    predicted = core.predict(run, scans[0].scan, device="cpu")
    assert predicted.labels.data.shape == (6, 200, 200)
