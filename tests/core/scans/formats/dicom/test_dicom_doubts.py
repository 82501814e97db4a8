"""Headers that leave a doubt: it is said, and nothing is lost or mixed in silence."""

import numpy as np
import pytest
from pydicom import dcmread

from dicom_files import ramp, write_series
from napari_sslseg.core.common.errors import ScanWarning
from napari_sslseg.core.scans.find import find_scans, list_series


def usable(path):
    return [item for item in list_series(path) if item.problem is None]


def problems(path):
    return [item.problem for item in list_series(path) if item.problem]


def given(**attributes):
    def edit(ds, index):
        for keyword, value in attributes.items():
            if value is None:
                delattr(ds, keyword)
            else:
                setattr(ds, keyword, value)

    return edit


# --- slices


@pytest.mark.parametrize(
    ("kept", "stated"), [(slice(None, None, 2), "2.5"), ([0, 11], "2.5"), ([0, 5, 10], None)]
)
def test_an_even_loss_of_slices_is_said(tmp_path, kept, stated):
    places = np.array([(-10, -20, 30 + 2.5 * index) for index in range(12)])[kept]
    edit = given(SpacingBetweenSlices=stated) if stated else None
    write_series(tmp_path, ramp(len(places)), places=places, edit=edit)
    [item] = usable(tmp_path)
    assert "slices may be missing" in " ".join(item.notes)


@pytest.mark.parametrize(
    ("thickness", "stated"),
    [("5", "1"), ("2.5", "6"), ("6", None), ("4", None), ("5", "0"), ("6", "-6"), (None, None)],
)
def test_usual_distances_are_in_no_doubt(tmp_path, thickness, stated):
    """Some scanners state the gap, others the distance, and some neither."""
    edit = given(**({"SpacingBetweenSlices": stated} if stated else {}), SliceThickness=thickness)
    write_series(tmp_path, distance=6.0, edit=edit)
    [item] = usable(tmp_path)
    assert item.notes == ()


@pytest.mark.parametrize("thickness", [None, "0"])
def test_an_assumed_thickness_is_said(tmp_path, thickness):
    write_series(tmp_path, ramp(1), edit=given(SliceThickness=thickness))
    [item] = usable(tmp_path)
    assert "1 mm" in " ".join(item.notes)


def test_a_slice_displaced_between_two_others_is_named(tmp_path):
    places = [(0, 0, 2.5 * index) for index in range(10)]
    places[4] = (0, 0, 2.5 * 5.5)
    write_series(tmp_path, ramp(10), places=places)
    [name] = [
        path.name for path in tmp_path.iterdir() if dcmread(path).ImagePositionPatient[2] == 13.75
    ]
    [problem] = problems(tmp_path)
    assert "displaced" in problem
    assert name in problem


def test_a_file_that_ends_in_its_header_is_not_left_out_in_silence(tmp_path):
    last = write_series(tmp_path)[2]
    last.write_bytes(last.read_bytes()[:500])
    with pytest.warns(ScanWarning, match=f"{last.name}.*cut off"):
        find_scans(tmp_path)


def test_a_file_with_nothing_but_the_mark_is_damaged(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"\0" * 128 + b"DICM")
    [item] = list_series(tmp_path)
    assert item.is_scan
    assert "damaged" in item.problem


@pytest.mark.parametrize("spacing", ["0.8", ["0.8", "0.6", "1"]])
def test_a_pixel_size_of_other_than_two_numbers_is_called_so(tmp_path, spacing):
    write_series(tmp_path, ramp(1), edit=given(PixelSpacing=spacing))
    [problem] = problems(tmp_path)
    assert "numbers that are missing" in problem


# --- volumes of one series


def write_two(folder, change, **options):
    """Write two volumes with the same positions; ``change`` edits the dataset of each."""
    for volume in range(2):

        def edit(ds, index, volume=volume):
            ds.InstanceNumber = 10 * volume + index + 1
            change(ds, index, volume)

        write_series(
            folder,
            ramp(seed=volume),
            series="1.2.3",
            study="1.2",
            frame_of_reference="1.2.4",
            name=f"{volume}_{{:04d}}.dcm",
            edit=edit,
            **options,
        )


def test_echo_times_that_vary_a_little_do_not_divide_a_volume(tmp_path):
    def change(ds, index, volume):
        ds.EchoTime = f"{(2.3, 4.6)[volume] + 0.01 * (index % 2):.3f}"

    write_two(tmp_path, change, modality="MR")
    found = usable(tmp_path)
    assert [item.name.rsplit("_", 1)[1] for item in found] == ["echo-2.3", "echo-4.6"]
    assert {len(item.files) for item in found} == {6}


@pytest.mark.parametrize(
    ("keyword", "values"), [("ConvolutionKernel", ("B30f", "B70f")), ("KVP", ("80", "140"))]
)
def test_reconstructions_between_each_other_are_not_one_volume(tmp_path, keyword, values):
    def change(ds, index, volume):
        setattr(ds, keyword, values[volume])
        ds.ImagePositionPatient = [0, 0, 2.5 * index + 1.25 * volume]

    write_two(tmp_path, change)
    found = usable(tmp_path)
    assert [len(item.files) for item in found] == [6, 6]
    for item in found:
        assert len({str(dcmread(path)[keyword].value) for path in item.files}) == 1


@pytest.mark.parametrize(
    "attributes",
    [
        ({"StudyInstanceUID": "1.2.1"}, {"StudyInstanceUID": "1.2.2"}),
        (
            {"PatientID": "ANON", "PatientName": "A^B"},
            {"PatientID": "ANON", "PatientName": "C^D"},
        ),
    ],
)
def test_persons_and_studies_with_one_series_uid_are_not_joined(tmp_path, attributes):
    """The images of one would continue those of the other."""

    def change(ds, index, volume):
        ds.ImagePositionPatient = [0, 0, 2.5 * (index + 6 * volume)]
        for keyword, value in attributes[volume].items():
            setattr(ds, keyword, value)

    write_two(tmp_path, change)
    found = usable(tmp_path)
    assert [len(item.files) for item in found] == [6, 6]
    assert len({item.name for item in found}) == 2
    assert not any(item.notes for item in found)


@pytest.mark.parametrize("timed", [False, True])
def test_volumes_with_the_same_empty_images_are_told_apart(tmp_path, timed):
    def change(ds, index, volume):
        if index in (0, 5):
            ds.PixelData = bytes(len(ds.PixelData))
        if timed:
            ds.AcquisitionTime = f"10{volume:02d}{index:02d}"

    write_two(tmp_path, change)
    found = usable(tmp_path)
    assert [len(item.files) for item in found] == [6, 6]
    for item in found:
        assert len({dcmread(path).InstanceNumber // 10 for path in item.files}) == 1


def test_volumes_with_descriptions_of_their_own_have_them_in_their_names(tmp_path):
    def change(ds, index, volume):
        ds.SeriesDescription = ("Arterial", "Venous")[volume]

    write_two(tmp_path, change)
    for item in usable(tmp_path):
        [description] = {dcmread(path).SeriesDescription for path in item.files}
        assert f"_{description}_" in item.name


def test_scan_options_tell_volumes_apart(tmp_path):
    def change(ds, index, volume):
        ds.ScanOptions = ("FAST_GEMS", "WATER") if volume else ("FAST_GEMS", "FAT")

    write_two(tmp_path, change, modality="MR")
    names = [item.name.rsplit("_", 1)[1] for item in usable(tmp_path)]
    assert names == ["option-FAT", "option-WATER"]


def test_several_frames_of_reference_are_said(tmp_path):
    def edit(ds, index):
        ds.FrameOfReferenceUID = f"1.2.{index // 3}"

    write_series(tmp_path, edit=edit)
    found = usable(tmp_path)
    assert len(found) == 2
    assert all("2 frames of reference" in " ".join(item.notes) for item in found)


# --- values


@pytest.mark.parametrize("intercept", [None, ""])
def test_ct_without_rescaling_may_not_be_hu(tmp_path, intercept):
    write_series(tmp_path, edit=given(RescaleIntercept=intercept))
    [item] = usable(tmp_path)
    assert "may not be HU" in " ".join(item.notes)


def test_mr_without_rescaling_is_in_no_doubt(tmp_path):
    write_series(tmp_path, modality="MR", edit=given(RescaleIntercept=None, RescaleSlope=None))
    [item] = usable(tmp_path)
    assert item.notes == ()


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_slices_with_and_without_rescaling_are_not_mixed(tmp_path, modality):
    def edit(ds, index):
        if index == 2:
            del ds.RescaleIntercept

    write_series(tmp_path, edit=edit, modality=modality)
    [problem] = problems(tmp_path)
    assert "rescale intercept" in problem


def test_a_rescaling_that_changes_nothing_may_be_left_out(tmp_path):
    def edit(ds, index):
        if index == 2:
            del ds.RescaleIntercept

    write_series(tmp_path, edit=edit, modality="MR", intercept=0.0)
    [item] = usable(tmp_path)
    assert item.notes == ()


def test_a_rescale_slope_of_zero_is_no_matter_of_place(tmp_path):
    write_series(tmp_path, ramp(1), slope=0.0)
    [problem] = problems(tmp_path)
    assert "slope of zero" in problem
    assert "place" not in problem


def test_one_inverted_image_is_said(tmp_path):
    def edit(ds, index):
        if index == 2:
            ds.PhotometricInterpretation = "MONOCHROME1"

    write_series(tmp_path, edit=edit)
    [item] = usable(tmp_path)
    assert "1 of its 6 headers" in " ".join(item.notes)
