"""The reader as napari calls it, without a window."""

import shutil
import time

import nibabel as nib
import npe2
import numpy as np
import pytest
from skimage.io import imsave

from named_labels import write_slicer
from napari_sslseg.core.common.errors import GeometryError, ScanWarning, VolumeError
from napari_sslseg.core.demo.phantom.patient import make_patient, write_dataset
from napari_sslseg.gui.napari_io.readers import MAX_FRAMES, get_reader, read

GE = "dicom/mr_ge_papaya_20"
CT = "dicom/ct_totalseg_20"


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_dataset(folder, 2, "MR")
    return folder


def claimed(*paths, stack=False):
    """Return the plugins whose filename patterns match, according to npe2."""
    manager = npe2.PluginManager.instance()
    manager.discover()
    return {
        reader.plugin_name for reader in manager.iter_compatible_readers([str(p) for p in paths])
    }


@pytest.mark.parametrize(
    "name",
    [
        *("a.nii", "a.nii.gz", "A.NII.GZ", "a.hdr", "a.img", "a.hdr.gz", "a.nrrd", "a.nhdr"),
        *("a.mha", "a.mhd", "a.dcm", "A.DCM", "a.b.dicom", "a.IMA", "sub-01_T1w.v2.nii.gz"),
        *("DICOMDIR", "IM000001", "6154", "E1154S7I.001", "I0000017", "IM-0001-0012"),
        "CT.1.3.12.2.1107.5.1.4.60064.30000022120808113428000016573",
        "1.2.840.113619.2.55.3.2831868886.171.1199106109.47",
    ],
)
def test_napari_offers_the_plugin_for_names_of_scans(tmp_path, name):
    (tmp_path / name).touch()
    assert "napari-sslseg" in claimed(tmp_path / name)


@pytest.mark.parametrize(
    "name",
    ["a.png", "a.tif", "a.ome.tiff", "a.czi", "a.npy", "a.csv", "a.h5", "a.mp4", "a.001.tif"],
)
def test_other_files_are_declined(tmp_path, name):
    (tmp_path / name).touch()
    assert "napari-sslseg" not in claimed(tmp_path / name)


def test_a_file_without_extension_is_recognised_by_its_first_bytes(tmp_path, data_dir):
    for name, content in (("README", b"Read me.\n" * 40), ("empty", b""), ("data.001", b"1" * 200)):
        (tmp_path / name).write_bytes(content)
        assert get_reader(str(tmp_path / name)) is None
    shutil.copy(data_dir / GE / "brain_001.dcm", tmp_path / "IM000001")
    assert get_reader(str(tmp_path / "IM000001")) is read


def test_a_folder_of_pictures_is_declined_at_once(tmp_path):
    imsave(tmp_path / "0.png", np.zeros((4, 4), np.uint8), check_contrast=False)
    for number in range(1, 3000):
        shutil.copy(tmp_path / "0.png", tmp_path / f"{number}.png")
    start = time.process_time()
    assert get_reader(str(tmp_path)) is None
    assert time.process_time() - start < 2
    with pytest.raises(ValueError, match="refused the file"):
        npe2.read([str(tmp_path)], stack=False, plugin_name="napari-sslseg")


def test_scans_become_image_layers_and_label_maps_labels_layers(phantoms):
    scan = next((phantoms / "images").iterdir())
    ((data, settings, kind),) = npe2.read([scan], stack=False, plugin_name="napari-sslseg")
    assert kind == "image"
    assert data.shape == settings["metadata"]["geometry"].display_shape
    assert settings["metadata"]["files"] == (scan,)
    ((_, settings, kind),) = read(str(phantoms / "labels" / scan.name))
    assert kind == "labels"
    assert settings["metadata"]["path"] == phantoms / "labels" / scan.name


def test_structures_that_a_label_map_names_are_named_in_the_layer(tmp_path):
    scan, labels = make_patient(0, "MR", (12, 40, 40), (16.0, 9.0, 9.0))
    names = {int(value): f"organ {value}" for value in np.unique(labels.data) if value}
    path = write_slicer(tmp_path / "p.seg.nrrd", labels.data, scan, names)
    ((_, settings, kind),) = read(str(path))
    assert kind == "labels"
    assert settings["features"]["class"] == ["background", *names.values()]


def test_a_folder_opens_labels_above_scans_and_skips_broken_files(phantoms, tmp_path):
    scan, other = sorted((phantoms / "images").iterdir())
    shutil.copy(scan, tmp_path / "b.nii.gz")
    shutil.copy(phantoms / "labels" / scan.name, tmp_path / "a_seg.nii.gz")
    (tmp_path / "c.nii.gz").write_bytes(other.read_bytes()[:5000])
    with pytest.warns(ScanWarning, match=r"c\.nii\.gz") as warned:
        layers = read(str(tmp_path))
    assert len(warned) == 1
    assert [(layer[1]["name"], layer[2]) for layer in layers] == [
        ("b", "image"),
        ("a_seg labels", "labels"),
    ]


def test_an_error_is_raised_if_nothing_opens(tmp_path):
    (tmp_path / "c.nii.gz").write_bytes(b"no such thing" * 100)
    with pytest.raises(VolumeError, match=r"c\.nii\.gz cannot be read"):
        read(str(tmp_path / "c.nii.gz"))
    (tmp_path / "data" / "images").mkdir(parents=True)
    shutil.copy(tmp_path / "c.nii.gz", tmp_path / "data" / "images")
    assert get_reader(str(tmp_path / "data")) is read
    with pytest.raises(VolumeError, match=r"c\.nii\.gz cannot be read"):
        read(str(tmp_path / "data"))


def test_files_dropped_as_a_stack_become_a_layer_each(phantoms):
    scans = sorted(map(str, (phantoms / "images").iterdir()))
    layers = npe2.read(scans, stack=True, plugin_name="napari-sslseg")
    assert [layer[1]["metadata"]["path"].name for layer in layers] == [
        scan.rsplit("/", 1)[-1] for scan in scans
    ]


def test_either_file_of_a_pair_opens_it(tmp_path):
    data = np.random.default_rng(0).normal(100, 10, (5, 6, 7)).astype(np.float32)
    nib.save(nib.Nifti1Pair(data, np.eye(4)), tmp_path / "a.hdr")
    for name in ("a.hdr", "a.img"):
        ((_, settings, kind),) = read(str(tmp_path / name))
        assert kind == "image"
        assert settings["metadata"]["files"] == (tmp_path / "a.hdr",)


def test_a_time_series_gives_a_layer_per_volume_up_to_a_limit(tmp_path):
    data = np.random.default_rng(0).normal(100, 10, (5, 6, 7, MAX_FRAMES + 3))
    nib.save(nib.Nifti1Image(data.astype(np.float32), np.eye(4)), tmp_path / "t.nii")
    with pytest.warns(ScanWarning, match=f"{MAX_FRAMES + 3} volumes"):
        layers = read(str(tmp_path / "t.nii"))
    assert len(layers) == MAX_FRAMES
    np.testing.assert_allclose(layers[4][0][::-1, ::-1, ::-1].T, data[..., 4], rtol=1e-6)


@pytest.mark.parametrize(("folder", "oblique"), [(GE, True), (CT, False)])
def test_one_slice_of_a_dicom_series_opens_all_of_it(data_dir, folder, oblique):
    files = sorted(file for file in (data_dir / folder).iterdir() if file.name != "LICENSE")
    ((data, settings, kind),) = npe2.read([files[7]], stack=False, plugin_name="napari-sslseg")
    assert kind == "image"
    assert len(data) == len(files) == 20
    assert set(settings["metadata"]["files"]) == set(files)
    assert settings["metadata"]["geometry"].is_oblique == oblique
    ((same, *_),) = read(str(data_dir / folder))
    np.testing.assert_array_equal(same, data)
    ((same, *_),) = read([str(file) for file in files])
    np.testing.assert_array_equal(same, data)


def test_a_slice_opens_its_own_series_in_a_folder_of_many(data_dir, tmp_path):
    for folder in (GE, CT):
        for number, file in enumerate(sorted((data_dir / folder).iterdir())):
            if file.name != "LICENSE":
                shutil.copy(file, tmp_path / f"{folder[6:8]}{number:04d}")
    (tmp_path / "notes").write_text("not a scan")
    ((data, settings, _),) = read(str(tmp_path / "mr0003"))
    assert len(data) == 20
    assert settings["metadata"]["modality"] == "MR"
    assert sorted(layer[1]["metadata"]["modality"] for layer in read(str(tmp_path))) == ["CT", "MR"]


def test_a_dicomdir_opens_its_scans(data_dir):
    folder = data_dir / "dicom/pydicom_test_files/src/pydicom/data/test_files/dicomdirtests"
    with pytest.warns(ScanWarning):
        layers = read(str(folder / "DICOMDIR"))
    assert layers
    assert all(kind == "image" for *_, kind in layers)


def test_a_dicom_file_that_is_no_scan_raises(data_dir):
    folder = data_dir / "dicom/pydicom_test_files/src/pydicom/data/test_files"
    with pytest.raises(VolumeError) as error:
        read(str(folder / "reportsi.dcm"))
    assert str(error.value).count("\n") == 0


def test_a_dicom_segmentation_opens_on_its_scan_with_names(data_dir):
    folder = data_dir / "dicom/qiicr_dcmqi/data/segmentations"
    layers = read([str(folder / "liver.dcm"), *map(str, sorted((folder / "ct-3slice").iterdir()))])
    (_, scan, image), (labels, settings, kind) = layers
    assert (image, kind) == ("image", "labels")
    assert settings["features"] == {"index": [0, 1], "class": ["background", "Liver"]}
    assert settings["metadata"]["geometry"] is scan["metadata"]["geometry"]
    # The authors of the file also provide the labels in NRRD.
    ((same, *_),) = read(str(folder / "liver_seg.nrrd"))
    np.testing.assert_array_equal(labels, same)


def test_contours_open_on_the_scan_that_they_were_drawn_on(data_dir):
    folder = data_dir / "dicom/rt_utils/tests/mock_data"
    with pytest.raises(GeometryError, match="open the scan"):
        read(str(folder / "rt.dcm"))
    scan = [str(folder / name) for name in ("ct_1.dcm", "ct_2.dcm")]
    _, (labels, settings, kind) = read([str(folder / "rt.dcm"), *scan])
    assert kind == "labels"
    assert set(np.unique(labels)) == {0, 1}
    assert settings["features"]["class"] == ["background", "ROI-1"]
