"""Open, label and save scans in a real napari window."""

import shutil

import nibabel as nib
import numpy as np
import pydicom
import pytest
from qtpy.QtCore import QPoint, Qt

from napari_sslseg.core.common.errors import GeometryError, StorageError
from napari_sslseg.core.demo.phantom.patient import write_dataset

PLUGIN = "napari-sslseg"
# Fractions of the way from one end of the patient's box to the other: left, anterior, superior.
SPOT = {"left": 0.8, "anterior": 0.7, "superior": 0.9}


def write_scan(path, codes, degrees=0.0):
    """Write an oblique scan of 16 × 20 × 24 voxels, stored in the axis order of ``codes``."""
    angles = np.deg2rad([degrees, degrees / 2, -degrees / 3])
    matrix = nib.eulerangles.euler2mat(*angles) @ np.diag([1.2, 1.6, 2.5])
    image = nib.Nifti1Image(
        np.random.default_rng(0).normal(300, 60, (16, 20, 24)).astype(np.float32),
        nib.affines.from_matvec(matrix, (-12, 30, -45)),
    )
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
    )
    nib.save(image.as_reoriented(turn), path)
    return path


def new_labels(viewer, image):
    """Click napari's button for new labels while a scan is selected."""
    viewer.layers.selection = {image}
    viewer.window._qt_viewer.layerButtons.newLabelsButton.click()
    return viewer.layers[-1]


def paint(labels, where, value):
    """Paint one voxel with the brush of the layer."""
    labels.mode = "paint"
    labels.brush_size = 1
    labels.n_edit_dimensions = 3
    labels.paint(where, value)


def save(viewer, layer, path):
    viewer.layers.selection = {layer}
    return viewer.layers.save(str(path), selected=True, plugin=PLUGIN)


def spot(shape):
    """Return the voxel of the display grid at SPOT; its axes run to inferior, posterior, left."""
    at = (1 - SPOT["superior"], 1 - SPOT["anterior"], SPOT["left"])
    return tuple(round(f * (n - 1)) for f, n in zip(at, shape, strict=True))


def labelled_world(path):
    """World coordinates (RAS, mm) of the labelled voxels of a file, read by nibabel."""
    image = nib.load(path)
    return nib.affines.apply_affine(image.affine, np.argwhere(np.asanyarray(image.dataobj) > 0))


CASES = [
    *((codes, 0.0) for codes in ("RAS", "LPS", "PIR", "SLA", "AIL", "RIP")),
    ("RAS", 12.0),
    ("PIR", 25.0),
    ("LSA", 40.0),
]


@pytest.mark.parametrize(("codes", "degrees"), CASES)
def test_painted_labels_are_saved_at_the_right_position(
    viewer, notifications, tmp_path, codes, degrees
):
    scan = write_scan(tmp_path / "scan.nii.gz", codes, degrees)
    (image,) = viewer.open(str(scan), plugin=PLUGIN)
    assert image._type_string == "image"
    warned = [text for _, text in notifications() if text.startswith("Oblique by")]
    assert bool(warned) == (degrees > 0)
    labels = new_labels(viewer, image)
    assert labels.name == "scan - Labels"
    assert not labels.metadata
    where = spot(image.data.shape)
    paint(labels, where, 3)
    assert np.count_nonzero(labels.data) == 1

    (written,) = save(viewer, labels, tmp_path / "labels.nii.gz")
    source, saved = nib.load(scan), nib.load(written)
    assert saved.shape == source.shape
    np.testing.assert_array_equal(saved.affine, source.affine)
    assert np.asanyarray(saved.dataobj).max() == 3
    # The painted value is at the voxel that has the intensity under the brush.
    assert np.asanyarray(source.dataobj)[np.asanyarray(saved.dataobj) == 3] == image.data[where]

    # Right, anterior and superior by nibabel; for oblique scans the nearest axes.
    canonical = np.asanyarray(nib.as_closest_canonical(saved).dataobj)
    (at,) = np.argwhere(canonical > 0) / (np.array(canonical.shape) - 1)
    expected = 1 - SPOT["left"], SPOT["anterior"], SPOT["superior"]
    np.testing.assert_allclose(at, expected, atol=0.05)
    if degrees == 0:
        # The status bar counts along (inferior, posterior, left): the header's (S, A, R) negated.
        (world,) = labelled_world(written)
        np.testing.assert_allclose(labels.data_to_world(where), -world[::-1], atol=1e-3)


def test_a_click_labels_the_voxel_under_the_mouse(viewer, qtbot, tmp_path):
    scan = write_scan(tmp_path / "scan.nii.gz", "PIR")
    (image,) = viewer.open(str(scan), plugin=PLUGIN)
    box = image.extent.world
    middle = -box.mean(axis=0)  # (superior, anterior, right)
    canvas = viewer.window._qt_viewer.canvas.native
    # Order of the axes, and the directions of up and left on the screen, as index and sign
    # within (superior, anterior, right).
    planes = {
        "axial": ((0, 1, 2), (1, 1), (2, 1)),
        "coronal": ((1, 0, 2), (0, 1), (2, 1)),
        "sagittal": ((2, 0, 1), (0, 1), (1, 1)),
    }
    for name, (order, up, left) in planes.items():
        viewer.dims.order = order
        viewer.reset_view()
        labels = new_labels(viewer, image)
        labels.mode, labels.brush_size, labels.selected_label = "paint", 1, 2
        qtbot.wait(50)
        size = canvas.size()
        height = box[1][order[1]] - box[0][order[1]]
        offset = int(height * 0.3 * viewer.camera.zoom)
        up_and_left = QPoint(size.width() // 2 - offset // 2, size.height() // 2 - offset)
        qtbot.mouseMove(canvas, up_and_left)
        qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=up_and_left)
        assert np.count_nonzero(labels.data) == 1, name
        (written,) = save(viewer, labels, tmp_path / f"{name}.nii.gz")
        (world,) = labelled_world(written)
        from_middle = world[::-1] - middle
        assert from_middle[up[0]] * up[1] > 0.2 * height, name
        assert from_middle[left[0]] * left[1] > 0.1 * height, name
        viewer.layers.remove(labels)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_saved_label_map_opens_as_labels_on_its_scan(viewer, tmp_path, suffix):
    scan = write_scan(tmp_path / "scan.nii.gz", "LPS", 20)
    (image,) = viewer.open(str(scan), plugin=PLUGIN)
    labels = new_labels(viewer, image)
    paint(labels, (3, 4, 5), 7)
    paint(labels, (20, 4, 12), 1)
    (written,) = save(viewer, labels, tmp_path / f"mine{suffix}")
    (again,) = viewer.open(written, plugin=PLUGIN)
    assert again._type_string == "labels"
    np.testing.assert_array_equal(again.data, labels.data)
    np.testing.assert_allclose(again.translate, image.translate, atol=1e-3)
    np.testing.assert_allclose(again.scale, image.scale, atol=1e-5)
    # The file can be edited and saved again.
    again.paint((0, 0, 0), 9)
    assert save(viewer, again, written) == [written]
    (last,) = viewer.open(written, plugin=PLUGIN)
    assert last.data[0, 0, 0] == 9


def test_labels_of_a_dicom_scan_are_saved_on_its_grid(viewer, data_dir, tmp_path):
    files = sorted((data_dir / "dicom/mr_ge_papaya_20").glob("*.dcm"))
    (image,) = viewer.open(str(files[4]), plugin=PLUGIN)
    labels = new_labels(viewer, image)
    where = (2, 60, 200)  # superior, anterior, on the patient's left
    paint(labels, where, 1)
    (written,) = save(viewer, labels, tmp_path / "mine.nii.gz")
    (world,) = labelled_world(written)
    geometry = image.metadata["geometry"]
    expected = nib.affines.apply_affine(geometry.display_affine, where)
    np.testing.assert_allclose(world, expected, atol=1e-2)
    middle = nib.affines.apply_affine(geometry.display_affine, (np.array(image.data.shape) - 1) / 2)
    right, anterior, superior = world - middle
    assert right < -30
    assert anterior > 30
    assert superior > 20


def test_a_dicom_segmentation_keeps_the_names_of_its_classes(viewer, data_dir, tmp_path):
    scan = shutil.copytree(data_dir / "dicom/mr_ge_papaya_20", tmp_path / "scan")
    (image,) = viewer.open(str(scan), plugin=PLUGIN)
    labels = new_labels(viewer, image)
    names = ["background", "thalamus", "cerebellum"]
    labels.features = {"index": [0, 1, 2], "class": names}
    paint(labels, (4, 120, 100), 1)
    paint(labels, (15, 180, 150), 2)
    (written,) = save(viewer, labels, scan / "organs.dcm")
    read = pydicom.dcmread(written)
    assert read.Modality == "SEG"
    assert [item.SegmentLabel for item in read.SegmentSequence] == names[1:]
    expected = labels.data.copy()
    viewer.layers.clear()
    viewer.open(str(scan), plugin=PLUGIN)
    image, labels = viewer.layers
    assert (image._type_string, labels._type_string) == ("image", "labels")
    np.testing.assert_array_equal(labels.data, expected)
    assert list(labels.features["class"]) == names
    # It can be edited and saved to the same file.
    labels.paint((4, 120, 101), 1)
    assert save(viewer, labels, written) == [written]
    # A slice of the scan itself is not replaced.
    with pytest.raises(StorageError, match="is a scan"):
        save(viewer, labels, scan / "brain_001.dcm")


def test_slices_dropped_together_open_their_series_once(viewer, data_dir):
    files = sorted((data_dir / "dicom/mr_ge_papaya_20").glob("*.dcm"))
    viewer.open([str(file) for file in files], plugin=PLUGIN)
    (image,) = viewer.layers
    assert len(image.data) == 20
    viewer.layers.selection = set()
    viewer.open(str(files[3]), plugin=PLUGIN)
    assert list(viewer.layers) == [image]
    assert viewer.layers.selection.active is image


def test_an_unusable_series_is_reported_once_for_all_its_slices(viewer, notifications, data_dir):
    files = sorted((data_dir / "dicom/ct_missing_dup_slices").glob("*.dcm"))
    viewer.open([str(file) for file in files], plugin=PLUGIN)
    assert not viewer.layers
    assert [severity for severity, _ in notifications()] == ["error"]
    assert "missing" in notifications()[0][1]


def test_copied_and_converted_layers_are_saved_on_the_grid(viewer, tmp_path):
    scan = write_scan(tmp_path / "scan.nii.gz", "PIR", 15)
    (image,) = viewer.open(str(scan), plugin=PLUGIN)
    labels = new_labels(viewer, image)
    paint(labels, (5, 6, 7), 2)
    viewer.layers.selection = {labels}
    from napari.layers import _layer_actions

    _layer_actions._duplicate_layer(viewer.layers)
    copy = viewer.layers["scan - Labels copy"]
    # For example, an image that the user thresholded and then converted to labels.
    binary = viewer.add_image(
        (image.data > 400).astype(np.uint8),
        scale=image.scale,
        translate=image.translate,
        name="bright",
    )
    viewer.layers.selection = {binary}
    _layer_actions._convert_to_labels(viewer.layers)
    source = nib.load(scan)
    for layer, expected in ((copy, None), (viewer.layers["bright"], source.get_fdata() > 400)):
        (written,) = save(viewer, layer, tmp_path / f"{layer.name}.nii.gz")
        saved = nib.load(written)
        np.testing.assert_array_equal(saved.affine, source.affine)
        if expected is not None:
            np.testing.assert_array_equal(saved.get_fdata() > 0, expected)


def test_labels_without_a_known_position_are_not_saved(viewer, tmp_path):
    scan = write_scan(tmp_path / "scan.nii.gz", "RAS")
    (image,) = viewer.open(str(scan), plugin=PLUGIN)
    labels = new_labels(viewer, image)
    labels.translate = np.add(labels.translate, (0, 2, 0))
    with pytest.raises(GeometryError, match="lies on no scan"):
        save(viewer, labels, tmp_path / "moved.nii.gz")
    assert not (tmp_path / "moved.nii.gz").exists()
    right = new_labels(viewer, image)
    before = scan.read_bytes()
    with pytest.raises(StorageError, match="is a scan"):
        save(viewer, right, scan)
    assert scan.read_bytes() == before
    # The plugin does not save images.
    with pytest.warns(UserWarning, match="not a valid writer"):
        assert save(viewer, image, tmp_path / "image.nii.gz") == []


def test_a_broken_file_is_reported_and_the_others_open(viewer, notifications, tmp_path):
    write_dataset(tmp_path, 2, "CT")
    folder = tmp_path / "images"
    first, second = sorted(folder.iterdir())
    second.write_bytes(second.read_bytes()[:2000])
    shutil.copytree(folder, tmp_path / "again")
    viewer.open(str(folder), plugin=PLUGIN)
    assert [layer.name for layer in viewer.layers] == [first.name.removesuffix(".nii.gz")]
    ((severity, sentence),) = notifications()
    assert severity == "error"
    assert str(second) in sentence
    assert "\n" not in sentence
    # Among files opened together, the broken one is reported and the next one opens.
    others = [tmp_path / "again" / second.name, tmp_path / "again" / first.name]
    viewer.open([str(other) for other in others], plugin=PLUGIN)
    assert len(viewer.layers) == 2
    assert str(others[0]) in notifications()[-1][1]


def test_two_scans_of_one_patient_overlay(viewer, tmp_path):
    """A crop is shown at the position that it was cut from."""
    scan = write_scan(tmp_path / "whole.nii.gz", "RAS")
    whole = nib.load(scan)
    nib.save(whole.slicer[2:12, 5:15, 6:20], tmp_path / "part.nii.gz")
    (one,) = viewer.open(str(scan), plugin=PLUGIN)
    (part,) = viewer.open(str(tmp_path / "part.nii.gz"), plugin=PLUGIN)
    for at in ((0, 0, 0), (4, 5, 6), (9, 9, 9)):
        place = part.data_to_world(at)
        assert one.get_value(place, world=True) == part.get_value(place, world=True)
        assert one.get_value(place, world=True) is not None


def test_a_real_scan_and_its_label_map_open_from_one_folder(viewer, data_dir):
    folder = data_dir / "tptbox_vertebra/TPTBox/tests/sample_mri"
    viewer.open(str(folder), plugin=PLUGIN)
    kinds = [layer._type_string for layer in viewer.layers]
    assert kinds == ["image", "labels", "labels"]
    image, *maps = viewer.layers
    assert image.metadata["geometry"].orientation == "PIR"
    for labels in maps:
        np.testing.assert_allclose(labels.translate, image.translate, atol=1e-3)
    # The vertebra is labelled; the canal behind it, full of bright fluid, is not.
    vertebra = maps[1].data > 0
    assert np.median(image.data[vertebra]) < np.percentile(image.data, 99)
